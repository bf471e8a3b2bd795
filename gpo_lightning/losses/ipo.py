"""IPO: a finite target for the margin, so that noiseless pairs cannot overfit (Azar et al. 2023, arXiv 2310.12036)."""

from dataclasses import dataclass

from torch import Tensor

from gpo_lightning.losses.dpo import ReferencedPreferenceLoss
from gpo_lightning.losses.preference import Side


@dataclass(frozen=True)
class IPO(ReferencedPreferenceLoss):
    """(margin - 1 / (2 beta))^2.

    References differ in the margin: trl 1.16 takes log-ratios a token, so that beta means the same at every length;
    the paper and OpenRLHF take sums. We follow trl, and offer the other.

    Args:
        beta: regularisation; the target is 1 / (2 beta).
        per_token: margins of mean log-ratios (trl); false for summed ones (the paper, OpenRLHF).
    """

    per_token: bool = True

    def pair_losses(self, chosen: Side, rejected: Side) -> Tensor:
        margins = chosen.mean_drift - rejected.mean_drift if self.per_token else chosen.drift - rejected.drift
        return (margins - 1 / (2 * self.beta)) ** 2
