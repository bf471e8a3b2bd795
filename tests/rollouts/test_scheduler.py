"""One event loop for many problems: nobody waits for the others, and the order of answers changes nothing."""

from random import Random
from typing import Any

import pytest

from gpo_lightning.critical import Bisect, ChangePoint, Exhaustive, SearchStrategy
from gpo_lightning.engines import Completion, Purpose, Request, Sampling, Scripted
from gpo_lightning.engines.engine import Capabilities
from gpo_lightning.evaluation.benchmark import respond
from gpo_lightning.problems import Problem
from gpo_lightning.rollouts import Occupancy, Progress, RolloutPlan, Rollouts
from tests.rollouts.test_loop import EOS, Pivots, Words, explorer, pivot_policy


class Slots(Scripted):
    """Works on some requests at once; of these a few finish in each poll, whichever ``luck`` says."""

    def __init__(self, slots: int, luck: int) -> None:
        super().__init__(pivot_policy, eos=EOS, context=100)
        self.slots, self.luck = slots, Random(luck)
        self.order: list[Request] = []
        self.most = 0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("slots", self.context, reproducible=True, slots=self.slots)

    def poll(self) -> list[Completion]:
        self.most = max(self.most, len(self._queue))
        made: list[Completion] = []
        for _ in range(min(len(self._queue), self.luck.randint(1, 4))):
            place = self.luck.randrange(min(len(self._queue), self.slots))
            self._queue.rotate(-place)
            self.order.append(self._queue[0][1])
            made += super().poll()
            self._queue.rotate(place)
        return made


PLAN = RolloutPlan(group_size=6, reset_probability=0.8, explored=2, resets=6, reset_rounds=2)


def explored(luck: int, search: SearchStrategy, slots: int = 12, **keywords: Any) -> tuple[Rollouts, Slots]:
    loop = explorer(keywords.pop("plan", PLAN), search)
    loop.engine = engine = Slots(slots, luck)
    loop.listener = keywords.pop("listener", None)
    return loop.explore(keywords.pop("problems", Pivots().train()[:12]), 0, **keywords), engine


def content(rollouts: Rollouts) -> list[Any]:
    return [(tree.problem.id, tree.samples, tree.curves) for tree in rollouts.trees]


@pytest.mark.parametrize("search", [Exhaustive(4), Bisect(6), ChangePoint()], ids=lambda search: type(search).__name__)
def test_trees_do_not_depend_on_the_order_in_which_continuations_come_back(search: SearchStrategy) -> None:
    first, engine = explored(0, search)
    again, other = explored(1, search, slots=7)
    assert [r.seed for r in engine.order] != [r.seed for r in other.order]
    assert content(first) == content(again)
    assert first.counts == again.counts
    assert any(tree.curves for tree in first.trees)


@pytest.mark.parametrize("luck", range(3))
def test_refills_do_not_depend_on_it_either(luck: int) -> None:
    problems, plan = Pivots().train(), RolloutPlan(group_size=2, reset_probability=0.0, refills=4)
    made, _ = explored(luck, Exhaustive(2), slots=4, plan=plan, problems=problems[:6], reserve=problems[6:])
    mixed = [len({sample.reward for sample in tree.samples}) > 1 for tree in made.trees]
    assert [tree.problem.id for tree in made.trees] == [f"p{i}" for i in range(len(mixed))]
    assert sum(mixed) == 6
    assert mixed[-1], "no more were drawn than were needed"


def test_a_problem_that_occurs_twice_is_answered_anew() -> None:
    problem = Pivots().train()[0]
    made, _ = explored(0, Exhaustive(4), problems=[problem, problem])
    again, _ = explored(1, Exhaustive(4), problems=[problem, problem])
    first, second = made.trees
    assert first.samples != second.samples
    assert content(made) == content(again)


def test_a_problem_goes_on_while_others_are_still_sampled_and_the_engine_is_kept_full() -> None:
    made, engine = explored(0, Exhaustive(4), slots=12, problems=Pivots().train())
    order = [request.purpose for request in engine.order]
    last_sample = max(place for place, purpose in enumerate(order) if purpose is Purpose.SAMPLE)
    assert order.index(Purpose.PROBE) < last_sample / 4
    assert order.index(Purpose.RESET) < last_sample / 2
    assert made.occupancy is not None
    assert made.occupancy.slots == 12
    asked_by_one_problem = 2 * 6 * 4 + 2 * 6
    assert engine.most < 2 * 12 + asked_by_one_problem + PLAN.group_size, "and no more is asked than keeps it full"


def test_evaluations_ask_no_more_than_keeps_the_engine_full() -> None:
    source, engine = Pivots(), Slots(5, luck=0)
    problems = source.train()[:12]
    trees, _ = respond(engine, Words(), source, problems, Sampling(max_tokens=20), samples=3, seed=0)  # type: ignore[arg-type]
    assert [len(tree.samples) for tree in trees] == [3] * 12
    assert 2 * 5 <= engine.most < 2 * 5 + 3


def test_trees_are_handed_on_in_order_while_others_are_under_way() -> None:
    loop, problems = explorer(PLAN, Exhaustive(4)), Pivots().train()
    whole = loop.explore(problems, 0)
    loop.engine, made = Slots(12, luck=0), Rollouts([])
    stream = loop.stream(problems, 0, made)
    first = next(stream)
    assert loop.engine.ledger.accounts[Purpose.SAMPLE].requests < 40 * PLAN.group_size / 2, "many have not set out"
    made.trees = [first, *stream]
    assert content(made) == content(whole)
    assert made.counts == whole.counts


def test_progress_counts_problems_and_tells_what_is_in_flight() -> None:
    heard: list[Progress] = []
    explored(0, Exhaustive(4), listener=heard.append)
    assert {(progress.phase, progress.asked) for progress in heard} == {("rollouts", 12)}
    assert [progress.done for progress in heard] == sorted(progress.done for progress in heard)
    assert (heard[0].done, heard[0].in_flight) == (0, {"sample": 24})
    assert (heard[-1].done, heard[-1].in_flight) == (12, {})
    assert any(len(progress.in_flight) > 1 for progress in heard), "problems overlap"


def test_a_prompt_without_room_for_a_start_is_counted() -> None:
    long = Problem("long", "pivot", "1", prompt="?" * 200)
    made, _ = explored(0, Exhaustive(2), problems=[long, *Pivots().train()[:1]])
    assert (made.counts["prompt_too_long"], len(made.trees)) == (1, 1)


def test_occupancy_keeps_its_figures_however_many_polls_there_are() -> None:
    luck, occupancy, seconds = Random(0), Occupancy(slots=40), {False: 0.0, True: 0.0}
    for _ in range(20_000):
        span, count = luck.random(), luck.randint(0, 60)
        occupancy.add(span, count)
        seconds[count < 10] += span
    assert occupancy.idle_share == pytest.approx(seconds[True] / sum(seconds.values()))
    assert occupancy.mean == pytest.approx(30, abs=1)
    assert sum(occupancy.curve()) / 20 == pytest.approx(occupancy.mean)
    assert Occupancy(slots=4).curve() == [0.0] * 20
