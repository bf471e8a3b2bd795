"""Advantages from the rewards of responses that share their start state."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

Rewards = Sequence[float | None]


class AdvantageEstimator(ABC):
    """Turns a group's rewards into one advantage a response."""

    @property
    @abstractmethod
    def least_group(self) -> int:
        """Fewest responses of a group that it can say something about; 2 or more if it compares them."""

    @abstractmethod
    def advantages(self, rewards: Rewards) -> list[float]:
        """``[G]`` advantages. An ungraded response (``None``) gets 0 and does not enter the baseline.

        Where responses are compared, a group whose graded rewards are all equal gets exactly zeros.
        """


@dataclass(frozen=True)
class GroupMean(AdvantageEstimator):
    """Reward less the group's mean, in units of its standard deviation (GRPO).

    As trl 1.16: A = (R - mean) / (std + 1e-4), std unbiased. ``scale=False`` leaves the unit out (Dr. GRPO).

    >>> GroupMean(scale=False).advantages([1.0, 0.0, None, 0.0, 0.0])
    [0.75, -0.25, 0.0, -0.25, -0.25]

    Args:
        scale: divide by the group's standard deviation.
        epsilon: added to it (trl 1e-4, verl 1e-6).
    """

    scale: bool = True
    epsilon: float = 1e-4

    @property
    def least_group(self) -> int:
        return 2

    def advantages(self, rewards: Rewards) -> list[float]:
        graded = [reward for reward in rewards if reward is not None]
        if len(set(graded)) < 2:
            # Exact equality, for a float mean of equal rewards can differ from them in the last bit.
            return [0.0] * len(rewards)
        mean = sum(graded) / len(graded)
        spread = sqrt(sum((reward - mean) ** 2 for reward in graded) / (len(graded) - 1))
        unit = spread + self.epsilon if self.scale else 1.0
        return [0.0 if reward is None else (reward - mean) / unit for reward in rewards]


@dataclass(frozen=True)
class LeaveOneOut(AdvantageEstimator):
    """Reward less the mean of the others' (RLOO): R n / (n - 1) - sum / (n - 1).

    >>> LeaveOneOut().advantages([1.0, 0.0, 0.0])
    [1.0, -0.5, -0.5]
    """

    @property
    def least_group(self) -> int:
        return 2

    def advantages(self, rewards: Rewards) -> list[float]:
        graded = [reward for reward in rewards if reward is not None]
        if len(set(graded)) < 2:
            return [0.0] * len(rewards)
        others = len(graded) - 1
        return [0.0 if r is None else r - (sum(graded) - r) / others for r in rewards]


@dataclass(frozen=True)
class NoBaseline(AdvantageEstimator):
    """The reward itself, for losses that have a baseline of their own: a value head, or the mean of the whole batch.

    >>> NoBaseline().advantages([1.0, None, 0.0])
    [1.0, 0.0, 0.0]
    """

    @property
    def least_group(self) -> int:
        return 1

    def advantages(self, rewards: Rewards) -> list[float]:
        return [reward or 0.0 for reward in rewards]
