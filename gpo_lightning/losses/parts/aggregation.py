"""From token losses to one number: what a response of many tokens counts against one of few."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience.example import Example
from gpo_lightning.losses.loss import sequence_mean


class Aggregation(ABC):
    """A sum over a micro-batch, and the weight it is divided by over the whole optimiser step."""

    @abstractmethod
    def weight(self, example: Example) -> float:
        """An example's share of the normaliser."""

    @abstractmethod
    def sum(self, losses: Tensor, mask: Tensor) -> Tensor:
        """Scalar sum of ``[R, T]`` token losses where ``[R, T]`` ``mask`` is 1."""


@dataclass(frozen=True)
class ResponseMean(Aggregation):
    """Mean over responses of each one's token mean (GRPO): every response counts the same, a long one's tokens less."""

    def weight(self, example: Example) -> float:
        return 1.0

    def sum(self, losses: Tensor, mask: Tensor) -> Tensor:
        return sequence_mean(losses, mask).sum()


@dataclass(frozen=True)
class ResponseSum(Aggregation):
    """Mean over responses of each one's token sum: the policy gradient as it is derived, long responses count more."""

    def weight(self, example: Example) -> float:
        return 1.0

    def sum(self, losses: Tensor, mask: Tensor) -> Tensor:
        return (losses * mask).sum()


@dataclass(frozen=True)
class TokenMean(Aggregation):
    """Mean over all tokens of the optimiser step (DAPO): every token counts the same."""

    def weight(self, example: Example) -> float:
        return float(example.tokens)

    def sum(self, losses: Tensor, mask: Tensor) -> Tensor:
        return (losses * mask).sum()


@dataclass(frozen=True)
class FixedLengthMean(Aggregation):
    """Token sum over a constant for every response (Dr. GRPO): no response's length changes what its tokens count.

    Args:
        tokens: the constant; Dr. GRPO takes the token limit of a response (``data.sampling.max_tokens``).
    """

    tokens: int = 1024

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ConfigError(
                f"model.loss.aggregation (FixedLengthMean): tokens is {self.tokens}; it must be at least 1."
            )

    def weight(self, example: Example) -> float:
        return float(self.tokens)

    def sum(self, losses: Tensor, mask: Tensor) -> Tensor:
        return (losses * mask).sum()
