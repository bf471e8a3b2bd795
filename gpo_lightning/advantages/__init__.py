"""How much better than expected: from the rewards in a tree to advantages. Pure numbers, no tensors of the policy."""

from gpo_lightning.advantages.group import AdvantageEstimator, GroupMean, LeaveOneOut

__all__ = ["AdvantageEstimator", "GroupMean", "LeaveOneOut"]
