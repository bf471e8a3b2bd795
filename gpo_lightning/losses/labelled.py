"""What losses of single labelled responses have in common: right and wrong ones, each with a weight of its own."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, cast

from torch import Tensor

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import Batch, ExperienceBuilder, LabelledResponses, Scores
from gpo_lightning.experience.example import Example
from gpo_lightning.experience.labelled import LabelledBatch
from gpo_lightning.losses.loss import Loss, LossTerms


@dataclass(frozen=True)
class LabelledLoss(Loss):
    """A mean over responses; a named algorithm says what a response's loss is.

    Args:
        beta: inverse temperature of the implicit reward.
        desirable_weight: of right responses.
        undesirable_weight: of wrong ones; weights that balance the classes keep the common one from winning.
    """

    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    experience: ClassVar[type[ExperienceBuilder]] = LabelledResponses

    def __post_init__(self) -> None:
        if not 0 < self.beta < float("inf"):
            raise ConfigError(f"model.loss ({type(self).__name__}): beta is {self.beta}; it must be positive.")
        if not (self.desirable_weight >= 0 and self.undesirable_weight >= 0):
            raise ConfigError(
                f"model.loss ({type(self).__name__}): desirable_weight is {self.desirable_weight} and "
                f"undesirable_weight {self.undesirable_weight}; neither may be negative."
            )

    @property
    def needs_reference(self) -> bool:
        return True

    @abstractmethod
    def response_losses(self, drift: Tensor, right: Tensor, divergence: Tensor) -> Tensor:
        """``[N]`` losses.

        Args:
            drift: ``[N]`` summed log-ratio to the reference.
            right: ``[N]`` whether the response is right.
            divergence: scalar, see ``Scores.divergence``; 0 where there is none.
        """

    def weights(self, example: Example) -> tuple[float, ...]:
        return (1.0,)

    def __call__(self, scores: Scores, batch: Batch) -> LossTerms:
        if scores.reference is None:
            raise ConfigError(f"model.loss ({type(self).__name__}) reads a reference policy.")
        mask = batch.rows.loss_mask
        real = mask.sum(-1) > 0
        drift = ((scores.logprobs - scores.reference) * mask).sum(-1)[real]
        right = cast(LabelledBatch, batch).right[real]
        divergence = drift.new_zeros(()) if scores.divergence is None else scores.divergence.to(drift.dtype)
        weights = right * self.desirable_weight + ~right * self.undesirable_weight
        losses = self.response_losses(drift, right, divergence) * weights
        rewards = self.beta * drift.detach()
        metrics = {
            "right_reward": (rewards * right).sum() / right.sum().clamp(min=1),
            "wrong_reward": (rewards * ~right).sum() / (~right).sum().clamp(min=1),
            "divergence": divergence.detach(),
        }
        return LossTerms((losses.sum(),), metrics)
