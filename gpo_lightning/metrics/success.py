"""Success rates with honest intervals."""

from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

_Z95 = 1.959963984540054


def wilson_interval(rate: float, trials: float, z: float = _Z95) -> tuple[float, float]:
    """Wilson's score interval of a success rate; sound at 0, at 1 and for few trials.

    >>> low, high = wilson_interval(0.5, 100)
    >>> round(low, 3), round(high, 3)
    (0.404, 0.596)
    """
    if trials <= 0:
        return 0.0, 1.0
    shrink = 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / shrink
    half = z * sqrt(rate * (1 - rate) / trials + (z / (2 * trials)) ** 2) / shrink
    return max(0.0, centre - half), min(1.0, centre + half)


class SuccessRate(Metric):
    """Mean over problems of the mean reward of their responses, with a 95 % interval.

    Responses to one problem are not independent, so the problem is the unit: with several responses each, the
    interval is Wilson's at the number of independent trials that would have the same standard error.

    >>> rate = SuccessRate()
    >>> rate.update(torch.tensor([1.0, 0.0, 1.0, 1.0]))
    >>> float(rate.compute()["accuracy"])
    0.75
    """

    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("total", "squares", "problems"):
            self.add_state(name, default=torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.total: Tensor
        self.squares: Tensor
        self.problems: Tensor

    def update(self, rewards: Tensor) -> None:
        """Add problems.

        Args:
            rewards: ``[P]`` each problem's mean reward over its graded responses.
        """
        rewards = rewards.to(self.total)
        self.total += rewards.sum()
        self.squares += rewards.square().sum()
        self.problems += len(rewards)

    def compute(self) -> dict[str, Tensor]:
        """``accuracy``, ``low``, ``high`` and ``n``, the number of problems."""
        n = float(self.problems)
        rate = float(self.total) / n if n else 0.0
        variance = float(self.squares) / n - rate**2 if n else 0.0
        trials = n * rate * (1 - rate) / variance if variance > 1e-12 else n
        low, high = wilson_interval(rate, trials)
        values = {"accuracy": rate, "low": low, "high": high, "n": n}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def _apply(self, fn: Any, exclude_state: Any = "") -> "SuccessRate":
        """Counts follow the module around them to its device, but stay float64 whatever precision it is cast to."""
        super()._apply(lambda tensor: tensor.to(fn(tensor).device), exclude_state)
        return self
