"""Success rates and their intervals against known values."""

from math import sqrt
from random import Random
from statistics import pvariance

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.evaluation import Estimate
from gpo_lightning.evaluation.estimate import wilson_interval
from gpo_lightning.evaluation.success import SuccessRate

KNOWN = [
    (8, 10, 0.4902, 0.9433),
    (0, 10, 0.0, 0.2775),
    (10, 10, 0.7225, 1.0),
    (1, 1, 0.2065, 1.0),
    (50, 100, 0.4038, 0.5962),
]
"""Successes, trials and the bounds as statsmodels' ``proportion_confint(method="wilson")`` prints them."""


def measure(*batches: list[float]) -> dict[str, float]:
    rate = SuccessRate()
    for rewards in batches:
        rate.update(torch.tensor(rewards, dtype=torch.float64))
    return {name: float(value) for name, value in rate.compute().items()}


@pytest.mark.parametrize(("right", "trials", "low", "high"), KNOWN)
def test_wilson_intervals_are_the_known_ones(right: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(right / trials, trials) == pytest.approx((low, high), abs=5e-5)
    found = measure([1.0] * right + [0.0] * (trials - right))
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=5e-5)


@given(st.floats(0, 1), st.floats(0.5, 1e6))
def test_the_interval_solves_the_score_equation(rate: float, trials: float) -> None:
    """Its bounds are the p with |rate - p| = z sqrt(p (1 - p) / n)."""
    low, high = wilson_interval(rate, trials)
    assert 0 <= low <= rate + 1e-12
    assert rate - 1e-12 <= high <= 1
    for p in (low, high):
        if 1e-9 < p < 1 - 1e-9:
            assert abs(rate - p) == pytest.approx(1.959963984540054 * sqrt(p * (1 - p) / trials), rel=1e-5, abs=1e-9)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_nothing_measured_says_that_nothing_is_known() -> None:
    assert wilson_interval(0.0, 0) == (0.0, 1.0)
    assert measure() == {"accuracy": 0.0, "low": 0.0, "high": 1.0, "n": 0.0}
    assert measure([]) == measure()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@given(st.lists(st.lists(st.sampled_from([0.0, 0.25, 1.0]), max_size=5), max_size=5))
def test_updates_add_up(batches: list[list[float]]) -> None:
    assert measure(*batches) == pytest.approx(measure([reward for batch in batches for reward in batch]))


@given(st.lists(st.integers(0, 4), min_size=2, max_size=40).filter(lambda right: 0 < sum(right) < 4 * len(right)))
def test_with_several_responses_the_problem_is_the_unit(right: list[int]) -> None:
    """The interval is Wilson's at the number of independent trials that have the standard error of the mean."""
    means = [count / 4 for count in right]
    found, rate = measure(means), sum(means) / len(means)
    spread = pvariance(means)
    trials = len(means) * rate * (1 - rate) / spread if spread else len(means)
    assert (found["low"], found["high"]) == pytest.approx(wilson_interval(rate, trials), rel=1e-6)


def test_repeating_every_response_narrows_nothing_but_independent_ones_do() -> None:
    once, agreeing = measure([1.0, 0.0] * 20), measure([1.0, 1.0, 0.0, 0.0] * 10)
    varied = measure([0.75, 0.25] * 20)
    assert agreeing == once
    assert varied["accuracy"] == once["accuracy"]
    assert varied["high"] - varied["low"] < once["high"] - once["low"]


def test_equal_means_are_not_taken_for_certainty() -> None:
    """All problems at one half: no variance between problems, yet the rate is not known exactly."""
    found = measure([0.5] * 10)
    assert found["low"] < 0.3
    assert found["high"] > 0.7


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("cast", ["to", "method"])
def test_counts_stay_exact_in_a_module_of_low_precision(dtype: torch.dtype, cast: str) -> None:
    """Half precision knows no 2,049; neither what is counted before, nor after, nor after a reset may go through it."""
    module = torch.nn.ModuleDict({"success": SuccessRate(), "layer": torch.nn.Linear(2, 2)})
    rate = module["success"]
    rate.update(torch.ones(2049))
    lower = {torch.float16: module.half, torch.bfloat16: module.bfloat16}
    _ = module.to(dtype) if cast == "to" else lower[dtype]()
    assert module["layer"].weight.dtype == dtype
    assert float(rate.compute()["n"]) == 2049
    rate.update(torch.ones(2, dtype=dtype))
    assert float(rate.compute()["n"]) == 2051
    rate.reset()
    for _ in range(2049):
        rate.update(torch.ones(1))
    assert float(rate.compute()["n"]) == 2049
    assert rate.total.dtype == torch.float64


def test_the_reading_prints_percentages_and_the_number_of_problems() -> None:
    assert str(Estimate(0.8, 0.4902, 0.9433, 10)) == "80.0 % (49.0 to 94.3, n = 10)"


def test_a_few_problems_that_agree_by_luck_are_not_taken_for_many_trials() -> None:
    """Two means of four responses each are at most eight independent trials."""
    rate = SuccessRate()
    rate.update(torch.tensor([0.75, 0.76]), trials=4)
    low, high = wilson_interval(0.755, 8)
    assert float(rate.compute()["low"]) == pytest.approx(low)
    assert float(rate.compute()["high"]) == pytest.approx(high)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Problems of very different difficulty, eight responses each; 95 % within three standard errors."""
    draw, covered, truth = Random(0), 0, 0.4
    for _ in range(1000):
        rates = [draw.betavariate(0.8, 1.2) for _ in range(20)]
        means = [sum(draw.random() < p for _ in range(8)) / 8 for p in rates]
        rate = SuccessRate()
        rate.update(torch.tensor(means, dtype=torch.float64), trials=8)
        found = rate.compute()
        covered += float(found["low"]) <= truth <= float(found["high"])
    assert covered / 1000 == pytest.approx(0.95, abs=0.02)
