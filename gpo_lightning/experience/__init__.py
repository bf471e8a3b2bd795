"""What the loss reads: from rollout trees to examples, from examples to batches.

Policy-gradient groups, preference pairs and demonstrations; nothing here computes a loss or calls the policy.
"""

from gpo_lightning.experience.builder import ExperienceBuilder
from gpo_lightning.experience.demonstration import Demonstration, Demonstrations, solution_trees
from gpo_lightning.experience.example import Batch, Example, Row, Rows
from gpo_lightning.experience.groups import Group, Start, groups
from gpo_lightning.experience.policy_gradient import ActionBatch, ActionExample, PolicyGradient
from gpo_lightning.experience.preference import PairBatch, PairExample, PreferencePairs
from gpo_lightning.experience.schedule import MicroBatch, schedule

__all__ = [
    "ActionBatch",
    "ActionExample",
    "Batch",
    "Demonstration",
    "Demonstrations",
    "Example",
    "ExperienceBuilder",
    "Group",
    "MicroBatch",
    "PairBatch",
    "PairExample",
    "PolicyGradient",
    "PreferencePairs",
    "Row",
    "Rows",
    "Start",
    "groups",
    "schedule",
    "solution_trees",
]
