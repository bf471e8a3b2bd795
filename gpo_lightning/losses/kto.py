"""KTO: right or wrong, each response by itself, weighed as people weigh gains and losses (Ethayarajh et al. 2024)."""

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
