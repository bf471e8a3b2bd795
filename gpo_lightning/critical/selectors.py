"""Which step is critical: one rule a class, each from step values to a step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from random import Random

import torch
from torch import Tensor


class Selector(ABC):
    """Chooses the critical step t; the policy is reset to the prefix before it."""

    @abstractmethod
    def scores(self, values: Tensor) -> Tensor:
        """How critical each step is, ``[..., n]``, by ``[..., n + 1]`` values before each step and after the last."""

    def first_best(self, scores: Tensor, draw: Random) -> int:
        """The step of highest score ``[n]``; of equals the earliest, whose prefix leaves most to be learnt."""
        listed = scores.tolist()
        return max(range(len(listed)), key=lambda t: (listed[t], -t))

    def select(self, values: Sequence[float], draw: Random) -> int:
        """Index of the critical step.

        Args:
            values: ``[n + 1]`` V(s_t) before each step, n >= 1; the last is the trajectory's success.
            draw: random state, for selectors that need one.

        Returns:
            t in ``0 .. n - 1``.
        """
        return self.first_best(self.scores(torch.tensor(values, dtype=torch.float64)), draw)


class MaxAdvantage(Selector):
    """The step that gains most value (the paper's text)."""

    def scores(self, values: Tensor) -> Tensor:
        return values.diff(dim=-1)


class MaxAbsAdvantage(Selector):
    """The step that changes the value most, up or down."""

    def scores(self, values: Tensor) -> Tensor:
        return values.diff(dim=-1).abs()


class MinAdvantage(Selector):
    """The step that loses most value: the mistake."""

    def scores(self, values: Tensor) -> Tensor:
        return -values.diff(dim=-1)


class TowardOutcome(Selector):
    """The step that changes the value most in the direction of the outcome: the gain that made a solution right, the
    fall that ruined it. It is for looking: ``gpo explore`` chooses by it where nothing else is asked for.

    >>> TowardOutcome().select((0.25, 0.5, 1.0, 0.5, 0.0), Random(0))  # a wrong solution
    2
    >>> TowardOutcome().select((0.5, 0.0, 1.0), Random(0))  # a right one
    1
    """

    def scores(self, values: Tensor) -> Tensor:
        return values.diff(dim=-1) * torch.where(values[..., -1:] > 0.5, 1.0, -1.0)


class MaxValue(Selector):
    """The prefix of highest value (the authors' earlier code)."""

    def scores(self, values: Tensor) -> Tensor:
        return values[..., :-1]


class MaxVariance(Selector):
    """The prefix whose outcome is most open, p (1 - p)."""

    def scores(self, values: Tensor) -> Tensor:
        return values[..., :-1] * (1 - values[..., :-1])


class RandomStep(Selector):
    """Any step, equally likely: the baseline that the others must beat."""

    def scores(self, values: Tensor) -> Tensor:
        return torch.zeros_like(values[..., :-1])

    def first_best(self, scores: Tensor, draw: Random) -> int:
        return draw.randrange(len(scores))
