"""How much better than expected: from rewards to advantages, a response or a token at a time. Knows no policy."""

from gpo_lightning.experience.advantages.group import AdvantageEstimator, GroupMean, LeaveOneOut, NoBaseline
from gpo_lightning.experience.advantages.tokens import generalised_advantages, returns_to_go, whiten

__all__ = [
    "AdvantageEstimator",
    "GroupMean",
    "LeaveOneOut",
    "NoBaseline",
    "generalised_advantages",
    "returns_to_go",
    "whiten",
]
