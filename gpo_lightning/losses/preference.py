"""What losses of pairs have in common: the two sides of each pair, and means over pairs."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import Batch, ExperienceBuilder, PreferencePairs, Scores
from gpo_lightning.experience.example import Example
from gpo_lightning.losses.loss import Loss, LossTerms


@dataclass(frozen=True)
class Side:
    """The chosen, or the rejected, responses of a batch's pairs.

    Args:
        logprobs: ``[P]`` summed log-probability of each response.
        tokens: ``[P]`` its length.
        reference: ``[P]`` as ``logprobs``, by the reference policy; zeros for losses that read none.
    """

    logprobs: Tensor
    tokens: Tensor
    reference: Tensor

    @property
    def drift(self) -> Tensor:
        """``[P]`` log-ratio to the reference: the implicit reward, before it is scaled."""
        return self.logprobs - self.reference

    @property
    def mean_logprobs(self) -> Tensor:
        """``[P]`` mean log-probability of a token."""
        return self.logprobs / self.tokens.clamp(min=1)

    @property
    def mean_drift(self) -> Tensor:
        """``[P]`` mean log-ratio of a token."""
        return self.drift / self.tokens.clamp(min=1)


@dataclass(frozen=True)
class PreferenceLoss(Loss):
    """A mean over pairs; a named algorithm says what a pair's loss is."""

    experience: ClassVar[type[ExperienceBuilder]] = PreferencePairs

    @abstractmethod
    def pair_losses(self, chosen: Side, rejected: Side) -> Tensor:
        """``[P]`` losses."""

    def pair_rewards(self, side: Side) -> Tensor:
        """``[P]`` implicit rewards, for the logs."""
        return side.drift

    def weights(self, example: Example) -> tuple[float, ...]:
        return (1.0,)

    def __call__(self, scores: Scores, batch: Batch) -> LossTerms:
        chosen, rejected = self.sides(scores, batch)
        losses = self.pair_losses(chosen, rejected)
        margins = (self.pair_rewards(chosen) - self.pair_rewards(rejected)).detach()
        pairs = max(len(margins), 1)
        metrics = {
            "pair_accuracy": (margins > 0).to(margins.dtype).sum() / pairs,
            "margin": margins.sum() / pairs,
            "chosen_logprob": chosen.mean_logprobs.detach().sum() / pairs,
            "rejected_logprob": rejected.mean_logprobs.detach().sum() / pairs,
        }
        return LossTerms((losses.sum(),), metrics)

    def sides(self, scores: Scores, batch: Batch) -> tuple[Side, Side]:
        """Both sides of the batch's pairs, without those that only pad it."""
        if self.needs_reference and scores.reference is None:
            raise ConfigError(f"model.loss ({type(self).__name__}) reads a reference policy.")
        mask = batch.rows.loss_mask
        tokens = mask.sum(-1)
        logprobs = (scores.logprobs * mask).sum(-1)
        reference = torch.zeros_like(logprobs) if scores.reference is None else (scores.reference * mask).sum(-1)
        real = tokens.chunk(2)[0] + tokens.chunk(2)[1] > 0
        first, second = (
            Side(*(column.chunk(2)[half][real] for column in (logprobs, tokens, reference))) for half in range(2)
        )
        return first, second


def require_positive_beta(loss: PreferenceLoss, beta: float) -> None:
    """Refuse an inverse temperature that is not a positive number."""
    if not 0 < beta < float("inf"):
        raise ConfigError(f"model.loss ({type(loss).__name__}): beta is {beta}; it must be positive.")


def require_smoothing(loss: PreferenceLoss, label_smoothing: float) -> None:
    """Refuse a chance of a flipped label that is none, or leaves nothing to learn."""
    if not 0 <= label_smoothing < 0.5:
        raise ConfigError(
            f"model.loss ({type(loss).__name__}): label_smoothing is {label_smoothing}; it must lie in [0, 0.5)."
        )
