"""What responses look like, right or wrong: their length, and how many broke off, had no answer or no verdict."""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from gpo_lightning.evaluation.estimate import Estimate, mean_estimate
from gpo_lightning.evaluation.problem_mean import ProblemMean
from gpo_lightning.rollouts import Sample

UNPARSED = "unparsed"
"""The graders' word for a response in which they found no answer."""


def mean_length(samples: Sequence[Sample]) -> float:
    """Tokens drawn for a response, on average over one problem's responses (at least one)."""
    return sum(len(sample.tokens) - sample.start for sample in samples) / len(samples)


def truncation_rate(samples: Sequence[Sample]) -> float:
    """Share of one problem's responses (at least one) that the token limit broke off."""
    return sum(sample.truncated for sample in samples) / len(samples)


def unparsed_rate(samples: Sequence[Sample]) -> float:
    """Share of one problem's responses (at least one) in which the grader found no answer."""
    return sum(sample.reason == UNPARSED for sample in samples) / len(samples)


def ungraded_count(samples: Sequence[Sample]) -> int:
    """How many responses the grader could not judge."""
    return sum(sample.reward is None for sample in samples)


class _ResponseMean(ProblemMean):
    """Mean over problems of something their responses have; problems without responses are left out."""

    of: Callable[[Sequence[Sample]], float]

    def update(self, problems: Sequence[Sequence[Sample]]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Add problems.

        Args:
            problems: the responses to each.
        """
        for samples in filter(None, problems):
            super().update(torch.tensor([type(self).of(samples)], dtype=torch.float64), trials=len(samples))


class MeanLength(_ResponseMean):
    """Mean over problems of :func:`mean_length`, with Student's 95 % interval.

    >>> from gpo_lightning.engines import Purpose
    >>> short = Sample((5, 6), 0, (-1.0, -1.0), 1.0, "right", False, Purpose.EVALUATION, 0)
    >>> long = Sample((5, 6, 7, 8), 0, (-1.0,) * 4, None, "timeout", True, Purpose.EVALUATION, 0)
    >>> metric = MeanLength()
    >>> metric.update([[short, long], [long]])
    >>> float(metric.compute()["tokens"])
    3.5

    Args:
        longest: the token limit, which bounds the interval.
    """

    figure = "tokens"
    of = staticmethod(mean_length)

    def __init__(self, longest: float = inf, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.longest = longest

    def _estimate(self) -> Estimate:
        return mean_estimate(self.sums, self.longest)


class TruncationRate(_ResponseMean):
    """Mean over problems of :func:`truncation_rate`, with a 95 % interval.

    >>> from gpo_lightning.engines import Purpose
    >>> whole = Sample((5, 6), 0, (-1.0, -1.0), 1.0, "right", False, Purpose.EVALUATION, 0)
    >>> broken = Sample((5, 6), 0, (-1.0, -1.0), 0.0, "unparsed", True, Purpose.EVALUATION, 0)
    >>> metric = TruncationRate()
    >>> metric.update([[whole, broken], [whole, whole]])
    >>> float(metric.compute()["truncated"])
    0.25
    """

    figure = "truncated"
    of = staticmethod(truncation_rate)


class UnparsedRate(_ResponseMean):
    """Mean over problems of :func:`unparsed_rate`, with a 95 % interval.

    >>> from gpo_lightning.engines import Purpose
    >>> answered = Sample((5, 6), 0, (-1.0, -1.0), 0.0, "wrong", False, Purpose.EVALUATION, 0)
    >>> silent = Sample((5, 6), 0, (-1.0, -1.0), 0.0, "unparsed", True, Purpose.EVALUATION, 0)
    >>> metric = UnparsedRate()
    >>> metric.update([[answered], [silent]])
    >>> float(metric.compute()["unparsed"])
    0.5
    """

    figure = "unparsed"
    of = staticmethod(unparsed_rate)


class UngradedCount(Metric):
    """Responses the grader could not judge, over all problems.

    >>> from gpo_lightning.engines import Purpose
    >>> judged = Sample((5, 6), 0, (-1.0, -1.0), 0.0, "wrong", False, Purpose.EVALUATION, 0)
    >>> hostile = Sample((5, 6), 0, (-1.0, -1.0), None, "timeout", False, Purpose.EVALUATION, 0)
    >>> metric = UngradedCount()
    >>> metric.update([[judged, hostile], [hostile]])
    >>> int(metric.compute())
    2
    """

    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("ungraded", default=torch.tensor(0), dist_reduce_fx="sum")
        self.ungraded: Tensor

    def update(self, problems: Sequence[Sequence[Sample]]) -> None:
        """Add problems.

        Args:
            problems: the responses to each.
        """
        self.ungraded += sum(ungraded_count(samples) for samples in problems)

    def compute(self) -> Tensor:
        """The count."""
        return self.ungraded
