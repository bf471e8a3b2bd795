"""Tree sampling: where responses branch, that trunk and branches are learnt once, and by unbiased credit."""

from collections import Counter
from random import Random
from statistics import mean
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.critical import Newline, NoSearch
from gpo_lightning.engines import Purpose, Sampling, Transformers
from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import PolicyGradient, Segments
from gpo_lightning.experience.actions import ActionExample
from gpo_lightning.policy import Policy
from gpo_lightning.problems import ModularChains
from gpo_lightning.rollouts import Branches, RolloutLoop, RolloutPlan
from gpo_lightning.rollouts.starts import Attempts
from tests.conftest import tree_of

STEPS = 6


def attempts(rewards: list[float | None]) -> Attempts:
    """Responses of one token a step; the first token says which response it is."""
    drawn = [((200 + i, *range(1, STEPS)), 0, reward) for i, reward in enumerate(rewards)]
    return Attempts(tree_of(drawn), lambda sample: tuple(range(len(sample.tokens) + 1)))


@given(st.lists(st.sampled_from([0.0, 1.0, None]), min_size=1, max_size=8), st.integers(1, 8), st.integers(0, 99))
def test_graded_responses_branch_inside_and_at_places_that_do_not_depend_on_the_outcome(
    rewards: list[float | None], parents: int, seed: int
) -> None:
    found = Branches(parents).prefixes(attempts(rewards), Random(seed))
    graded = [200 + i for i, reward in enumerate(rewards) if reward is not None]
    assert len(found) == min(parents, len(graded))
    assert {prefix[0] for prefix in found} <= set(graded)
    assert all(0 < len(prefix) < STEPS for prefix in found)
    other = [None if reward is None else 1 - reward for reward in rewards]
    assert found == Branches(parents).prefixes(attempts(other), Random(seed))


def test_a_response_of_one_step_has_no_place_to_branch_at() -> None:
    one = Attempts(tree_of([((1, 2, 3), 0, 1.0)]), lambda sample: (0, 3), counts=Counter())
    assert Branches().prefixes(one, Random(0)) == []
    assert one.counts == {"no_start_inside": 1}
    with pytest.raises(ConfigError, match="parents is 0"):
        Branches(0)


def test_trunks_and_branches_are_each_learnt_once_and_trunks_by_what_their_branches_are_worth(
    tiny_policy: Policy,
) -> None:
    source, engine = ModularChains(steps=4, train_size=24, heldout_size=1), Transformers()
    engine.start(tiny_policy)
    plan, sampling = RolloutPlan(problems=24, group_size=4, resets=4), Sampling(max_tokens=40)
    its = RolloutLoop(
        engine, tiny_policy.tokenizer, source, plan, sampling, Newline(min_tokens=1), NoSearch(), starts=Branches(2)
    )
    rollouts = its.run(tiny_policy, source.train())
    builder = PolicyGradient(credit=Segments(), keep_uniform=True)
    examples = cast(list[ActionExample], builder.build(rollouts.trees, Counter()))
    drawn = sum(len(sample.tokens) - sample.start for tree in rollouts.trees for sample in tree.samples)
    assert sum(len(example.row.actions) for example in examples) == drawn
    assert engine.ledger.accounts[Purpose.RESET].generated > 0

    branched = 0
    for tree in rollouts.trees:
        rewards = [tree.samples[i].reward or 0.0 for i in tree.trajectories]
        value = mean(rewards)
        for example in cast(list[ActionExample], builder.build([tree], Counter())):
            actions = example.row.actions
            own = [tree.samples[i] for i in tree.trajectories if tree.samples[i].tokens == actions]
            starts = [its.start for its in tree.samples if its.start]
            places = {start for start in starts if tree.group(actions[:start])}
            if example.row.context != tree.prompt or len(own) != 1 or len(places) != 1:
                continue
            worth = mean(tree.samples[i].reward or 0.0 for i in tree.group(actions[: min(places)]))
            trunk, rest = example.advantages[0], example.advantages[-1]
            assert trunk * ((own[0].reward or 0.0) - worth) == pytest.approx(rest * (worth - value))
            branched += 1
    assert branched > 4
