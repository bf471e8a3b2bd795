"""Hinge DPO: a margin instead of a probability (SLiC, Zhao et al. 2023, arXiv 2305.10425).

A margin instead of a probability: pairs told apart by it teach nothing more. The loss of SLiC, , on DPO's log-ratios.

    D = sum_t (lp_t - ref_t) of the chosen - sum_t (lp_t - ref_t) of the rejected
    l = max(0, 1 - beta D)
    L = 1/P sum l

Reads `PreferencePairs` and the reference policy, as [DPO](dpo.md).

**What differs elsewhere.**

* trl 1.16's `hinge` is the same.
* SLiC itself compares log-probabilities without a reference and adds a likelihood term; trl's `hinge` of CPO is near
  to that and is not offered.

**When to use it.** Where DPO goes on pushing pairs that are settled, and a hard stop is wanted. Every unsettled pair
has the same gradient, however wrong it is; for a target instead of a stop see [IPO](ipo.md).

**With resets.** The shared prefix cancels in D.
"""

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
