"""Robust DPO: unbiased where labels are flipped with a known chance (Chowdhury et al. 2024, arXiv 2403.00409)."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from gpo_lightning.losses.dpo import ReferencedPreferenceLoss
from gpo_lightning.losses.preference import Side, require_positive_beta, require_smoothing


@dataclass(frozen=True)
class RobustDPO(ReferencedPreferenceLoss):
    """(-(1 - e) log sigmoid(x) + e log sigmoid(-x)) / (1 - 2 e), x = beta margin (trl 1.16's ``robust``).

    Args:
        beta: inverse temperature of the implicit reward.
        label_smoothing: chance e that a label is flipped, by a grader that errs say.
    """

    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        require_positive_beta(self, self.beta)
        require_smoothing(self, self.label_smoothing)

    def pair_losses(self, chosen: Side, rejected: Side) -> Tensor:
        logits, e = self.beta * (chosen.drift - rejected.drift), self.label_smoothing
        return (-(1 - e) * logsigmoid(logits) + e * logsigmoid(-logits)) / (1 - 2 * e)
