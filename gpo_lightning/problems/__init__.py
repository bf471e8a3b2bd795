"""Where questions come from. A source gives training and held-out problems and the grader that can judge them.

Nothing here generates, and only `prompting` knows a tokenizer.
"""

from gpo_lightning.problems.chain_sum import ChainSum
from gpo_lightning.problems.labelled import LabelledSource, LabelledTrajectory, PlantedErrors
from gpo_lightning.problems.leg_counting import LegCounting
from gpo_lightning.problems.modular_chains import ModularChains
from gpo_lightning.problems.problem import Message, Problem, ProblemSource
from gpo_lightning.problems.prompting import encode_prompt, encode_solution, encode_steps
from gpo_lightning.problems.reasoning_gym import ReasoningGym

__all__ = [
    "ChainSum",
    "LabelledSource",
    "LabelledTrajectory",
    "LegCounting",
    "Message",
    "ModularChains",
    "PlantedErrors",
    "Problem",
    "ProblemSource",
    "ReasoningGym",
    "encode_prompt",
    "encode_solution",
    "encode_steps",
]
