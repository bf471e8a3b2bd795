"""GRPO: the clipped surrogate with group-relative advantages (Shao et al. 2024, arXiv 2402.03300)."""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import ActionBatch, Batch, Example, ExperienceBuilder, PolicyGradient
from gpo_lightning.losses.loss import Loss, LossTerms, Scores, k3_divergence, masked_mean, sequence_mean


def clipped_surrogate(
    logprobs: Tensor, behaviour: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) with r = exp(logprobs - behaviour), per token.

    Args:
        logprobs: ``[R, T]`` with gradient.
        behaviour: ``[R, T]`` log-probabilities the tokens were drawn with.
        advantages: ``[R, T]``.
        clip_low: how far r may fall before it is cut.
        clip_high: how far r may rise.

    Returns:
        ``[R, T]`` losses, and ``[R, T]`` whether the cut took the gradient away.
    """
    ratio = torch.exp(logprobs - behaviour)
    free, cut = ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages
    return -torch.minimum(free, cut), (cut < free) & (advantages != 0)


@dataclass(frozen=True)
class GRPO(Loss):
    """Mean over responses of each response's token mean, as trl 1.16's ``loss_type="grpo"``.

    Args:
        clip_low: how far the probability ratio may fall below 1.
        clip_high: how far it may rise above 1.
        beta: weight of the KL to the reference policy; 0 computes no reference.
        kl_correction: weigh the KL by the probability ratio, which makes its gradient unbiased off-policy (trl's
            default since 1.16).
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    beta: float = 0.0
    kl_correction: bool = True
    experience: ClassVar[type[ExperienceBuilder]] = PolicyGradient
    reads_behaviour: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.clip_low < 1 or self.clip_high < 0 or self.beta < 0:
            raise ConfigError(
                "model.loss (GRPO): clip_low must lie in [0, 1), clip_high and beta must not be negative."
            )

    @property
    def needs_reference(self) -> bool:
        return self.beta > 0

    def weight(self, example: Example) -> float:
        return 1.0

    def __call__(self, scores: Scores, batch: Batch) -> LossTerms:
        batch = cast(ActionBatch, batch)
        mask, behaviour = batch.rows.mask, batch.rows.behaviour.to(scores.logprobs.dtype)
        advantages = batch.advantages.to(scores.logprobs.dtype)
        losses, clipped = clipped_surrogate(scores.logprobs, behaviour, advantages, self.clip_low, self.clip_high)
        drift = scores.logprobs.detach() - behaviour
        metrics = {
            "clip_fraction": masked_mean(clipped.to(mask.dtype), mask),
            "behaviour_kl": masked_mean(torch.expm1(drift) - drift, mask),
            "advantage_size": masked_mean(advantages.abs(), mask),
        }
        if scores.reference is not None:
            divergence = k3_divergence(scores.logprobs, scores.reference)
            metrics["reference_kl"] = masked_mean(divergence.detach(), mask)
            ratio = torch.exp(scores.logprobs - behaviour)
            losses = losses + self.beta * divergence * (ratio if self.kl_correction else 1.0)
        return LossTerms(sequence_mean(losses, mask).sum(), metrics)
