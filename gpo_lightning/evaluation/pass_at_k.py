"""pass@k: how often at least one of k responses is right."""

from typing import Any

import torch
from torch import Tensor

from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation.problem_mean import ProblemMean


def pass_at_k(right: Tensor, drawn: Tensor, k: int) -> Tensor:
    """``[P]`` the probability that k of a problem's responses, chosen without replacement, hold a right one.

    The unbiased estimator of Chen et al. 2021 (arXiv 2107.03374, equation 1), 1 - C(n - c, k) / C(n, k), as the
    product of 1 - k / i over i = n - c + 1 ... n, which neither overflows nor cancels. A problem with fewer than k
    responses is filled up with wrong ones.

    >>> pass_at_k(torch.tensor([1, 0, 3]), torch.tensor([4, 4, 4]), k=2)
    tensor([0.5000, 0.0000, 1.0000], dtype=torch.float64)

    Args:
        right: ``[P]`` right responses to each problem (c).
        drawn: ``[P]`` responses to each problem (n).
        k: at least 1.
    """
    if k < 1:
        raise ConfigError(f"k is {k}; pass@k needs at least one response.")
    right, drawn = right.double(), drawn.double().clamp(min=k)
    if not len(right):
        return right
    places = torch.arange(1, int(drawn.max()) + 1, dtype=torch.float64, device=right.device)  # i
    counted = (places > (drawn - right)[:, None]) & (places <= drawn[:, None])  # [P, longest]
    factors = torch.where(counted, (1 - k / places).clamp(min=0), 1.0)
    return 1 - factors.prod(-1)


class PassAtK(ProblemMean):
    """Mean of :func:`pass_at_k` over problems, with a 95 % interval.

    The interval is never narrower than that of as many independent trials as there were disjoint groups of k.

    >>> metric = PassAtK(k=2)
    >>> metric.update(right=torch.tensor([1, 0, 3]), drawn=torch.tensor([4, 4, 4]))
    >>> float(metric.compute()["pass@2"])
    0.5

    Args:
        k: responses of which one must be right.
    """

    def __init__(self, k: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k, self.figure = k, f"pass@{k}"

    def update(self, right: Tensor, drawn: Tensor) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Add problems.

        Args:
            right: ``[P]`` right responses to each problem.
            drawn: ``[P]`` responses to each problem.
        """
        for value, n in zip(pass_at_k(right, drawn, self.k), drawn.tolist(), strict=True):
            super().update(value[None], trials=n // self.k)
