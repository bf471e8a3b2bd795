"""APO: each side pushed where it should go, not only apart (D'Oosterlinck et al. 2024, arXiv 2408.06266).

Says for each side where it should go, not only that they should part.

    c, w = sum_t (lp_t - ref_t) of the chosen, of the rejected;  h = the same of a single response

    APOZero          l = 1 - sigmoid(beta c) + sigmoid(beta w)
    APODown          l = sigmoid(beta c) + 1 - sigmoid(beta (c - w))
                     L = 1/P sum l

    APOZeroUnpaired  l = desirable_weight (1 - sigmoid(beta h))            right response
                     l = undesirable_weight sigmoid(beta h)                  wrong response
                     L = 1/N sum l

`APOZero` and `APODown` read `PreferencePairs`, `APOZeroUnpaired` reads `LabelledResponses`; all read the reference
policy.

**What differs elsewhere.**

* trl 1.16's `apo_zero` and `apo_down` of DPO and `apo_zero_unpaired` of KTO are the same.

**When to use it.** `APOZero` where chosen responses are better than what the policy says by itself: it holds them up,
which DPO does not. `APODown` where they are worse. Pairs drawn by the policy itself and graded right or wrong are the
first case. The unpaired form also learns from groups that are all right or all wrong. Once beta c is far from 0, the
sigmoid's gradient fades.

**With resets.** The shared prefix cancels in `APODown`'s sigmoid(beta (c - w)) alone. It carries no loss by default;
`data.experience.prefix_loss` switches that.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gpo_lightning.experience import ExperienceBuilder, LabelledResponses
from gpo_lightning.losses.dpo import ReferencedPreferenceLoss
from gpo_lightning.losses.labelled import LabelledLoss
from gpo_lightning.losses.preference import Side


@dataclass(frozen=True)
class APOZero(ReferencedPreferenceLoss):
    """1 - sigmoid(beta chosen) + sigmoid(beta rejected): chosen up, rejected down (trl 1.16's ``apo_zero``).

    For chosen responses better than what the policy says by itself.

    Args:
        beta: inverse temperature of the implicit reward.
    """

    def pair_losses(self, chosen: Side, rejected: Side) -> Tensor:
        return 1 - (self.beta * chosen.drift).sigmoid() + (self.beta * rejected.drift).sigmoid()


@dataclass(frozen=True)
class APODown(ReferencedPreferenceLoss):
    """sigmoid(beta chosen) + 1 - sigmoid(beta (chosen - rejected)): both down, rejected more (trl's ``apo_down``).

    For chosen responses worse than what the policy says by itself.

    Args:
        beta: inverse temperature of the implicit reward.
    """

    def pair_losses(self, chosen: Side, rejected: Side) -> Tensor:
        apart = self.beta * (chosen.drift - rejected.drift)
        return (self.beta * chosen.drift).sigmoid() + 1 - apart.sigmoid()


@dataclass(frozen=True)
class APOZeroUnpaired(LabelledLoss):
    """1 - sigmoid(beta h) for a right response, sigmoid(beta h) for a wrong one (trl's ``apo_zero_unpaired``).

    Args:
        beta: inverse temperature of the implicit reward.
        desirable_weight: of right responses.
        undesirable_weight: of wrong ones.
    """

    experience: ClassVar[type[ExperienceBuilder]] = LabelledResponses

    def response_losses(self, drift: Tensor, right: Tensor, divergence: Tensor) -> Tensor:
        liked = (self.beta * drift).sigmoid()
        return (1 - liked).where(right, liked)
