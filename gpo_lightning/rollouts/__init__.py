"""What the policy tried for each problem: the rollout tree, a problem's road to it, and the loop that walks all roads.

Samples, probes, resets and values live in the tree and nowhere else. Nothing here trains, and nothing knows Lightning.
"""

from gpo_lightning.rollouts.branches import Branches
from gpo_lightning.rollouts.loop import RolloutLoop, Rollouts
from gpo_lightning.rollouts.named import NamedMistake
from gpo_lightning.rollouts.occupancy import Occupancy
from gpo_lightning.rollouts.parquet import TreeWriter, read_trees, write_trees
from gpo_lightning.rollouts.plan import RolloutPlan
from gpo_lightning.rollouts.progress import Progress, ProgressListener
from gpo_lightning.rollouts.ranks import gather
from gpo_lightning.rollouts.starts import Critical, FirstMistake, Frontier, PromptOnly, frontier_depth
from gpo_lightning.rollouts.tree import RolloutTree, Sample

__all__ = [
    "Branches",
    "Critical",
    "FirstMistake",
    "Frontier",
    "NamedMistake",
    "Occupancy",
    "Progress",
    "ProgressListener",
    "PromptOnly",
    "RolloutLoop",
    "RolloutPlan",
    "RolloutTree",
    "Rollouts",
    "Sample",
    "TreeWriter",
    "frontier_depth",
    "gather",
    "read_trees",
    "write_trees",
]
