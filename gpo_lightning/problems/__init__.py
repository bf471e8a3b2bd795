"""Where questions come from. A source gives training and held-out problems and the grader that can judge them.

Nothing here generates, and only `prompting` knows a tokenizer.
"""

from gpo_lightning.problems.aime import AIME
from gpo_lightning.problems.bbh import BBH
from gpo_lightning.problems.big_bench_mistake import BigBenchMistake
from gpo_lightning.problems.carry_addition import CarryAddition
from gpo_lightning.problems.chain_sum import ChainSum
from gpo_lightning.problems.checked import Checked, Step
from gpo_lightning.problems.competition_math import MATH, MATH500
from gpo_lightning.problems.decontaminated import Decontaminated
from gpo_lightning.problems.gsm8k import GSM8K
from gpo_lightning.problems.labelled import LabelledSource, LabelledTrajectory, PlantedErrors
from gpo_lightning.problems.ledger import Ledger
from gpo_lightning.problems.leg_counting import LegCounting
from gpo_lightning.problems.mixture import Mixture
from gpo_lightning.problems.mmlu import MMLU
from gpo_lightning.problems.mmlu_pro import MMLUPro
from gpo_lightning.problems.modular_chains import ModularChains
from gpo_lightning.problems.parities import Parities
from gpo_lightning.problems.path_star import PathStar
from gpo_lightning.problems.problem import Message, Problem, ProblemSource, Response
from gpo_lightning.problems.process_bench import ProcessBench
from gpo_lightning.problems.prompt_check import PromptCheck
from gpo_lightning.problems.prompt_styles import Chat, Plain, Prompting
from gpo_lightning.problems.prompting import encode_prompt, encode_solution, encode_steps, turn_end
from gpo_lightning.problems.reasoning_gym import ReasoningGym
from gpo_lightning.problems.rewarded import Rewarded, judged
from gpo_lightning.problems.rows import Rows, problem_source
from gpo_lightning.problems.table import Columns, Table

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
    "Checked",
    "Columns",
    "Decontaminated",
    "LabelledSource",
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
    "PromptCheck",
    "Prompting",
    "ReasoningGym",
    "Response",
    "Rewarded",
    "Rows",
    "Step",
    "Table",
    "encode_prompt",
    "encode_solution",
    "encode_steps",
    "judged",
    "problem_source",
    "turn_end",
]
