"""Credit within a response: critical step, segments between reset groups, states shared by siblings."""

from collections import Counter
from dataclasses import replace
from statistics import stdev
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.engines import Purpose
from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import PolicyGradient, Siblings
from gpo_lightning.experience.actions import ActionBatch
from gpo_lightning.experience.advantages import GroupMean
from gpo_lightning.experience.credit import Credit, FromCriticalStep, Segments
from gpo_lightning.rollouts import RolloutTree
from gpo_lightning.rollouts.tree import ValueCurve
from tests.conftest import tree_of


def built(tree: RolloutTree, credit: Credit, starts: Any = ("prompt",)) -> dict[tuple[int, ...], tuple[float, ...]]:
    """Advantages by response."""
    examples: Any = PolicyGradient(starts=starts, credit=credit).build([tree], Counter())
    return {its.row.context[2:] + its.row.actions: its.advantages for its in examples}


def test_a_failure_answers_from_its_critical_step_on_and_a_success_as_a_whole() -> None:
    tree = tree_of([((1, 2, 3, 4), 0, 0.0), ((1, 5, 6, 7), 0, 1.0), ((1, 8, 9, 9), 0, 0.0)])
    for tokens in ((1, 2, 3, 4), (1, 5, 6, 7)):
        tree.curves.append(ValueCurve(tokens, (0, 1, 2, 4), (0.5, 0.5, 0.0, 0.0), critical=1))
    found = built(tree, FromCriticalStep())
    right, *_, wrong = GroupMean().advantages([1.0, 0.0, 0.0])
    assert found[1, 2, 3, 4] == pytest.approx((0.0, wrong, wrong, wrong))
    assert found[1, 5, 6, 7] == pytest.approx((right,) * 4)
    assert found[1, 8, 9, 9] == pytest.approx((wrong,) * 4), "it was not searched"


def test_a_parent_has_two_segments_whose_border_is_worth_the_mean_of_the_group_that_started_there() -> None:
    resets = [((1, 2, 30 + i), 2, float(i < 3)) for i in range(4)]
    tree = tree_of([((1, 2, 3, 4), 0, 0.0), ((5, 6, 7, 8), 0, 1.0), *resets])
    unit = stdev([0.0, 1.0, 1.0, 1.0, 1.0, 0.0]) + 1e-4
    found = built(tree, Segments())
    assert found[1, 2, 3, 4] == pytest.approx((0.25 / unit, 0.25 / unit, -0.75 / unit, -0.75 / unit))
    assert found[5, 6, 7, 8] == pytest.approx((GroupMean().advantages([0.0, 1.0])[1],) * 4)


def test_a_group_of_failures_teaches_what_a_reset_shows_and_nothing_where_it_shows_nothing() -> None:
    failures = [((1, 2, 3), 0, 0.0), ((4, 5, 6), 0, 0.0)]
    shown = built(tree_of([*failures, *[((1, 30 + i), 1, float(i < 2)) for i in range(4)]]), Segments())
    assert shown[1, 2, 3][0] > 0 > shown[1, 2, 3][1]
    assert shown[4, 5, 6] == (0.0, 0.0, 0.0)
    assert built(tree_of([*failures, *[((1, 30 + i), 1, 0.0) for i in range(4)]]), Segments()) == {}
    assert built(tree_of([*failures, ((1, 30), 1, 1.0)]), Segments()) == {}, "one reset tells no value"


def test_siblings_in_one_state_share_their_outcomes() -> None:
    tree = tree_of([])
    for i, (first, reward) in enumerate([("good", 1.0), ("good", 1.0), ("good", 0.0), ("bad", 0.0)]):
        sample = tree_of([((10 + i, 20 + i, 30 + i), 0, reward)]).samples[0]
        tree.add(replace(sample, states=((1, first), (2, f"{first}{reward}"))))
    unit = stdev([1.0, 1.0, 0.0, 0.0]) + 1e-4
    found = built(tree, Siblings())
    good = (2 / 3 - 1 / 2) / unit
    assert found[10, 20, 30] == pytest.approx((good, (1 / 3) / unit, 0.0))
    assert found[12, 22, 32] == pytest.approx((good, -(2 / 3) / unit, 0.0)), "a good start, then a mistake"
    assert found[13, 23, 33] == pytest.approx((-0.5 / unit, 0.0, 0.0)), "it was lost after its first token"


def test_without_states_siblings_are_one_as_long_as_their_tokens_are() -> None:
    tree = tree_of([((1, 2, 3), 0, 1.0), ((1, 2, 4), 0, 0.0), ((1, 5, 5), 0, 0.0), ((6, 6, 6), 0, 0.0)])
    unit = stdev([1.0, 0.0, 0.0, 0.0]) + 1e-4
    found = built(tree, Siblings())
    expected = ((1 / 3 - 1 / 4) / unit, (1 / 2 - 1 / 3) / unit, (1 - 1 / 2) / unit)
    assert found[1, 2, 3] == pytest.approx(expected)
    assert found[6, 6, 6] == pytest.approx((-0.25 / unit, 0.0, 0.0))


responses = st.lists(
    st.tuples(st.lists(st.integers(1, 3), min_size=5, max_size=5).map(tuple), st.sampled_from([0.0, 1.0])),
    min_size=2,
    max_size=8,
)


@given(responses)
def test_the_advantages_of_a_responses_segments_add_up_to_its_reward_less_the_groups_mean(
    drawn: list[tuple[tuple[int, ...], float]],
) -> None:
    tree = tree_of([((*tokens, 100 + i), 0, reward) for i, (tokens, reward) in enumerate(drawn)])
    rewards = [reward for _, reward in drawn]
    if len(set(rewards)) < 2:
        return
    mean, unit = sum(rewards) / len(rewards), stdev(rewards) + 1e-4
    for tokens, advantages in built(tree, Siblings()).items():
        reward = rewards[tokens[-1] - 100]
        assert sum(advantages) == pytest.approx((reward - mean) / unit)


def test_the_responses_own_advantage_can_be_added() -> None:
    tree = tree_of([((1, 2), 0, 1.0), ((1, 3), 0, 0.0)])
    alone, both = built(tree, Siblings()), built(tree, Siblings(outcome=0.5))
    own = GroupMean().advantages([1.0, 0.0])[0]
    assert both[1, 2] == pytest.approx(tuple(value + 0.5 * own for value in alone[1, 2]))


def test_groups_at_the_frontier_are_those_that_resets_started_apart_from_critical_steps_and_probes() -> None:
    tree = tree_of([((1, 2, 3), 0, 1.0), ((1, 2, 4), 0, 0.0)])
    for start, purpose in ((1, Purpose.RESET), (2, Purpose.PROBE)):
        for i in range(2):
            sample = tree_of([((1, 2, 7 + i), start, float(i))]).samples[0]
            tree.add(replace(sample, purpose=purpose))
    assert set(built(tree, Siblings(), ("frontier",))) == {(1, 2, 7), (1, 2, 8)}
    examples: Any = PolicyGradient(starts=("probe",)).build([tree], Counter())
    assert {its.row.context[2:] for its in examples} == {(1, 2)}


def test_a_loss_that_estimates_advantages_anew_refuses_credit_that_it_would_lose() -> None:
    batch: Any = ActionBatch.__new__(ActionBatch)
    with pytest.raises(ConfigError, match=r"data\.experience\.credit is Siblings"):
        PolicyGradient(credit=Siblings()).reestimate([batch], [torch.zeros(1)])
