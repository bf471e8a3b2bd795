"""KTO: right or wrong, each response by itself, weighed as people weigh gains and losses (Ethayarajh et al. 2024).

Learns from single responses marked right or wrong, weighed as people weigh gains and losses.

    h = sum_t (lp_t - ref_t)
    z = max(0, mean of h over mismatched responses)                    of the optimiser step, all processes; no gradient
    l = desirable_weight (1 - sigmoid(beta (h - z)))                       right response
    l = undesirable_weight (1 - sigmoid(beta (z - h)))                       wrong response
    L = 1/N sum l

Reads `MismatchedResponses`: every distinct graded response with its label, and the same state followed by a response
to another problem, from which z is estimated. Reads the reference policy; the mismatched rows cost a further pass of
policy and reference before each optimiser step.

**What differs elsewhere.**

* The loss of a response, given z, is trl 1.16's.
* trl makes mismatched pairs by shifting responses one place within the batch of a device. In a batch of groups that
  mostly gives another response to the *same* problem. Here the other problem is certain, and z is the mean over the
  whole optimiser step. There is no switch back.
* An iteration with a single problem has no other one (count: `no_other_problem`); z is then 0.

**When to use it.** Where pairs are rare because most groups are all right or all wrong: no contrast is needed. If one
class is far more common, set the weights so that weight times number is about equal for both. Where pairs are plenty,
DPO says more about each.

**With resets.** There is no pair, so a prefix cancels nowhere; it carries no loss by default
(`data.experience.prefix_loss`). Resets shift the balance of right and wrong: behind a good prefix most responses are
right.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gpo_lightning.experience import ExperienceBuilder, MismatchedResponses
from gpo_lightning.losses.labelled import LabelledLoss


@dataclass(frozen=True)
class KTO(LabelledLoss):
    """1 - sigmoid(beta (h - z)) for a right response, 1 - sigmoid(beta (z - h)) for a wrong one (arXiv 2402.01306).

    h is the response's log-ratio to the reference, z how far the policy is from the reference in general: the mean
    log-ratio of responses to *other* problems, at least 0, without gradient. trl shifts responses by one place in the
    batch, which in a batch of groups mostly gives another response to the same problem, and needs two at least; here
    the other problem is certain (``MismatchedResponses``), and z is the mean over the whole optimiser step.

    Args:
        beta: inverse temperature of the implicit reward.
        desirable_weight: of right responses (the paper's lambda_D).
        undesirable_weight: of wrong ones (lambda_U).
    """

    experience: ClassVar[type[ExperienceBuilder]] = MismatchedResponses

    def response_losses(self, drift: Tensor, right: Tensor, divergence: Tensor) -> Tensor:
        above = self.beta * (drift - divergence.detach().clamp(min=0))
        return 1 - above.where(right, -above).sigmoid()
