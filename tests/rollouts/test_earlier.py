"""Successes of earlier iterations: what is kept of them, and the groups that start from them."""

import json
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.critical import NoSearch
from gpo_lightning.engines import Purpose
from gpo_lightning.experience import PolicyGradient
from gpo_lightning.problems import Problem
from gpo_lightning.rollouts import Frontier, RolloutPlan, RolloutTree, Sample
from gpo_lightning.rollouts.earlier import Earlier, EarlierSuccesses
from tests.rollouts.test_loop import EOS, Pivots, explorer
from tests.rollouts.test_starts import STEPS, attempts


def solved(name: str, right: int = 1, wrong: int = 7, token: int = 5) -> RolloutTree:
    """A problem with a group of some right responses and some wrong ones."""
    tree = RolloutTree(Problem(name, "t", "1", prompt="?"), (1,))
    for i in range(right + wrong):
        tree.add(Sample((token, i, EOS), 0, (-0.5,) * 3, float(i < right), "x", False, Purpose.SAMPLE, 3))
    return tree


class TestWhatIsKept:
    def test_a_success_of_each_problem_with_the_rate_of_its_group(self) -> None:
        kept = EarlierSuccesses()
        kept.add([solved("a", right=2, wrong=6), solved("b", right=0)], iteration=0)
        (only,) = kept.before(1)
        assert (only.problem.id, only.sample.tokens, only.rate, only.iteration) == ("a", (5, 0, EOS), 0.25, 0)

    def test_the_newest_success_of_a_problem_takes_the_place_of_an_older_one(self) -> None:
        kept = EarlierSuccesses()
        for iteration in range(3):
            kept.add([solved("a", token=5 + iteration), solved(f"b{iteration}")], iteration)
        assert [(its.problem.id, its.iteration) for its in kept.before(3)] == [
            ("b0", 0),
            ("b1", 1),
            ("a", 2),
            ("b2", 2),
        ]

    def test_no_more_than_the_bound(self) -> None:
        kept = EarlierSuccesses(most=3)
        for iteration in range(9):
            kept.add([solved(f"p{iteration}")], iteration)
            assert len(kept.state_dict()) <= 4, "the bound, and what the present iteration found"
        assert [its.problem.id for its in kept.before(9)] == ["p6", "p7", "p8"]

    def test_resets_and_given_solutions_are_no_successes_of_the_prompt(self) -> None:
        tree = solved("a", right=0)
        tree.add(Sample((5, 9, EOS), 1, (-0.5,) * 2, 1.0, "x", False, Purpose.RESET, 3))
        tree.add(Sample((6, 9, EOS), 0, (), 1.0, "given", False, Purpose.SOLUTION, 3))
        kept = EarlierSuccesses()
        kept.add([tree], 0)
        assert kept.before(1) == []

    @given(found=st.lists(st.lists(st.sampled_from("abcdef"), max_size=3), max_size=8), most=st.integers(1, 4))
    def test_an_iteration_that_is_made_again_finds_what_it_found_the_first_time(
        self, found: list[list[str]], most: int
    ) -> None:
        kept = EarlierSuccesses(most)
        for iteration, names in enumerate(found):
            before = kept.before(iteration)
            kept.add([solved(name) for name in names], iteration)
            assert kept.before(iteration) == before
            state = kept.state_dict()
            kept.add([solved(name) for name in names], iteration)
            assert kept.state_dict() == state

    @given(found=st.lists(st.lists(st.sampled_from("abc"), max_size=3, unique=True), max_size=4))
    def test_a_checkpoint_carries_it_whole(self, found: list[list[str]]) -> None:
        kept, again = EarlierSuccesses(), EarlierSuccesses()
        for iteration, names in enumerate(found):
            kept.add([solved(name) for name in names], iteration)
        state = json.loads(json.dumps(kept.state_dict()))
        again.load_state_dict(state, {name: Problem(name, "t", "1", prompt="?") for name in "abc"})
        known = [(its.problem, its.sample.tokens, its.sample.logprobs, its.rate) for its in kept.before(9)]
        assert known == [(its.problem, its.sample.tokens, its.sample.logprobs, its.rate) for its in again.before(9)]
        assert again.state_dict() == kept.state_dict()

    def test_successes_of_problems_that_are_no_more_are_given_up(self) -> None:
        kept = EarlierSuccesses()
        kept.add([solved("a"), solved("b")], 0)
        state = kept.state_dict()
        kept.load_state_dict(state, {"b": Problem("b", "t", "1", prompt="?")})
        assert [its.problem.id for its in kept.before(1)] == ["b"]


