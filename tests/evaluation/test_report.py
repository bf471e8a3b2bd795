"""A benchmark's report: all figures, by category, the same however the problems are shared out."""

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.engines import Purpose, Sampling
from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation import Benchmark, Estimate, PassAtK, Report
from gpo_lightning.evaluation.benchmark import subset
from gpo_lightning.evaluation.estimate import Sums, macro_average, mean_estimate, wilson_interval
from gpo_lightning.evaluation.report import Tally
from gpo_lightning.evaluation.success import SuccessRate, problem_rewards
from gpo_lightning.evaluation.tables import markdown
from gpo_lightning.problems import ModularChains, Problem
from gpo_lightning.rollouts import RolloutTree, Sample

SOURCE = ModularChains(steps=2)
HOT = Sampling(max_tokens=40, temperature=1.0)
KINDS = [("right", 1.0, "7"), ("wrong", 0.0, "8"), ("unparsed", 0.0, None), ("timeout", None, "9")]


def problem(index: int, category: str | None = None) -> Problem:
    return Problem(f"p{index}", "t", "7", prompt="?", metadata={"category": category} if category else {})


def answered(index: int, kinds: list[int], category: str | None = None, length: int = 3) -> RolloutTree:
    tree = RolloutTree(problem(index, category), (1, 2))
    for kind in kinds:
        reason, reward, answer = KINDS[kind]
        sample = Sample(
            (5,) * length, 0, (-1.0,) * length, reward, reason, kind == 2, Purpose.EVALUATION, 0, answer=answer
        )
        tree.add(sample)
    return tree


def benchmark(trees: list[RolloutTree], **settings: Any) -> Benchmark:
    problems = tuple(tree.problem for tree in trees)
    return Benchmark("b", SOURCE, problems, len(problems) * 10, HOT, **{"samples": 4, "k": (1, 2), **settings})


def report(trees: list[RolloutTree], **settings: Any) -> Report:
    tally = Tally(benchmark(trees, **settings))
    tally.update(trees)
    return tally.report()


TREES = [
    answered(0, [0, 0, 1, 3], "algebra"),
    answered(1, [1, 2, 2, 2], "algebra", length=5),
    answered(2, [0, 0, 0, 0], "geometry"),
    answered(3, [], "geometry"),
]


class TestFigures:
    def test_each_is_the_mean_over_problems(self) -> None:
        means = {name: mean.mean for name, mean in report(TREES).overall.means.items()}
        assert means == pytest.approx(
            {
                "accuracy": (2 / 3 + 0 + 1 + 0) / 4,
                "pass@1": (2 / 3 + 0 + 1 + 0) / 4,
                "pass@2": (1 + 0 + 1 + 0) / 4,
                "maj@1": (2 / 4 + 0 + 1 + 0) / 4,
                "maj@2": (3 / 6 + 0 + 1 + 0) / 4,
                "tokens": (3 + 5 + 3) / 3,
                "truncated": (0 + 3 / 4 + 0) / 3,
                "unparsed": (0 + 3 / 4 + 0) / 3,
            }
        )

    def test_what_could_not_be_judged_or_asked_is_counted_not_hidden(self) -> None:
        overall = report(TREES).overall
        assert (overall.responses, overall.ungraded, overall.unanswered) == (12, 1, 1)
        assert overall.accuracy.n == 4
        assert overall.means["tokens"].n == 3

    def test_they_agree_with_the_metrics_of_their_own(self) -> None:
        found = report(TREES).overall
        rate, passed = SuccessRate(), PassAtK(k=2)
        for tree in TREES:
            graded = [sample.reward for sample in tree.samples if sample.reward is not None]
            rate.update(problem_rewards([tree]), trials=len(graded))
            passed.update(torch.tensor([sum(map(int, graded))]), torch.tensor([len(graded)]))
        for metric, name in ((rate, "accuracy"), (passed, "pass@2")):
            expected = {key: float(value) for key, value in metric.compute().items()}
            mean = found.means[name]
            assert expected == pytest.approx({name: mean.mean, "low": mean.low, "high": mean.high, "n": mean.n})


class TestCategories:
    def test_the_overall_figures_weigh_problems_and_the_macro_average_categories(self) -> None:
        trees = [answered(i, [0], "easy") for i in range(9)] + [answered(9, [1], "hard")]
        found = report(trees, samples=1, k=())
        assert found.overall.accuracy.mean == 0.9
        assert found.macro is not None
        assert found.macro.accuracy.mean == 0.5
        assert {name: figures.accuracy.n for name, figures in found.categories.items()} == {"easy": 9, "hard": 1}

    @pytest.mark.parametrize("category", [None, "the only one"])
    def test_problems_of_less_than_two_have_no_table(self, category: str | None) -> None:
        found = report([answered(0, [0], category)], samples=1, k=())
        assert found.overall.accuracy.n == 1
        assert (found.macro, found.categories) == (None, {})

    def test_the_macro_interval_does_not_vanish_where_every_category_is_all_right_or_all_wrong(self) -> None:
        parts = [Estimate(rate, *wilson_interval(rate, 10), 10) for rate in (0.0, 1.0)]
        found = macro_average(parts)
        assert found.mean == 0.5
        assert found.high - found.low > 0.15

    def test_of_one_category_it_is_that_category(self) -> None:
        part = Estimate(0.3, 0.1, 0.6, 10)
        found = macro_average([part])
        assert (found.mean, found.low, found.high, found.n) == pytest.approx((0.3, 0.1, 0.6, 10))


