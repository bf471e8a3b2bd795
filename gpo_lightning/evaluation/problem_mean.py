"""The torchmetric behind all others here: sums over problems that add up over batches and ranks."""

from math import inf
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from gpo_lightning.evaluation.estimate import Estimate, Sums, rate_estimate


class ProblemMean(Metric):
    """Mean over problems of a value in [0, 1] each, with a 95 % interval.

    Responses to one problem are not independent, so the problem is the unit.

    >>> mean = ProblemMean()
    >>> mean.update(torch.tensor([1.0, 0.0, 1.0, 1.0]))
    >>> {name: round(float(value), 3) for name, value in mean.compute().items()}
    {'mean': 0.75, 'low': 0.301, 'high': 0.954, 'n': 4.0}
    """

    full_state_update = False
    figure = "mean"
    """What :meth:`compute` calls the mean."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("total", "squares", "problems", "trials"):
            self.add_state(name, default=torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.total: Tensor
        self.squares: Tensor
        self.problems: Tensor
        self.trials: Tensor

    def update(self, values: Tensor, trials: float = inf) -> None:
        """Add problems.

        Args:
            values: ``[P]`` one value a problem.
            trials: most independent trials behind one of them; the interval is no narrower than theirs would be.
        """
        values = values.to(self.total)
        self.total += values.sum()
        self.squares += values.square().sum()
        self.problems += len(values)
        self.trials += trials * len(values) if len(values) else 0.0

    @property
    def sums(self) -> Sums:
        """What was added so far, on this rank unless :meth:`compute` is under way."""
        return Sums(float(self.total), float(self.squares), float(self.problems), float(self.trials))

    def compute(self) -> dict[str, Tensor]:
        """The mean under the name of the figure, ``low``, ``high`` and ``n``, the number of problems."""
        found = self._estimate()
        values = {self.figure: found.mean, "low": found.low, "high": found.high, "n": found.n}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def _estimate(self) -> Estimate:
        return rate_estimate(self.sums)

    def _apply(self, fn: Any, exclude_state: Any = "") -> "ProblemMean":
        """Counts follow the module around them to its device, but stay float64 whatever precision it is cast to."""
        super()._apply(lambda tensor: tensor.to(fn(tensor).device), exclude_state)
        return self