def earlier(name: str, rate: float = 0.125) -> Earlier:
    sample = Sample((400, *range(1, STEPS)), 0, (-0.1,) * STEPS, 1.0, "x", False, Purpose.SAMPLE, 0)
    return Earlier(Problem(name, "t", "1", prompt="?"), sample, rate, 0)


class TestFrontier:
    """Which of them a group starts from, and where."""

    starts = Frontier(sources=["success", "earlier"])

    def test_a_success_of_now_comes_first_then_one_of_an_earlier_iteration_at_the_same_problem(self) -> None:
        its = attempts(1, 7, None)
        object.__setattr__(its, "earlier", earlier("p").sample)
        assert self.starts.prefixes(its, Random(0)) == [(200, 1, 2, 3, 4)]
        its = attempts(0, 8, None)
        object.__setattr__(its, "earlier", earlier("p").sample)
        assert self.starts.prefixes(its, Random(0)) == [(400, 1, 2, 3, 4, 5)]
        assert its.counts["place_lent"] == 0

    @pytest.mark.parametrize(("right", "wrong", "lent"), [(0, 8, 1), (1, 7, 0), (4, 4, 0), (8, 0, 0)])
    def test_only_a_group_that_fails_as_a_whole_lends_its_place(self, right: int, wrong: int, lent: int) -> None:
        its = attempts(right, wrong, None)
        self.starts.prefixes(its, Random(0))
        assert its.counts["place_lent"] == lent

    def test_as_many_places_are_taken_as_were_lent_each_by_another_problem(self) -> None:
        known = [earlier(f"p{i}") for i in range(5)]
        found = self.starts.elsewhere(3, known, lambda sample: tuple(range(STEPS + 1)), Random(0))
        assert len({problem.id for problem, _ in found}) == 3
        assert [prefixes for _, prefixes in found] == [[(400, 1, 2, 3, 4)]] * 3, "the rule's depth at 1 in 8"
        assert len(self.starts.elsewhere(9, known, lambda sample: tuple(range(STEPS + 1)), Random(0))) == 5

    def test_problems_that_were_easy_are_not_asked_again(self) -> None:
        known = [earlier("easy", rate=0.5)]
        assert self.starts.elsewhere(3, known, lambda sample: tuple(range(STEPS + 1)), Random(0)) == []

    def test_without_earlier_among_the_sources_nothing_is_kept_or_lent(self) -> None:
        its = attempts(0, 8, None)
        assert not Frontier(sources=["success"]).remembers
        Frontier(sources=["success"]).prefixes(its, Random(0))
        assert "place_lent" not in its.counts


def rarely(tokens: tuple[int, ...]) -> Mapping[int, float]:
    """Five lines, of which the third and the fifth must be good; both rarely are."""
    written = tokens[1:]
    if len(written) in (2, 4):
        return {4: 0.25, 5: 0.75}
    if len(written) < 5:
        return {3: 1.0}
    return {6 if 5 not in written else 7: 1.0} if len(written) == 5 else {EOS: 1.0}


def runner() -> Any:
    return explorer(
        RolloutPlan(group_size=8, resets=6), NoSearch(), policy=rarely, starts=Frontier(sources=["success", "earlier"])
    )


def test_groups_that_fail_lend_their_places_to_problems_that_were_solved() -> None:
    problems, kept, loop = Pivots().train(), EarlierSuccesses(), runner()
    first = loop.explore(problems[:20], 0, earlier=kept.before(0))
    assert first.counts["recalled_group"] == 0
    kept.add(first.trees, 0)
    assert kept.before(1)

    second = loop.explore(problems[20:], 1, earlier=kept.before(1))
    rare = {its.problem.id for its in kept.before(1) if its.rate <= 0.125}
    recalled = [tree for tree in second.trees if tree.problem.id in rare]
    assert len(recalled) == second.counts["recalled_group"] == min(second.counts["place_lent"], len(rare)) > 2
    for tree in recalled:
        assert tree.trajectories == [], "nothing is drawn from their prompt"
        assert len(tree.samples) == 6
        assert all(its.purpose is Purpose.RESET and its.start and 5 not in its.prefix for its in tree.samples)
    assert any(group.tree in recalled for group in PolicyGradient().groups(second.trees))
    assert PolicyGradient().build(recalled, Counter()), "they are learnt from"


def test_what_is_recalled_follows_from_seed_and_iteration() -> None:
    problems, kept = Pivots().train(), EarlierSuccesses()
    kept.add(runner().explore(problems[:20], 0).trees, 0)
    made = [[t.samples for t in runner().explore(problems[20:], 1, earlier=kept.before(1)).trees] for _ in range(2)]
    assert made[0] == made[1]