@given(st.lists(st.tuples(st.lists(st.integers(0, 3), max_size=4), st.sampled_from(["a", "b", None])), min_size=1))
def test_two_ranks_report_what_one_does(problems: list[tuple[list[int], str | None]]) -> None:
    """Ranks add up their sums, whatever share of which category each of them had."""
    trees = [answered(i, kinds, category) for i, (kinds, category) in enumerate(problems)]
    one, other = Tally(benchmark(trees)), Tally(benchmark(trees))
    states = iter(("sums", "counts"))

    def gathered(mine: torch.Tensor, group: Any = None) -> list[torch.Tensor]:
        return [mine, getattr(other, next(states))]

    mine = Tally(benchmark(trees), dist_sync_fn=gathered, distributed_available_fn=lambda: True)
    one.update(trees)
    mine.update(trees[::2])
    other.update(trees[1::2])
    assert flat(mine.report().to_dict()) == pytest.approx(flat(one.report().to_dict()))
    assert next(states, None) is None, "every sum was gathered"


def flat(node: Any, path: str = "") -> dict[str, float]:
    if isinstance(node, dict):
        return {key: value for name, child in node.items() for key, value in flat(child, f"{path}/{name}").items()}
    return {path: float(node or 0)}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_stay_exact_in_low_precision(dtype: torch.dtype) -> None:
    tally = Tally(benchmark([answered(0, [0])], samples=1, k=())).to(dtype)
    for _ in range(2049):
        tally.update([answered(0, [0])])
    assert tally.report().overall.responses == 2049


def test_a_report_survives_json() -> None:
    found = report(TREES)
    assert Report.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


def test_of_one_problem_the_mean_length_may_be_anything_up_to_the_limit() -> None:
    found = report([answered(0, [0], length=7)], samples=1, k=()).overall.means["tokens"]
    assert (found.mean, found.low, found.high) == (7.0, 0.0, 40.0)


@pytest.mark.parametrize(("n", "quantile"), [(2, 12.706), (3, 4.303), (4, 3.182), (6, 2.571), (11, 2.228), (31, 2.042)])
def test_the_interval_of_a_length_is_students(n: int, quantile: float) -> None:
    """Values 100 and 102 in turn; quantiles from the tables."""
    values = [100.0 + 2 * (i % 2) for i in range(n)]
    mean = sum(values) / n
    spread = (sum((value - mean) ** 2 for value in values) / (n - 1)) ** 0.5
    found = mean_estimate(Sums(sum(values), sum(value**2 for value in values), n))
    assert found.high - mean == pytest.approx(quantile * spread / n**0.5, rel=2e-3)


class TestSubset:
    PROBLEMS = tuple(problem(i) for i in range(40))

    def test_it_is_the_same_for_every_order_of_the_problems(self) -> None:
        chosen = subset(self.PROBLEMS, 10)
        assert subset(self.PROBLEMS[::-1], 10)[::-1] == chosen
        assert [p.id for p in chosen] == [p.id for p in self.PROBLEMS if p in chosen]

    def test_a_larger_one_holds_the_smaller(self) -> None:
        smaller, larger = subset(self.PROBLEMS, 5), subset(self.PROBLEMS, 6)
        assert [p for p in larger if p in smaller] == list(smaller)

    def test_another_seed_gives_another(self) -> None:
        assert subset(self.PROBLEMS, 10, seed=1) != subset(self.PROBLEMS, 10)

    @pytest.mark.parametrize("size", [None, 40, 41])
    def test_without_a_limit_all_are_asked(self, size: int | None) -> None:
        assert subset(self.PROBLEMS, size) == self.PROBLEMS

    def test_every_problem_is_as_likely(self) -> None:
        counts = dict.fromkeys((p.id for p in self.PROBLEMS), 0)
        for seed in range(400):
            for chosen in subset(self.PROBLEMS, 10, seed):
                counts[chosen.id] += 1
        assert all(60 < count < 140 for count in counts.values()), "100 each, give or take four standard errors"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"k": (1, 8)}, "every k must lie between 1 and samples"),
        ({"k": (0,)}, "every k must lie"),
        ({"sampling": Sampling(8, temperature=0.0)}, "greedy responses are all the same"),
        ({"problems": ()}, "no held-out problems"),
    ],
)
def test_what_cannot_be_measured_is_refused(settings: dict[str, Any], named: str) -> None:
    valid: dict[str, Any] = {
        "name": "b",
        "source": SOURCE,
        "problems": (problem(0),),
        "available": 1,
        "sampling": HOT,
        "samples": 4,
    }
    with pytest.raises(ConfigError, match=named):
        Benchmark(**{**valid, **settings})


def test_the_tables_show_every_figure_every_moment_and_every_category() -> None:
    table = markdown({"first": {"0": report(TREES), "8": report(TREES[:3])}, "second": {"test": report(TREES[:1])}})
    lines = table.splitlines()
    heads = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert heads == [
        "benchmark", "when", "problems", "accuracy", "pass@1", "pass@2", "maj@1", "maj@2", "tokens", "truncated",
        "unparsed", "ungraded",
    ]  # fmt: skip
    assert [line.split("|")[1:3] for line in lines[2:5]] == [
        [" first     ", " after 0 iterations "],
        [" first     ", " after 8 iterations "],
        [" second    ", " test               "],
    ]
    assert "`first`, after 8 iterations, by category:" in table
    assert "after 0 iterations, by category" not in table
    for row in ("algebra", "geometry", "**all problems**", "**mean over categories**"):
        assert f"| {row}" in table
    assert "4 of 40" in lines[2]
    assert "41.7 %" in lines[2]
