"""Which step is critical: one rule a class, each from step values to a step."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from random import Random


class Selector(ABC):
    """Chooses the critical step t; the policy is reset to the prefix before it."""

    @abstractmethod
    def select(self, values: Sequence[float], draw: Random) -> int:
        """Index of the critical step.

        Args:
            values: ``[n + 1]`` V(s_t) before each step, n >= 1; the last is the trajectory's reward.
            draw: random state, for selectors that need one.

        Returns:
            t in ``0 .. n - 1``; of equals the earliest, whose prefix leaves most to be learnt.
        """


class MaxAdvantage(Selector):
    """The step that gains most value (the paper's text)."""

    def select(self, values: Sequence[float], draw: Random) -> int:
        return _first_best(values, lambda t: values[t + 1] - values[t])


class MaxAbsAdvantage(Selector):
    """The step that changes the value most, up or down."""

    def select(self, values: Sequence[float], draw: Random) -> int:
        return _first_best(values, lambda t: abs(values[t + 1] - values[t]))


class MinAdvantage(Selector):
    """The step that loses most value: the mistake."""

    def select(self, values: Sequence[float], draw: Random) -> int:
        return _first_best(values, lambda t: values[t] - values[t + 1])


class MaxValue(Selector):
    """The prefix of highest value (the authors' earlier code)."""

    def select(self, values: Sequence[float], draw: Random) -> int:
        return _first_best(values, lambda t: values[t])


class MaxVariance(Selector):
    """The prefix whose outcome is most open, p (1 - p)."""

    def select(self, values: Sequence[float], draw: Random) -> int:
        return _first_best(values, lambda t: values[t] * (1 - values[t]))


class RandomStep(Selector):
    """Any step, equally likely: the baseline that the others must beat."""

    def select(self, values: Sequence[float], draw: Random) -> int:
        return draw.randrange(len(values) - 1)


def _first_best(values: Sequence[float], score: Callable[[int], float]) -> int:
    return max(range(len(values) - 1), key=lambda t: (score(t), -t))
