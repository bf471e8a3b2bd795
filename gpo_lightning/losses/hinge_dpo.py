"""Hinge DPO: a margin instead of a probability (SLiC, Zhao et al. 2023, arXiv 2305.10425)."""

from dataclasses import dataclass

from torch import Tensor

from gpo_lightning.losses.dpo import ReferencedPreferenceLoss
from gpo_lightning.losses.preference import Side


@dataclass(frozen=True)
class HingeDPO(ReferencedPreferenceLoss):
    """max(0, 1 - beta margin): pairs told apart by the margin teach nothing more (trl 1.16's ``hinge``).

    Args:
        beta: inverse of the margin in nats.
    """

    def pair_losses(self, chosen: Side, rejected: Side) -> Tensor:
        return (1 - self.beta * (chosen.drift - rejected.drift)).relu()
