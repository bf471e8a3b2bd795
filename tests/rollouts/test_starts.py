"""Where groups start: by rule at the frontier, at critical steps, before the first mistake, or at the prompt alone."""

from dataclasses import replace
from math import isclose
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.engines import Purpose
from gpo_lightning.errors import ConfigError
from gpo_lightning.rollouts import FirstMistake, Frontier, Sample, frontier_depth
from gpo_lightning.rollouts.starts import Attempts, Critical, PromptOnly
from gpo_lightning.rollouts.tree import ValueCurve
from tests.conftest import tree_of

STEPS = 8
SOLUTION = Sample(tuple(range(100, 100 + STEPS)), 0, (), 1.0, "given", False, Purpose.SOLUTION, 0)


def attempts(right: int, wrong: int, solution: Sample | None = SOLUTION) -> Attempts:
    """Responses of one token a step; the first token says which response it is."""
    drawn = [((200 + i, *range(1, STEPS)), 0, 1.0) for i in range(right)]
    drawn += [((300 + i, *range(1, STEPS)), 0, 0.0) for i in range(wrong)]
    return Attempts(
        tree_of(drawn), lambda sample: tuple(range(len(sample.tokens) + 1)), lambda: solution, lambda sample: 3
    )


@given(st.integers(2, 40), st.floats(0.001, 0.999))
def test_if_all_steps_are_equally_hard_the_rest_after_the_frontier_succeeds_about_half_of_the_time(
    steps: int, success: float
) -> None:
    depth = frontier_depth(steps, success)
    assert 0 <= depth < steps
    step = success ** (1 / steps)
    if success >= 0.5:
        assert depth == 0
    elif depth < steps - 1:
        assert step**0.51 * 0.5 <= success ** (1 - depth / steps) <= 0.5 / step**0.51


@pytest.mark.parametrize(("right", "wrong", "depth"), [(0, 8, 6), (1, 7, 5)])
def test_a_group_that_rarely_succeeds_moves_to_the_reference_solution_at_the_depth_of_the_rule(
    right: int, wrong: int, depth: int
) -> None:
    assert Frontier().prefixes(attempts(right, wrong), Random(0)) == [SOLUTION.tokens[:depth]]


@pytest.mark.parametrize("right", range(2, 7))
def test_a_group_in_between_stays_at_the_prompt(right: int) -> None:
    assert Frontier().prefixes(attempts(right, 8 - right), Random(0)) == []


def test_without_a_reference_solution_an_own_success_is_taken_and_without_either_nothing() -> None:
    assert Frontier().prefixes(attempts(1, 7, None), Random(0)) == [(200, 1, 2, 3, 4)]
    assert Frontier().prefixes(attempts(0, 8, None), Random(0)) == []
    assert Frontier(sources=["failure"]).prefixes(attempts(0, 1, None), Random(0)) == []


def test_a_group_that_nearly_always_succeeds_starts_from_a_failure() -> None:
    assert Frontier().prefixes(attempts(7, 1), Random(0)) == [(300, 1, 2, 3, 4)]
    assert Frontier().prefixes(attempts(8, 0), Random(0)) == [], "there is no failure to start from"
    assert Frontier(high=1.5).prefixes(attempts(7, 1), Random(0)) == []


def test_several_groups_start_at_depths_around_the_rule_and_never_at_the_prompt_or_the_end() -> None:
    found = Frontier(groups=3).prefixes(attempts(0, 8), Random(0))
    assert sorted(map(len, found)) == [5, 6, 7]
    found = Frontier(groups=9).prefixes(attempts(0, 8), Random(0))
    assert sorted(map(len, found)) == [2, 3, 4, 5, 6, 7]


def test_ungraded_responses_say_nothing() -> None:
    ungraded = Attempts(tree_of([((1, 2, 3), 0, None)]), lambda sample: (0, 1, 2, 3), lambda: SOLUTION)
    assert ungraded.success is None
    assert Frontier().prefixes(ungraded, Random(0)) == []
    assert FirstMistake().prefixes(ungraded, Random(0)) == []


def test_the_oracle_starts_before_the_first_mistake_of_a_failure() -> None:
    assert FirstMistake().prefixes(attempts(7, 1), Random(0)) == [(300, 1, 2)]
    assert FirstMistake().prefixes(attempts(8, 0), Random(0)) == []
    unchecked = attempts(7, 1)
    assert FirstMistake().prefixes(Attempts(unchecked.tree, unchecked.boundaries), Random(0)) == []


def test_the_papers_starts_are_the_critical_prefixes_of_what_was_searched() -> None:
    its = attempts(1, 1)
    its.tree.curves.append(ValueCurve((200, *range(1, STEPS)), tuple(range(STEPS + 1)), (0.5,) * 9, 4))
    assert Critical().prefixes(its, Random(0)) == [(200, 1, 2, 3)]
    assert PromptOnly().prefixes(its, Random(0)) == []
    assert [starts.searches for starts in (Critical(), PromptOnly(), Frontier())] == [True, False, False]


@pytest.mark.parametrize(
    "wrong", [{"low": 0.9, "high": 0.1}, {"target": 0.0}, {"target": 1.0}, {"groups": 0}, {"sources": []}]
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"data\.starts"):
        Frontier(**wrong)  # pyright: ignore[reportArgumentType]


def test_success_is_the_mean_success_of_the_group_at_the_prompt_whatever_the_rewards() -> None:
    assert isclose(attempts(3, 5).success or 0, 3 / 8)
    tree = tree_of([((200 + i, *range(1, STEPS)), 0, 0.0) for i in range(8)])
    shaped = [
        replace(sample, reward=2.5 if i < 4 else -1.0, success=float(i < 4)) for i, sample in enumerate(tree.samples)
    ]
    tree.samples[:] = shaped
    assert Attempts(tree, lambda sample: tuple(range(len(sample.tokens) + 1))).success == 0.5
    assert Frontier().prefixes(Attempts(tree, lambda sample: ()), Random(0)) == [], "half succeed: nothing to move"
