"""What the policy tried for each problem, and what it was worth.

Samples, probes, resets and values live here and nowhere else. Nothing here generates or trains.
"""

from gpo_lightning.tree.parquet import read_trees, write_trees
from gpo_lightning.tree.rollout_tree import Curve, Node, RolloutTree, Sample

__all__ = ["Curve", "Node", "RolloutTree", "Sample", "read_trees", "write_trees"]
