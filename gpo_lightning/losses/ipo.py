"""IPO: a finite target for the margin, so that noiseless pairs cannot overfit (Azar et al. 2023, arXiv 2310.12036).

A finite target for the margin, so that pairs without noise cannot be fitted ever harder.

    D = mean_t (lp_t - ref_t) of the chosen - mean_t (lp_t - ref_t) of the rejected      [per_token: false: sums]
    l = (D - 1 / (2 beta))^2
    L = 1/P sum l

Reads `PreferencePairs` and the reference policy, as [DPO](dpo.md).

**What differs elsewhere.**

* trl 1.16 takes log-ratios a token, so that `beta` means the same at every length. We follow it.
* The paper and OpenRLHF take sums: `per_token: false`. A `beta` does not carry over from one to the other.

**When to use it.** Where the labels are certain, as with exact graders, and DPO overfits them. With means and `beta`
0.1 the target is 5 nats a token, which is far: a larger `beta` regularises more.

**With resets.** With sums the shared prefix cancels. With means it does not, since the sides differ in length; it
carries no loss by default (`data.experience.prefix_loss`).
"""

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
