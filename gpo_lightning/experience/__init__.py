"""What the loss reads: from rollout trees to examples, from examples to batches.

Responses with advantages, preference pairs, labelled responses and demonstrations; nothing here computes a loss or
calls the policy.
"""

from gpo_lightning.experience.advantages import AdvantageEstimator, GroupMean, LeaveOneOut, NoBaseline
from gpo_lightning.experience.best_of import BestOf
from gpo_lightning.experience.builder import ExperienceBuilder
from gpo_lightning.experience.credit import FromCriticalStep, Outcome, Segments, Siblings
from gpo_lightning.experience.demonstration import Demonstrations, RightResponses
from gpo_lightning.experience.example import Batch, Row, Rows, Scores
from gpo_lightning.experience.labelled import LabelledResponses, MismatchedResponses
from gpo_lightning.experience.overlong import MaskTruncated, SoftPunishment
from gpo_lightning.experience.policy_gradient import PolicyGradient
from gpo_lightning.experience.preference import PreferencePairs
from gpo_lightning.experience.valued_steps import ValuedSteps

__all__ = [
    "AdvantageEstimator",
    "Batch",
    "BestOf",
    "Demonstrations",
    "ExperienceBuilder",
    "FromCriticalStep",
    "GroupMean",
    "LabelledResponses",
    "LeaveOneOut",
    "MaskTruncated",
    "MismatchedResponses",
    "NoBaseline",
    "Outcome",
    "PolicyGradient",
    "PreferencePairs",
    "RightResponses",
    "Row",
    "Rows",
    "Scores",
    "Segments",
    "Siblings",
    "SoftPunishment",
    "ValuedSteps",
]
