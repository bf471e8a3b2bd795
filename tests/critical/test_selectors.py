from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning import critical
from gpo_lightning.critical import (
    MaxAbsAdvantage,
    MaxAdvantage,
    MaxValue,
    MaxVariance,
    MinAdvantage,
    RandomStep,
    Selector,
)
from tests.of_the_package import offered

VALUES = (0.5, 0.6, 0.2, 0.9, 0.0)


@pytest.mark.parametrize(
    ("selector", "step"),
    [
        (MaxAdvantage(), 2),
        (MaxAbsAdvantage(), 3),
        (MinAdvantage(), 3),
        (MaxValue(), 3),
        (MaxVariance(), 0),
    ],
)
def test_each_selector_on_one_curve(selector: Selector, step: int) -> None:
    assert selector.select(VALUES, Random(0)) == step


@pytest.mark.parametrize("selector", [MaxAdvantage(), MaxAbsAdvantage(), MinAdvantage(), MaxValue(), MaxVariance()])
def test_of_equals_the_earliest_is_taken(selector: Selector) -> None:
    assert selector.select((0.5, 0.5, 0.5, 0.5), Random(0)) == 0


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.integers())
def test_every_selector_names_a_step_of_the_trajectory(values, seed) -> None:
    for selector in (MaxAdvantage(), MaxAbsAdvantage(), MinAdvantage(), MaxValue(), MaxVariance(), RandomStep()):
        assert 0 <= selector.select(values, Random(seed)) < len(values) - 1


def test_random_reaches_every_step() -> None:
    draw = Random(0)
    assert {RandomStep().select(VALUES, draw) for _ in range(100)} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "selector", [selector() for selector in offered(critical, Selector)], ids=lambda s: type(s).__name__
)
@given(values=st.lists(st.floats(0, 1), min_size=2, max_size=9), seed=st.integers(0, 9))
def test_every_selector_of_the_package_chooses_a_step(selector: Selector, values: list[float], seed: int) -> None:
    assert 0 <= selector.select(values, Random(seed)) < len(values) - 1
