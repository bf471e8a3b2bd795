"""What the loss reads: from rollout trees to examples, from examples to batches.

Responses with advantages, preference pairs, labelled responses and demonstrations; nothing here computes a loss or
calls the policy.
"""

from gpo_lightning.experience.actions import ActionBatch, ActionExample, ActionExperience
from gpo_lightning.experience.advantages import AdvantageEstimator, GroupMean, LeaveOneOut, NoBaseline
from gpo_lightning.experience.best_of import BestOf
from gpo_lightning.experience.builder import ExperienceBuilder
from gpo_lightning.experience.credit import Credit, FromCriticalStep, Outcome, Segments, Siblings
from gpo_lightning.experience.demonstration import Demonstration, Demonstrations, RightResponses, solution_trees
from gpo_lightning.experience.example import Batch, Example, Row, Rows, Scores
from gpo_lightning.experience.groups import Group, Start, groups
from gpo_lightning.experience.labelled import LabelledBatch, LabelledExample, LabelledResponses, MismatchedResponses
from gpo_lightning.experience.overlong import MaskTruncated, Overlong, SoftPunishment
from gpo_lightning.experience.policy_gradient import PolicyGradient
from gpo_lightning.experience.preference import PairBatch, PairExample, PreferencePairs
from gpo_lightning.experience.schedule import MicroBatch, ReduceSum, schedule
from gpo_lightning.experience.valued_steps import ValuedSteps

__all__ = [
    "ActionBatch",
    "ActionExample",
    "ActionExperience",
    "AdvantageEstimator",
    "Batch",
    "BestOf",
    "Credit",
    "Demonstration",
    "Demonstrations",
    "Example",
    "ExperienceBuilder",
    "FromCriticalStep",
    "Group",
    "GroupMean",
    "LabelledBatch",
    "LabelledExample",
    "LabelledResponses",
    "LeaveOneOut",
    "MaskTruncated",
    "MicroBatch",
    "MismatchedResponses",
    "NoBaseline",
    "Outcome",
    "Overlong",
    "PairBatch",
    "PairExample",
    "PolicyGradient",
    "PreferencePairs",
    "ReduceSum",
    "RightResponses",
    "Row",
    "Rows",
    "Scores",
    "Segments",
    "Siblings",
    "SoftPunishment",
    "Start",
    "ValuedSteps",
    "groups",
    "schedule",
    "solution_trees",
]
