"""What is maximised of a token: its probability ratio and advantage, and where the ratio stops to count."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gpo_lightning.errors import ConfigError
from gpo_lightning.losses.loss import masked_mean

_TOKEN_LIMIT = 20.0
"""Largest log-ratio of a token, as in verl; beyond it the exponential would soon overflow."""


class Surrogate(ABC):
    """A probability ratio, and a token loss made of it and the advantage."""

    def ratio(self, logprobs: Tensor, old: Tensor, mask: Tensor) -> Tensor:
        """``[R, T]`` pi / pi_old, with gradient.

        Args:
            logprobs: ``[R, T]`` with gradient.
            old: ``[R, T]`` log-probabilities that the ratio starts from.
            mask: ``[R, T]``.
        """
        return ((logprobs - old) * mask).clamp(-_TOKEN_LIMIT, _TOKEN_LIMIT).exp()

    @abstractmethod
    def losses(self, ratio: Tensor, logprobs: Tensor, advantages: Tensor) -> Tensor:
        """``[R, T]`` losses of the tokens."""

    @abstractmethod
    def cut(self, ratio: Tensor, advantages: Tensor) -> Tensor:
        """``[R, T]`` whether the cut takes a token's gradient away, or part of it."""

    def metrics(self, ratio: Tensor, advantages: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """What to look at: how many tokens are cut, and how large the ratio grows."""
        cut = self.cut(ratio.detach(), advantages).to(mask.dtype)
        return {"clip_fraction": masked_mean(cut, mask), "ratio_max": (ratio.detach() * mask).max()}


def clipped_surrogate(ratio: Tensor, advantages: Tensor, low: float, high: float, dual: float | None = None) -> Tensor:
    """-min(r A, clip(r, 1 - low, 1 + high) A), for A < 0 at most -dual A.

    Args:
        ratio: ``[R, T]`` r.
        advantages: ``[R, T]`` A.
        low: how far r may fall below 1 before it is cut.
        high: how far it may rise above 1.
        dual: largest r that counts where A < 0 (Ye et al. 2020, verl's ``clip_ratio_c``; trl's ``delta``, the same
            function). Without it one very unlikely token can make a gradient of any size.
    """
    free = ratio if dual is None else ratio.clamp(max=dual)
    return -torch.minimum(free * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


@dataclass(frozen=True)
class _Clip(Surrogate):
    low: float = 0.2
    high: float = 0.2
    dual: float | None = None

    def __post_init__(self) -> None:
        where = f"model.loss.surrogate ({type(self).__name__})"
        if not (0 <= self.low < 1 and self.high >= 0):
            raise ConfigError(
                f"{where}: low is {self.low} and high {self.high}; the ratio is cut to [1 - low, 1 + high]."
            )
        if self.dual is not None and not self.dual >= 1 + self.high:
            raise ConfigError(f"{where}: dual is {self.dual}; it must not lie below 1 + high = {1 + self.high}.")

    def losses(self, ratio: Tensor, logprobs: Tensor, advantages: Tensor) -> Tensor:
        return clipped_surrogate(ratio, advantages, self.low, self.high, self.dual)

    def cut(self, ratio: Tensor, advantages: Tensor) -> Tensor:
        beyond = float("inf") if self.dual is None else self.dual
        rewarded = (advantages > 0) & (ratio > 1 + self.high)
        return rewarded | ((advantages < 0) & ((ratio < 1 - self.low) | (ratio > beyond)))


@dataclass(frozen=True)
class TokenClip(_Clip):
    """PPO's clip, each token by its own ratio (Schulman et al. 2017, arXiv 1707.06347).

    Args:
        low: how far a ratio may fall below 1 before it is cut.
        high: how far it may rise above 1; more than ``low`` lets unlikely tokens grow (DAPO's clip-higher).
        dual: largest ratio that counts where the advantage is negative; ``null`` for none.
    """


@dataclass(frozen=True)
class SequenceClip(_Clip):
    """One ratio for the whole response, and one clip.

    Args:
        low: how far the ratio may fall below 1 before it is cut.
        high: how far it may rise above 1.
        dual: largest ratio that counts where the advantage is negative; ``null`` for none.
        ratio_of: ``mean``: exp of the mean log-ratio of its tokens (GSPO); ``sum``: the ratio of the response's
            probabilities (RLOO).
    """

    ratio_of: Literal["mean", "sum"] = "mean"

    def ratio(self, logprobs: Tensor, old: Tensor, mask: Tensor) -> Tensor:
        gaps = ((logprobs - old) * mask).sum(-1, keepdim=True)
        if self.ratio_of == "mean":
            gaps = gaps / mask.sum(-1, keepdim=True).clamp(min=1)
        limit = 10.0 if self.ratio_of == "mean" else _TOKEN_LIMIT
        return gaps.clamp(max=limit).exp().expand_as(mask)


@dataclass(frozen=True)
class ClippedWeight(Surrogate):
    """REINFORCE, each token weighed by its ratio, cut and without gradient (CISPO, MiniMax 2025, arXiv 2506.13585).

    No token's gradient is lost where the ratio is cut, it only stops growing. trl cuts at ``highest`` alone (ScaleRL
    takes 5), verl at both ends; both are here, since the bounds are absolute.

    Args:
        lowest: smallest weight.
        highest: largest weight.
    """

    lowest: float = 0.0
    highest: float = 5.0

    def __post_init__(self) -> None:
        if not 0 <= self.lowest <= 1 <= self.highest:
            raise ConfigError(
                f"model.loss.surrogate (ClippedWeight): lowest is {self.lowest} and highest {self.highest}; they are "
                "bounds of the ratio itself, with 0 <= lowest <= 1 <= highest."
            )

    def losses(self, ratio: Tensor, logprobs: Tensor, advantages: Tensor) -> Tensor:
        return -ratio.detach().clamp(self.lowest, self.highest) * advantages * logprobs

    def cut(self, ratio: Tensor, advantages: Tensor) -> Tensor:
        return (advantages != 0) & ((ratio < self.lowest) | (ratio > self.highest))
