"""Where questions come from. A source gives training and held-out problems and the grader that can judge them.

Nothing here generates, and only `prompting` knows a tokenizer.
"""

from gpo_lightning.problems.aime import AIME
from gpo_lightning.problems.bbh import BBH
from gpo_lightning.problems.big_bench_mistake import BigBenchMistake
from gpo_lightning.problems.carry_addition import CarryAddition
from gpo_lightning.problems.chain_sum import ChainSum
from gpo_lightning.problems.competition_math import MATH, MATH500
from gpo_lightning.problems.decontaminated import Decontaminated
from gpo_lightning.problems.gsm8k import GSM8K
from gpo_lightning.problems.labelled import LabelledTrajectory, PlantedErrors
from gpo_lightning.problems.ledger import Ledger
from gpo_lightning.problems.leg_counting import LegCounting
from gpo_lightning.problems.mixture import Mixture
from gpo_lightning.problems.mmlu import MMLU
from gpo_lightning.problems.mmlu_pro import MMLUPro
from gpo_lightning.problems.modular_chains import ModularChains
from gpo_lightning.problems.parities import Parities
from gpo_lightning.problems.path_star import PathStar
from gpo_lightning.problems.problem import Message, Problem, ProblemSource
from gpo_lightning.problems.process_bench import ProcessBench
from gpo_lightning.problems.prompt_styles import Chat, Plain
from gpo_lightning.problems.reasoning_gym import ReasoningGym
from gpo_lightning.problems.rewarded import Rewarded
from gpo_lightning.problems.rows import Rows
from gpo_lightning.problems.table import Columns, Table
from gpo_lightning.problems.transcripts import TranscriptColumns, Transcripts

__all__ = [
    "AIME",
    "BBH",
    "GSM8K",
    "MATH",
    "MATH500",
    "MMLU",
    "BigBenchMistake",
    "CarryAddition",
    "ChainSum",
    "Chat",
    "Columns",
    "Decontaminated",
    "LabelledTrajectory",
    "Ledger",
    "LegCounting",
    "MMLUPro",
    "Message",
    "Mixture",
    "ModularChains",
    "Parities",
    "PathStar",
    "Plain",
    "PlantedErrors",
    "Problem",
    "ProblemSource",
    "ProcessBench",
    "ReasoningGym",
    "Rewarded",
    "Rows",
    "Table",
    "TranscriptColumns",
    "Transcripts",
]
