"""Advantages against the formulas of LOSSES.md, as trl and verl compute them."""

from statistics import mean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.experience.advantages import AdvantageEstimator, GroupMean, LeaveOneOut

ESTIMATORS = [GroupMean(), GroupMean(scale=False), GroupMean(epsilon=1e-6), LeaveOneOut()]
rewards = st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0]), min_size=2, max_size=9).filter(lambda r: len(set(r)) > 1)
with_gaps = st.lists(st.sampled_from([None, 0.0, 0.3, 1.0]), max_size=9)


@given(rewards)
def test_group_mean_is_that_of_trl(drawn: list[float]) -> None:
    """A = (R - mean) / (std + 1e-4), the standard deviation unbiased."""
    expected = [(reward - mean(drawn)) / (stdev(drawn) + 1e-4) for reward in drawn]
    assert GroupMean().advantages(drawn) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_epsilon_is_that_of_the_library_one_compares_with() -> None:
    """verl adds 1e-6 to the deviation, 0.7071 for one right and one wrong response."""
    assert GroupMean(epsilon=1e-6).advantages([1.0, 0.0]) == pytest.approx(
        [0.5 / (0.5**0.5 + 1e-6), -0.5 / (0.5**0.5 + 1e-6)]
    )


@given(rewards)
def test_without_scale_only_the_mean_is_taken_off(drawn: list[float]) -> None:
    expected = [reward - mean(drawn) for reward in drawn]
    assert GroupMean(scale=False).advantages(drawn) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(rewards)
def test_leave_one_out_is_that_of_verl_and_of_its_name(drawn: list[float]) -> None:
    n = len(drawn)
    verl = [reward * n / (n - 1) - mean(drawn) * n / (n - 1) for reward in drawn]
    by_name = [reward - mean(drawn[:i] + drawn[i + 1 :]) for i, reward in enumerate(drawn)]
    found = LeaveOneOut().advantages(drawn)
    assert found == pytest.approx(verl, rel=1e-9, abs=1e-12)
    assert found == pytest.approx(by_name, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(drawn=with_gaps)
def test_an_ungraded_response_gets_zero_and_does_not_enter_the_baseline(
    estimator: AdvantageEstimator, drawn: list[float | None]
) -> None:
    found = estimator.advantages(drawn)
    graded = iter(estimator.advantages([reward for reward in drawn if reward is not None]))
    assert found == [0.0 if reward is None else next(graded) for reward in drawn]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(reward=st.floats(0, 1), size=st.integers(0, 40), ungraded=st.integers(0, 3))
def test_equal_rewards_give_exactly_zero(
    estimator: AdvantageEstimator, reward: float, size: int, ungraded: int
) -> None:
    """The mean of 0.1, 0.1 and 0.1 is not 0.1 in floating point: a rounding error must not become a gradient."""
    drawn = [None] * ungraded + [reward] * size
    assert estimator.advantages(drawn) == [0.0] * len(drawn)


def test_three_tenths_would_betray_a_mean_taken_in_floating_point() -> None:
    assert sum([0.1] * 3) / 3 != 0.1
    for estimator in ESTIMATORS:
        assert estimator.advantages([0.1] * 3) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_group_of_one_or_none_learns_nothing(estimator: AdvantageEstimator) -> None:
    assert estimator.advantages([1.0]) == [0.0]
    assert estimator.advantages([1.0, None]) == [0.0, 0.0]
    assert estimator.advantages([None, None]) == [0.0, 0.0]
    assert estimator.advantages([]) == []


@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(drawn=rewards)
def test_advantages_add_up_to_zero_and_keep_the_order_of_rewards(
    estimator: AdvantageEstimator, drawn: list[float]
) -> None:
    found = estimator.advantages(drawn)
    assert sum(found) == pytest.approx(0, abs=1e-9)
    by_reward = sorted(range(len(drawn)), key=lambda i: drawn[i])
    assert [found[i] for i in by_reward] == pytest.approx(sorted(found), abs=1e-9)
