"""All figures of a benchmark, by category and over all: counted on every rank, reported once."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from gpo_lightning.evaluation.benchmark import Benchmark, category_of
from gpo_lightning.evaluation.estimate import Estimate, Sums, macro_average, mean_estimate, rate_estimate
from gpo_lightning.evaluation.majority_at_k import majority_at_k
from gpo_lightning.evaluation.pass_at_k import pass_at_k
from gpo_lightning.evaluation.responses import mean_length, truncation_rate, ungraded_count, unparsed_rate
from gpo_lightning.evaluation.success import mean_success
from gpo_lightning.hyperparameters import plain
from gpo_lightning.rollouts import RolloutTree, Sample

LENGTH = "tokens"
_SUMS = 4
_COUNTS = ("responses", "ungraded", "unanswered")


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured on some problems.

    Args:
        means: ``accuracy``, ``pass@K``, ``maj@K``, ``tokens`` (length), ``truncated`` and ``unparsed``, in this order.
        responses: how many were drawn.
        ungraded: responses the grader could not judge; they are left out of accuracy and pass@k.
        unanswered: problems without a response, for their prompt did not fit; they count as failed.
    """

    means: Mapping[str, Estimate]
    responses: int
    ungraded: int = 0
    unanswered: int = 0

    @property
    def accuracy(self) -> Estimate:
        return self.means["accuracy"]


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured on a benchmark.

    Args:
        overall: over all problems.
        macro: mean over categories, each with the same weight; ``None`` without categories.
        categories: by category.
        available: problems the benchmark has, of which ``overall.accuracy.n`` were asked.
        samples: responses to each problem.
        sampling: how they were drawn.
    """

    overall: Figures
    macro: Figures | None = None
    categories: Mapping[str, Figures] = field(default_factory=dict[str, Figures])
    available: int = 0
    samples: int = 1
    sampling: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> "Report":
        """The inverse of :meth:`to_dict`."""
        parts: dict[str, Any] = {
            "overall": _figures(written["overall"]),
            "macro": _figures(written["macro"]) if written["macro"] else None,
            "categories": {name: _figures(figures) for name, figures in written["categories"].items()},
        }
        return cls(**{**written, **parts})


def _figures(written: Mapping[str, Any]) -> Figures:
    means: Any = {name: Estimate(**mean) for name, mean in written["means"].items()}
    return Figures(**{**written, "means": means})


def problem_figures(samples: Sequence[Sample], ks: Sequence[int]) -> dict[str, tuple[float, float] | None]:
    """One problem's value of each figure and the most independent trials behind it; ``None`` where it has none.

    A response that could not be graded is no trial for pass@k; it may vote, but its verdict does not count.
    """
    graded = [sample for sample in samples if sample.success is not None]
    right, drawn = torch.tensor([sum(sample.right for sample in graded)]), torch.tensor([len(graded)])
    votes = [(sample.answer, sample.success) for sample in samples]
    figures: dict[str, tuple[float, float] | None] = {"accuracy": (mean_success(samples), len(graded))}
    figures |= {f"pass@{k}": (float(pass_at_k(right, drawn, k)), len(graded) // k) for k in ks}
    figures |= {f"maj@{k}": (majority_at_k(votes, k), len(votes) // k) for k in ks}
    for name, of in ((LENGTH, mean_length), ("truncated", truncation_rate), ("unparsed", unparsed_rate)):
        figures[name] = (of(samples), len(samples)) if samples else None
    return figures


class Tally(Metric):
    """Sums of every figure of a benchmark, by category; they add up over batches and ranks.

    Args:
        benchmark: whose responses are counted.
    """

    full_state_update = False

    def __init__(self, benchmark: Benchmark, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.benchmark = benchmark
        self.figures = tuple(problem_figures([], benchmark.k))
        # Problems without a category have the first row; the rows are the same on every rank.
        self._rows = {"": 0} | {category: row for row, category in enumerate(benchmark.categories, 1)}
        shape = (len(self._rows), len(self.figures), _SUMS)
        self.add_state("sums", default=torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        counts = torch.zeros(len(self._rows), len(_COUNTS), dtype=torch.float64)
        self.add_state("counts", default=counts, dist_reduce_fx="sum")
        self.sums: Tensor
        self.counts: Tensor

    def update(self, trees: Sequence[RolloutTree]) -> None:
        """Add problems of the benchmark with the responses to them."""
        sums, counts = torch.zeros_like(self.sums, device="cpu"), torch.zeros_like(self.counts, device="cpu")
        for tree in trees:
            row, samples = self._rows.get(category_of(tree.problem), 0), tree.samples
            for column, measured in enumerate(problem_figures(samples, self.benchmark.k).values()):
                if measured is not None:
                    value, trials = measured
                    sums[row, column] += torch.tensor([value, value**2, 1.0, trials], dtype=torch.float64)
            counts[row] += torch.tensor([len(samples), ungraded_count(samples), not samples], dtype=torch.float64)
        self.sums += sums.to(self.sums.device)
        self.counts += counts.to(self.counts.device)

    def compute(self) -> dict[str, Tensor]:
        """``sums``, ``[categories, figures, 4]``, and ``counts`` over all ranks; :func:`report` reads them."""
        return {"sums": self.sums, "counts": self.counts}

    def report(self) -> Report:
        """The report over all ranks; every rank must ask for it."""
        reduced = self.compute()
        sums, counts = reduced["sums"].cpu(), reduced["counts"].cpu()
        categories = {name: self._figures(sums[row], counts[row]) for name, row in self._rows.items() if name}
        benchmark = self.benchmark
        return Report(
            overall=self._figures(sums.sum(0), counts.sum(0)),
            macro=_macro(list(categories.values())) if categories else None,
            categories=categories,
            available=benchmark.available,
            samples=benchmark.samples,
            sampling=plain(benchmark.sampling),
        )

    def _figures(self, sums: Tensor, counts: Tensor) -> Figures:
        means = {
            name: mean_estimate(sums_of_metric, self.benchmark.sampling.max_tokens)
            if name == LENGTH
            else rate_estimate(sums_of_metric)
            for name, sums_of_metric in zip(self.figures, (Sums(*row) for row in sums.tolist()), strict=True)
        }
        return Figures(means, **{name: int(count) for name, count in zip(_COUNTS, counts.tolist(), strict=True)})

    def _apply(self, fn: Any, exclude_state: Any = "") -> "Tally":
        """Sums follow the module around them to its device, but stay float64 whatever precision it is cast to."""
        super()._apply(lambda tensor: tensor.to(fn(tensor).device), exclude_state)
        return self


def _macro(parts: Sequence[Figures]) -> Figures:
    # A category none of whose prompts fits has no lengths to average.
    means = {name: macro_average([p.means[name] for p in parts if p.means[name].n]) for name in parts[0].means}
    return Figures(
        means,
        responses=sum(part.responses for part in parts),
        ungraded=sum(part.ungraded for part in parts),
        unanswered=sum(part.unanswered for part in parts),
    )
