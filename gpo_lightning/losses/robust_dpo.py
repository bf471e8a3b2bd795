"""Robust DPO: unbiased where labels are flipped with a known chance (Chowdhury et al. 2024, arXiv 2403.00409).

    D = sum_t (lp_t - ref_t) of the chosen - sum_t (lp_t - ref_t) of the rejected
    l = (-(1 - e) log sigmoid(beta D) + e log sigmoid(-beta D)) / (1 - 2 e)      e = label_smoothing
    L = 1/P sum l

Reads `PreferencePairs` and the reference policy, as [DPO](dpo.md).

**What differs elsewhere.**

* trl 1.16's `robust` is the same. There `label_smoothing` is 0 by default, which is DPO.
* cDPO adds the flipped term where this takes it away: see [DPO](dpo.md#cdpo).

**When to use it.** Where the grader errs at a rate you know, a matcher of final answers that accepts lucky ones say.
With an exact grader use DPO: this loss has no lower bound for e > 0, and pushes pairs apart harder than DPO does.

**With resets.** The shared prefix cancels in D.
"""

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
