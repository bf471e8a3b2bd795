"""DPO: the policy's own log-ratio as an implicit reward (Rafailov et al. 2023, arXiv 2305.18290)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import Batch, Example, ExperienceBuilder, PreferencePairs
from gpo_lightning.losses.loss import Loss, LossTerms, Scores


def dpo_loss(margins: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """-(1 - e) log sigmoid(beta margin) - e log sigmoid(-beta margin), per pair; e > 0 is the conservative form.

    Args:
        margins: ``[P]`` (log pi - log ref) of the chosen response less that of the rejected one.
        beta: inverse temperature of the implicit reward.
        label_smoothing: chance e that a label is flipped.
    """
    logits = beta * margins
    return -(1 - label_smoothing) * logsigmoid(logits) - label_smoothing * logsigmoid(-logits)


@dataclass(frozen=True)
class DPO(Loss):
    """Mean over pairs of the sigmoid loss on summed log-probabilities, as trl 1.16's ``sigmoid``.

    On pairs that share a critical prefix the prefix cancels, and the loss is equivalent to advantage-weighted
    reinforcement learning (METHOD, theorem 5.3).

    Args:
        beta: inverse temperature of the implicit reward.
        label_smoothing: chance that a label is flipped (cDPO).
    """

    beta: float = 0.1
    label_smoothing: float = 0.0
    experience: ClassVar[type[ExperienceBuilder]] = PreferencePairs

    def __post_init__(self) -> None:
        if self.beta <= 0 or not 0 <= self.label_smoothing < 0.5:
            raise ConfigError("model.loss (DPO): beta must be positive, label_smoothing must lie in [0, 0.5).")

    @property
    def needs_reference(self) -> bool:
        return True

    def weight(self, example: Example) -> float:
        return 1.0

    def __call__(self, scores: Scores, batch: Batch) -> LossTerms:
        if scores.reference is None:
            raise ConfigError("model.loss (DPO) reads a reference policy.")
        rewards = ((scores.logprobs - scores.reference) * batch.rows.mask).sum(-1)  # [2P]
        chosen, rejected = rewards.chunk(2)
        real = batch.rows.mask.sum(-1).chunk(2)[0] > 0  # a padding pair carries no loss
        losses = dpo_loss(chosen - rejected, self.beta, self.label_smoothing) * real
        metrics = {
            "pair_accuracy": ((chosen > rejected) & real).sum() / real.sum().clamp(min=1),
            "margin": self.beta * ((chosen - rejected).detach() * real).sum() / real.sum().clamp(min=1),
        }
        return LossTerms(losses.sum(), metrics)
