"""The explorer on a scripted policy, whose success probability at every prefix is known."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from statistics import mean
from typing import Any

import pytest

from gpo_lightning.critical import (
    ChangePoint,
    Exhaustive,
    MaxAdvantage,
    MinAdvantage,
    Newline,
    NoSearch,
    RandomStep,
    Segmenter,
)
from gpo_lightning.engines import Purpose, Sampling, Scripted
from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation.labelled_errors import errors_found
from gpo_lightning.experience import PolicyGradient
from gpo_lightning.experience.groups import Group, groups
from gpo_lightning.problems import LabelledTrajectory, Parities, Problem, ProblemSource
from gpo_lightning.rewards import Grade, Grader, MarkedAnswer
from gpo_lightning.rollouts import FirstMistake, Frontier, RolloutLoop, RolloutPlan
from gpo_lightning.rollouts.starts import PromptOnly, StartStates

EOS = 2
LINES = 5
PIVOT = 2
"""The policy writes five lines; on the third it chooses good or bad, and that alone decides the answer."""


class Words:
    """Tokens are words: 3 a plain line, 4 a good one, 5 a bad one, 6 the right answer, 7 a wrong one."""

    texts: Mapping[int, str] = {EOS: "", 3: "line\n", 4: "good\n", 5: "bad\n", 6: "#1", 7: "#0", 8: "row\n", 9: "#2"}
    chat_template = None
    name_or_path = "words"

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        words = {word: token for token, word in self.texts.items()}
        return [words[text]] if text in words else [3] * len(text)

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return "".join(self.texts[i] for i in ids)


class Pivots(ProblemSource):
    def __init__(self, grader: Grader | None = None) -> None:
        self._grader = grader or MarkedAnswer("#")

    def train(self) -> list[Problem]:
        return [Problem(f"p{i}", "pivot", "1", prompt="?") for i in range(40)]

    def heldout(self) -> list[Problem]:
        return []

    @property
    def grader(self) -> Grader:
        return self._grader


def pivot_policy(tokens: tuple[int, ...]) -> Mapping[int, float]:
    written = tokens[1:]
    if len(written) == PIVOT:
        return {4: 0.5, 5: 0.5}
    if len(written) < LINES:
        return {3: 1.0}
    if len(written) == LINES:
        good = written[PIVOT] == 4
        return {6: 0.95, 7: 0.05} if good else {6: 0.05, 7: 0.95}
    return {EOS: 1.0}


def explorer(
    plan: RolloutPlan, search: Any = None, selector: Any = None, source: Any = None, **kwargs: Any
) -> RolloutLoop:
    engine = Scripted(kwargs.pop("policy", pivot_policy), eos=EOS, context=kwargs.pop("context", 100))
    return RolloutLoop(
        engine,
        Words(),  # type: ignore[arg-type]
        source or Pivots(),
        plan,
        Sampling(max_tokens=20),
        Newline(min_tokens=1),
        search or Exhaustive(8),
        selector or MaxAdvantage(),
        **kwargs,
    )


def test_exhaustive_search_finds_the_known_pivot() -> None:
    plan = RolloutPlan(group_size=8, reset_probability=1.0, explored=1)
    gains = explorer(plan).explore(Pivots().train(), 0)
    right = [c for tree in gains.trees for c in tree.curves if c.values[-1] == 1 and c.tokens[PIVOT] == 4]
    losses = explorer(plan, selector=MinAdvantage()).explore(Pivots().train(), 0)
    wrong = [c for tree in losses.trees for c in tree.curves if c.values[-1] == 0 and c.tokens[PIVOT] == 5]
    # With 8 probes a prefix the pivot of 0.45 is the largest change in most trajectories; by chance it would be 1 in 6.
    assert sum(c.critical == PIVOT for c in right) >= 0.75 * len(right) > 5
    assert sum(c.critical == PIVOT for c in wrong) >= 0.75 * len(wrong) > 5


def test_values_are_unbiased() -> None:
    plan = RolloutPlan(group_size=8, reset_probability=1.0, mixed_only=False)
    curves = [c for tree in explorer(plan).explore(Pivots().train(), 0).trees for c in tree.curves]
    before = [c.values[1] for c in curves]
    assert sum(before) / len(before) == pytest.approx(0.5, abs=0.08)
    good = [c.values[PIVOT + 1] for c in curves if c.tokens[PIVOT] == 4]
    assert sum(good) / len(good) == pytest.approx(0.95, abs=0.05)


def test_every_prefix_has_its_probes_and_none_more_than_asked() -> None:
    search = Exhaustive(5)
    plan = RolloutPlan(group_size=8, reset_probability=1.0, resets=0)
    made = explorer(plan, search).explore(Pivots().train()[:10], 0)
    for tree in made.trees:
        for curve in tree.curves:
            for boundary in curve.boundaries[1:-1]:
                prefix = curve.tokens[:boundary]
                assert tree.node(prefix).drawn >= search.samples
                assert len(tree.group(prefix)) <= search.samples


def test_probes_of_a_prefix_shared_by_two_trajectories_are_drawn_once() -> None:
    plan = RolloutPlan(group_size=8, reset_probability=1.0, explored=8, resets=0)
    made = explorer(plan, Exhaustive(4)).explore(Pivots().train()[:4], 0)
    for tree in made.trees:
        assert all(len(tree.group(s.prefix)) <= 4 for s in tree.samples if s.purpose is Purpose.PROBE)


def test_siblings_that_passed_through_a_prefix_spare_probes() -> None:
    """The first two lines never vary, so eight siblings have valued them already."""
    plan = RolloutPlan(group_size=8, reset_probability=1.0, resets=0)
    made = explorer(plan, Exhaustive(7)).explore(Pivots().train()[:6], 0)
    assert any(tree.curves for tree in made.trees)
    assert all(not tree.group(c.tokens[:b]) for tree in made.trees for c in tree.curves for b in c.boundaries[1:PIVOT])


def test_resets_keep_the_prefix_and_reuse_its_probes() -> None:
    plan = RolloutPlan(group_size=8, reset_probability=1.0, resets=10)
    made = explorer(plan, Exhaustive(12)).explore(Pivots().train()[:10], 0)
    curves = [(tree, curve) for tree in made.trees for curve in tree.curves]
    assert curves
    for tree, curve in curves:
        prefix = curve.critical_prefix
        group = [tree.samples[i] for i in tree.group(prefix)]
        assert len(group) == 10
        assert all(sample.tokens[: len(prefix)] == prefix for sample in group)
        assert all(len(sample.logprobs) == len(sample.tokens) - len(prefix) for sample in group)
    probes = [
        i for tree, c in curves for i in tree.group(c.critical_prefix) if tree.samples[i].purpose is Purpose.PROBE
    ]
    assert probes


def test_tokens_in_trees_add_up_to_the_ledger() -> None:
    subject = explorer(RolloutPlan(group_size=4, reset_probability=1.0))
    made = subject.explore(Pivots().train()[:10], 0)
    held: Counter[str] = Counter()
    for sample in (s for tree in made.trees for s in tree.samples):
        held[str(sample.purpose)] += len(sample.tokens) - sample.start
    booked = {p: c["generated"] for p, c in subject.engine.ledger.state_dict().items() if c["generated"]}
    assert booked == dict(held)


def test_the_same_seed_gives_the_same_trees() -> None:
    def trees(seed: int) -> list[Any]:
        plan = RolloutPlan(group_size=4, reset_probability=0.5)
        return [(t.samples, t.curves) for t in explorer(plan, seed=seed).explore(Pivots().train()[:8], 3).trees]

    assert trees(1) == trees(1)
    assert trees(1) != trees(2)


def test_rounds_of_resets_go_on_until_right_and_wrong_answers_exist() -> None:
    plan = RolloutPlan(group_size=8, reset_probability=1.0, resets=4, reset_rounds=8)
    made = explorer(plan, Exhaustive(4)).explore(Pivots().train(), 0)
    groups = [
        [tree.samples[i].reward for i in tree.group(c.critical_prefix)] for tree in made.trees for c in tree.curves
    ]
    assert any(len(group) > 4 for group in groups)
    assert all(len(set(group)) == 2 or len(group) == 32 for group in groups)


def test_random_reset_costs_no_probe() -> None:
    plan = RolloutPlan(group_size=8, reset_probability=1.0)
    subject = explorer(plan, NoSearch(), RandomStep())
    made = subject.explore(Pivots().train()[:10], 0)
    assert any(tree.curves for tree in made.trees)
    assert subject.engine.ledger.accounts[Purpose.PROBE].generated == 0


@pytest.mark.parametrize(("explore", "rewards"), [("failed", {0.0}), ("all", {0.0, 1.0})])
def test_which_trajectories_are_explored(explore: Any, rewards: set[float]) -> None:
    plan = RolloutPlan(group_size=8, reset_probability=1.0, explore=explore)
    made = explorer(plan).explore(Pivots().train(), 0)
    assert {c.values[-1] for tree in made.trees for c in tree.curves} == rewards


class TestBadInput:
    """Each has a rule, is counted, and stops nothing."""

    def test_prompt_that_does_not_fit(self) -> None:
        made = explorer(RolloutPlan(group_size=2), context=1).explore(Pivots().train()[:3], 0)
        assert made.trees == []
        assert made.counts["prompt_too_long"] == 3

    def test_response_of_one_step(self) -> None:
        plan = RolloutPlan(group_size=8, reset_probability=1.0)
        made = explorer(plan, policy=lambda t: {6: 0.5, 7: 0.5} if len(t) == 1 else {EOS: 1.0}).explore(
            Pivots().train()[:5], 0
        )
        assert not any(tree.curves for tree in made.trees)
        assert made.counts["single_step"] > 0

    def test_empty_response(self) -> None:
        plan = RolloutPlan(group_size=2, reset_probability=1.0, mixed_only=False)
        made = explorer(plan, policy=lambda t: {EOS: 1.0}).explore(Pivots().train()[:2], 0)
        assert made.counts["empty_response"] == 4
        assert made.counts["graded_unparsed"] == 4

    def test_group_without_any_success_or_failure(self) -> None:
        always = explorer(
            RolloutPlan(group_size=3, reset_probability=1.0), policy=lambda t: {6: 1.0} if len(t) == 1 else {EOS: 1.0}
        )
        made = always.explore(Pivots().train()[:2], 0)
        assert made.counts["undecidable_group"] == 2

    def test_grader_that_cannot_grade(self) -> None:
        class Silent(Grader):
            def grade(self, response: str, answer: str, metadata: Mapping[str, Any]) -> Grade:
                return Grade(None, "broken")

        plan = RolloutPlan(group_size=4, reset_probability=1.0, mixed_only=False)
        made = explorer(plan, source=Pivots(Silent())).explore(Pivots().train()[:3], 0)
        assert made.counts["ungraded"] == 12
        assert not any(tree.curves for tree in made.trees)

    def test_grader_that_fails_now_and_then_does_not_stall_the_search(self) -> None:
        class Moody(Grader):
            def __init__(self) -> None:
                self.calls = 0

            def grade(self, response: str, answer: str, metadata: Mapping[str, Any]) -> Grade:
                self.calls += 1
                return (
                    Grade(None, "moody") if self.calls % 3 == 0 else MarkedAnswer("#").grade(response, answer, metadata)
                )

        plan = RolloutPlan(group_size=6, reset_probability=1.0)
        made = explorer(plan, source=Pivots(Moody())).explore(Pivots().train()[:10], 0)
        assert made.counts["ungraded"] > 0
        assert any(tree.curves for tree in made.trees)

    def test_plan_that_cannot_be(self) -> None:
        with pytest.raises(ConfigError, match=r"data\.plan\.group"):
            RolloutPlan(group_size=0)
        with pytest.raises(ConfigError, match="reset_probability"):
            RolloutPlan(reset_probability=1.5)


class TestRefills:
    """Dynamic sampling: fresh problems in the place of those that everybody solves, or nobody."""

    PLAN = RolloutPlan(group_size=2, reset_probability=0.0, refills=4)
    """With two responses at even odds, half the groups are all right or all wrong."""

    def test_problems_are_drawn_until_enough_groups_are_mixed(self) -> None:
        problems = Pivots().train()
        made = explorer(self.PLAN).explore(problems[:6], 0, reserve=problems[6:])
        mixed = [tree for tree in made.trees if len({sample.reward for sample in tree.samples}) > 1]
        assert len(mixed) >= 6
        assert made.counts["refilled"] == len(made.trees) - 6 > 0
        assert len({tree.problem.id for tree in made.trees}) == len(made.trees), "no problem twice"

    def test_an_empty_reserve_ends_it(self) -> None:
        problems = Pivots().train()
        made = explorer(self.PLAN, policy=lambda tokens: {6: 1.0} if len(tokens) == 1 else {EOS: 1.0}).explore(
            problems[:3], 0, reserve=problems[3:8]
        )
        assert len(made.trees) == 8

    def test_without_a_reserve_nothing_is_refilled(self) -> None:
        made = explorer(self.PLAN).explore(Pivots().train()[:6], 0)
        assert len(made.trees) == 6
        assert made.counts["refilled"] == 0


class TestExamine:
    """The critical step of trajectories that somebody else wrote."""

    def given(self, count: int = 12) -> list[LabelledTrajectory]:
        steps = ("line\n", "line\n", "bad\n", "line\n", "line\n", "#0")
        return [LabelledTrajectory(problem, steps, 0.0, PIVOT) for problem in Pivots().train()[:count]]

    def test_the_mistake_is_found(self) -> None:
        runner = explorer(RolloutPlan(group_size=8), Exhaustive(16), MinAdvantage())
        made = runner.examine(self.given())
        assert [tree.curves[0].critical for tree in made.trees] == [PIVOT] * 12

    def test_hits_are_counted_over_trajectories_with_a_mistake(self) -> None:
        given = self.given()
        given[0] = replace(given[0], error=None)
        given[1] = replace(given[1], error=0)
        made = explorer(RolloutPlan(group_size=8), Exhaustive(16), MinAdvantage()).examine(given)
        found = errors_found(given, made.trees)
        assert (found.n, round(found.mean * found.n)) == (11, 10)
        assert round(errors_found(given, made.trees, within=2).mean * 11) == 11

    def test_a_given_trajectory_is_no_draw_of_the_policy(self) -> None:
        made = explorer(RolloutPlan(group_size=4), NoSearch(), MinAdvantage()).examine(self.given(3))
        for tree in made.trees:
            assert len(tree.trajectories) == 4
            assert tree.node(()).trials == 4
            assert not tree.curves[0].advantages[0]

    def test_prompts_that_do_not_fit_are_left_out(self) -> None:
        made = explorer(RolloutPlan(group_size=4), NoSearch(), MinAdvantage(), context=1).examine(self.given(3))
        assert made.trees == []
        assert made.counts["prompt_too_long"] == 3


def test_time_in_the_search_is_told_from_time_in_the_engine() -> None:
    made = explorer(RolloutPlan(group_size=8, reset_probability=1.0), ChangePoint()).explore(Pivots().train()[:10], 0)
    assert set(made.seconds.seconds) == {"sample", "probe", "search", "reset", "grade"}


class TestReuse:
    """Probes that chose the critical prefix are learnt from: what that does to estimates, and what it does not."""

    @staticmethod
    def aimless(tokens: tuple[int, ...]) -> Mapping[int, float]:
        """Five lines that decide nothing, then one of three answers, the first right."""
        if len(tokens) <= LINES:
            return {3: 0.5, 8: 0.5}
        return {6: 0.5, 7: 0.3, 9: 0.2} if len(tokens) == LINES + 1 else {EOS: 1.0}

    def groups(self) -> list[Group]:
        plan = RolloutPlan(problems=40, group_size=6, reset_probability=1.0, resets=12, mixed_only=False)
        made = [
            explorer(plan, Exhaustive(6), policy=self.aimless, seed=seed).explore(Pivots().train(), 0)
            for seed in range(10)
        ]
        return [group for rollouts in made for group in groups(rollouts.trees, ("critical",)) if group.prefix]

    def test_the_probes_that_chose_a_prefix_misjudge_its_value_and_fresh_resets_do_not(self) -> None:
        by_purpose: dict[Purpose, list[float]] = {Purpose.PROBE: [], Purpose.RESET: []}
        for group in self.groups():
            for sample in group.samples:
                by_purpose[sample.purpose].append(sample.reward or 0.0)
        assert mean(by_purpose[Purpose.PROBE]) < 0.45, "the value before the largest gain was estimated too low"
        assert mean(by_purpose[Purpose.RESET]) == pytest.approx(0.5, abs=0.03)

    def test_the_group_s_own_baseline_keeps_the_direction_of_the_gradient(self) -> None:
        pulls: dict[int, float] = dict.fromkeys((6, 7, 9), 0.0)
        for group in self.groups():
            probes = [sample for sample in group.samples if sample.purpose is Purpose.PROBE]
            baseline = mean(sample.reward or 0.0 for sample in probes)
            for sample in probes:
                pulls[sample.tokens[-2]] += (sample.reward or 0.0) - baseline
        # The covariance of reward and answer, E[r 1(y)] - E[r] P(y), is 0.25, -0.15, -0.10.
        assert pulls[7] / pulls[6] == pytest.approx(-0.6, abs=0.06)
        assert pulls[9] / pulls[6] == pytest.approx(-0.4, abs=0.06)


class Chained(Words):
    """One token a character, so that checked problems can be written; token ids are their code points."""

    eos_token_id = EOS

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(c) for c in text]

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return "".join(chr(i) for i in ids if i != EOS)


class TestStarts:
    """Parities by a policy that is right in every line but the second, where it is wrong once in four times."""

    source = Parities(steps=4, train_size=12)

    def rollouts(self, starts: StartStates, wrong: float, segmenter: Segmenter = Newline(min_tokens=1)) -> Any:
        right = {p.prompt: f"{p.solution}" for p in self.source.train()}

        def policy(tokens: tuple[int, ...]) -> Mapping[int, float]:
            prompt, _, written = "".join(map(chr, tokens)).partition("\n")
            solution = right[f"{prompt}\n"]
            if len(written) == len(solution):
                return {EOS: 1.0}
            token = ord(solution[len(written)])
            return {token: 1 - wrong, token ^ 1: wrong} if len(written) == 4 else {token: 1.0}

        loop = RolloutLoop(
            Scripted(policy, eos=EOS),
            Chained(),  # pyright: ignore[reportArgumentType]
            self.source,
            RolloutPlan(problems=12, group_size=8, resets=4),
            Sampling(max_tokens=40),
            segmenter,
            NoSearch(),
            MaxAdvantage(),
            starts=starts,
        )
        return loop.explore(self.source.train(), 0)

    def test_groups_that_fail_start_anew_within_the_reference_solution_and_nothing_is_searched(self) -> None:
        rollouts = self.rollouts(Frontier(), wrong=1.0)
        assert rollouts.counts["moved_group"] == 12
        for tree in rollouts.trees:
            assert not tree.curves
            assert not any(sample.purpose is Purpose.PROBE for sample in tree.samples)
            resets = [sample for sample in tree.samples if sample.purpose is Purpose.RESET]
            assert len(resets) == 4
            assert all(tree.problem.solution.startswith("".join(map(chr, its.prefix))) for its in resets)  # type: ignore[union-attr]
            assert all(its.reward == 1.0 for its in resets), "the frontier of 0 in 8 is after the second line"

    def test_groups_that_are_mixed_stay_at_the_prompt(self) -> None:
        rollouts = self.rollouts(Frontier(), wrong=0.5)
        stayed = [tree for tree in rollouts.trees if not any(its.start for its in tree.samples)]
        assert rollouts.counts["group_stays_at_prompt"] == len(stayed) > 6

    @pytest.mark.parametrize(
        ("starts", "segmenter", "reason"),
        [
            (Frontier(sources=["success"]), Newline(min_tokens=1), "no_start_source"),
            (Frontier(), Newline(min_tokens=1000), "no_start_inside"),
        ],
        ids=["nothing ever succeeds and there is no solution", "steps cannot be cut"],
    )
    def test_a_group_that_cannot_be_moved_stays_at_the_prompt_and_the_reason_is_counted(
        self, starts: StartStates, segmenter: Segmenter, reason: str
    ) -> None:
        rollouts = self.rollouts(starts, wrong=1.0, segmenter=segmenter)
        assert rollouts.counts[reason] == rollouts.counts["group_stays_at_prompt"] == 12
        assert all(len(tree.samples) == 8 and not any(its.start for its in tree.samples) for tree in rollouts.trees)
        skipped: Counter[str] = Counter()
        assert PolicyGradient().build(rollouts.trees, skipped) == []
        assert skipped["uniform_group"] == 12

    def test_the_oracle_starts_before_the_first_wrong_line(self) -> None:
        rollouts = self.rollouts(FirstMistake(), wrong=0.5)
        starts = {sample.start for tree in rollouts.trees for sample in tree.samples}
        assert starts == {0, 3}

    def test_nothing_moves_where_the_prompt_is_the_only_start(self) -> None:
        assert not any(its.start for tree in self.rollouts(PromptOnly(), wrong=1.0).trees for its in tree.samples)


def test_states_that_a_source_tells_are_kept_with_the_samples_and_a_source_that_fails_is_counted() -> None:
    class Telling(Pivots):
        def state_key(self, problem: Problem, prefix: str) -> str:
            if problem.id == "p1":
                raise RuntimeError
            return prefix[-5:]

    source = Telling()
    rollouts = explorer(RolloutPlan(reset_probability=0.0), source=source).explore(source.train()[:2], 0)
    told, failed = rollouts.trees
    assert {offset for sample in told.samples for offset, _ in sample.states} == {1, 2, 3, 4, 5}
    assert {state for sample in told.samples for offset, state in sample.states if offset == 3} == {
        repr("good\n"),
        repr("\nbad\n"),
    }
    assert not any(sample.states for sample in failed.samples)
    assert rollouts.counts["state_key_failed"] == len(failed.samples)
