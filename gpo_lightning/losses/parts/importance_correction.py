"""Train-inference mismatch: the engine draws from slightly other probabilities than the trainer computes.

With a correction, ratios are taken against the trainer's own log-probabilities at the start of the iteration, and what
lies between those and the engine's is made good by an importance weight, cut so that no single token can dominate
(Yao et al. 2025; trl's ``vllm_importance_sampling_correction``). Without one, ratios are taken against the engine's
log-probabilities directly, and the surrogate's own cut bounds both gaps together.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gpo_lightning.errors import ConfigError
from gpo_lightning.losses.loss import masked_mean

_LIMIT = 20.0
"""Largest log-weight; beyond it the exponential would soon overflow."""


class ImportanceCorrection(ABC):
    """Weighs each token by how much likelier the trainer finds it than the engine that drew it."""

    @abstractmethod
    def weights(self, trainer: Tensor, engine: Tensor, mask: Tensor) -> Tensor:
        """``[R, T]`` weights.

        Args:
            trainer: ``[R, T]`` log-probabilities by the policy as the iteration began.
            engine: ``[R, T]`` rollout log-probs.
            mask: ``[R, T]``.
        """

    @abstractmethod
    def statistics(self, trainer: Tensor, engine: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """How large the mismatch is, and how much of it the correction leaves out."""


@dataclass(frozen=True)
class _BoundedWeights(ImportanceCorrection):
    """Weights exp(trainer - engine), one a token or one a response, cut at ``cap`` and ``floor``."""

    level: Literal["token", "sequence"] = "token"
    cap: float = 2.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.floor < self.cap:
            raise ConfigError(
                f"model.loss.importance_correction: floor is {self.floor} and cap {self.cap}; "
                "0 <= floor < cap is needed."
            )

    def weights(self, trainer: Tensor, engine: Tensor, mask: Tensor) -> Tensor:
        return self.cut(self._raw(_gap(trainer, engine, mask)))

    def statistics(self, trainer: Tensor, engine: Tensor, mask: Tensor) -> dict[str, Tensor]:
        gap = _gap(trainer, engine, mask)
        raw = self._raw(gap)
        return {
            "mismatch_kl": masked_mean(torch.expm1(gap) - gap, mask),
            "mismatch_max": gap.abs().max(),
            "mismatch_weight": masked_mean(raw, mask),
            "mismatch_cut": masked_mean(self.beyond(raw).to(mask.dtype), mask),
        }

    def _raw(self, gap: Tensor) -> Tensor:
        if self.level == "sequence":
            gap = gap.sum(-1, keepdim=True).expand_as(gap)
        return gap.clamp(-_LIMIT, _LIMIT).exp()

    def beyond(self, weights: Tensor) -> Tensor:
        """Whether each weight lies outside the bounds."""
        return (weights > self.cap) | (weights < self.floor)

    @abstractmethod
    def cut(self, weights: Tensor) -> Tensor:
        """What becomes of weights beyond the bounds."""


@dataclass(frozen=True)
class TruncatedWeights(_BoundedWeights):
    """Weights beyond a bound count as the bound (truncated importance sampling): little variance, a little bias.

    Args:
        level: ``token``, or ``sequence``: the weight of the whole response, the product of its tokens'.
        cap: largest weight.
        floor: smallest weight.
    """

    def cut(self, weights: Tensor) -> Tensor:
        return weights.clamp(self.floor, self.cap)


@dataclass(frozen=True)
class MaskedWeights(_BoundedWeights):
    """Tokens or responses whose weight is beyond the bounds are not learnt from.

    Args:
        level: ``token``, or ``sequence``: the weight of the whole response, the product of its tokens'.
        cap: largest weight.
        floor: smallest weight.
    """

    def cut(self, weights: Tensor) -> Tensor:
        return weights.masked_fill(self.beyond(weights), 0.0)


def _gap(trainer: Tensor, engine: Tensor, mask: Tensor) -> Tensor:
    """``[R, T]`` log-weights; 0 outside the mask, and where the engine's log-probability is not known (NaN)."""
    return torch.where((mask > 0) & ~engine.isnan(), trainer - engine, 0.0)
