"""How far the policy may drift from its reference: KL estimators a token (Schulman 2020), in loss or reward."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gpo_lightning.errors import ConfigError

Estimator = Literal["k1", "k2", "k3"]


def kl_estimate(logprobs: Tensor, reference: Tensor, estimator: Estimator) -> Tensor:
    """KL(policy | reference) from one token drawn by the policy, ``[R, T]`` each.

    ``k1`` is the log-ratio: unbiased, of either sign. ``k2`` is half its square: biased, its gradient is not. ``k3``
    is unbiased and never negative.
    """
    gap = reference - logprobs
    match estimator:
        case "k1":
            return -gap
        case "k2":
            return gap**2 / 2
        case "k3":
            return torch.expm1(gap) - gap


@dataclass(frozen=True)
class KL:
    """The weight, the form and the place of the KL to the reference policy, which is the adapter switched off.

    Args:
        beta: its weight; 0 computes no reference.
        estimator: ``k1``, ``k2`` or ``k3``, see :func:`kl_estimate`.
        place: ``loss`` adds it to the loss, with gradient; ``reward`` takes it from the reward, with the policy that
            the iteration began with and without gradient.
        weighted: in the loss, weigh it by the surrogate's probability ratio, which makes its gradient unbiased
            off-policy (trl's default since 1.16).
        limit: largest absolute value of a token's estimate (verl: 10); ``null`` for none.
    """

    beta: float = 0.0
    estimator: Estimator = "k3"
    place: Literal["loss", "reward"] = "loss"
    weighted: bool = True
    limit: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.beta < float("inf"):
            raise ConfigError(f"model.loss.kl.beta is {self.beta}; it must be 0 (no KL) or a positive number.")
        if self.limit is not None and self.limit <= 0:
            raise ConfigError(f"model.loss.kl.limit is {self.limit}; it must be positive, or null for none.")

    @property
    def in_loss(self) -> bool:
        return self.beta > 0 and self.place == "loss"

    @property
    def in_reward(self) -> bool:
        return self.beta > 0 and self.place == "reward"

    def estimate(self, logprobs: Tensor, reference: Tensor) -> Tensor:
        """``[R, T]`` estimates, not yet weighed by ``beta``."""
        estimate = kl_estimate(logprobs, reference, self.estimator)
        return estimate if self.limit is None else estimate.clamp(-self.limit, self.limit)
