"""Invariant 3: each strategy finds the known critical step, and keeps within its budget; odd input has a result."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpo_lightning import critical
from gpo_lightning.critical import (
    Bisect,
    ChangePoint,
    Exhaustive,
    MaxAbsAdvantage,
    MaxAdvantage,
    NoSearch,
    SearchStrategy,
    Selector,
    TrajectoryState,
)
from gpo_lightning.critical.state import Node
from gpo_lightning.engines import Capabilities, Purpose, Scripted
from gpo_lightning.errors import ConfigError
from gpo_lightning.rollouts import RolloutPlan
from tests.of_the_package import offered
from tests.rollouts.test_loop import PIVOT, Pivots, explorer

STRATEGIES = [*(strategy() for strategy in offered(critical, SearchStrategy)), ChangePoint(budget=1.0), Bisect(8)]
STRATEGIES += [Bisect(8, halves="surprisal")]
SELECTORS = [selector() for selector in offered(critical, Selector)]
ADAPTIVE = [strategy for strategy in STRATEGIES if isinstance(strategy, Bisect | ChangePoint)]
NAMES = [f"{type(strategy).__name__}-{i}" for i, strategy in enumerate(STRATEGIES)]


@pytest.mark.parametrize(
    ("search", "least"),
    [
        (Exhaustive(16), 0.85),
        (Bisect(16), 0.75),
        (Bisect(16, halves="surprisal"), 0.75),
        (ChangePoint(budget=16.0), 0.8),
    ],
    ids=["exhaustive", "bisect", "bisect_surprisal", "change_point"],
)
def test_the_known_pivot_is_found(search: SearchStrategy, least: float) -> None:
    plan = RolloutPlan(group_size=8, reset_probability=1.0, explored=1, resets=0)
    made = explorer(plan, search).explore(Pivots().train(), 0)
    curves = [c for tree in made.trees for c in tree.curves if c.values[-1] == 1 and c.tokens[PIVOT] == 4]
    assert len(curves) > 5
    assert sum(curve.critical == PIVOT for curve in curves) >= least * len(curves)


@pytest.mark.parametrize("budget", [0.0, 0.5, 2.0, 6.0])
def test_the_budget_is_never_exceeded(budget: float) -> None:
    plan = RolloutPlan(group_size=8, reset_probability=1.0, explored=1, resets=0, mixed_only=False)
    made = explorer(plan, ChangePoint(budget=budget, sure=1.0)).explore(Pivots().train(), 0)
    for tree in made.trees:
        spent = sum(len(s.tokens) - s.start for s in tree.samples if s.purpose is Purpose.PROBE)
        for curve in tree.curves:
            most = 0.0
            for boundary in curve.boundaries[1:-1]:
                before = tree.node(curve.tokens[:boundary])
                given = before.drawn - 1 - tree.drawn(curve.tokens[:boundary], Purpose.PROBE)
                most += max(0.0, budget - given) * (len(curve.tokens) - boundary)
            assert spent <= most
            assert 0 <= curve.critical < len(curve.boundaries) - 1


def test_change_point_spends_less_than_exhaustive_where_the_pivot_is_clear() -> None:
    plan = RolloutPlan(group_size=8, reset_probability=1.0, explored=1, resets=0)
    spent = []
    for search in (Exhaustive(16), ChangePoint(budget=8.0)):
        runner = explorer(plan, search)
        runner.explore(Pivots().train(), 0)
        spent.append(runner.engine.ledger.state_dict()[Purpose.PROBE]["generated"])
    assert spent[1] < spent[0] / 2


trials = st.lists(st.sampled_from([0.0, 1.0]), max_size=6).map(tuple)


@st.composite
def knowns(draw: Any) -> TrajectoryState:
    lengths = draw(st.lists(st.integers(1, 30), min_size=1, max_size=8))
    boundaries = tuple(sum(lengths[:i]) for i in range(len(lengths) + 1))
    nodes = tuple(Node((), draw(trials)) for _ in lengths)
    probed = tuple(draw(st.integers(0, node.drawn)) for node in nodes)
    outcome, spent = draw(st.sampled_from([0.0, 1.0])), draw(st.integers(0, 300))
    surprisals = tuple(draw(st.floats(0, 9)) for _ in lengths) if draw(st.booleans()) else ()
    return TrajectoryState(boundaries, nodes, (0,) * len(nodes), probed, outcome, spent, surprisals)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=NAMES)
@pytest.mark.parametrize("selector", SELECTORS, ids=lambda s: type(s).__name__)
@settings(max_examples=15)
@given(studies=st.lists(knowns(), min_size=1, max_size=4))
def test_whatever_is_known_it_asks_for_real_steps_and_chooses_one(
    strategy: SearchStrategy, selector: Any, studies: list[TrajectoryState]
) -> None:
    asked = strategy.targets(studies, selector)
    assert len(asked) == len(studies)
    for known, wanted in zip(studies, asked, strict=True):
        assert all(0 <= step < known.steps and count > 0 for step, count in wanted.items())
        (values,) = strategy.values([known])
        assert len(values) == known.steps + 1
        assert values[-1] == known.success
        assert all(0 <= value <= 1 for value in values)
        assert 0 <= strategy.critical([known], selector, [Random(0)])[0] < known.steps


@pytest.mark.parametrize("strategy", ADAPTIVE, ids=lambda strategy: type(strategy).__name__)
def test_it_waits_for_probes_in_flight(strategy: SearchStrategy) -> None:
    nodes = tuple(Node((), (1.0, 0.0)) for _ in range(3))
    known = TrajectoryState((0, 5, 9, 12), nodes, (0, 2, 0), (0,) * 3, 1.0)
    assert strategy.targets([known], MaxAdvantage()) == [{}]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=NAMES)
@settings(max_examples=15)
@given(studies=st.lists(knowns(), min_size=2, max_size=5))
def test_what_is_asked_and_chosen_for_one_trajectory_depends_on_no_other_to_the_bit(
    strategy: SearchStrategy, studies: list[TrajectoryState]
) -> None:
    selector, draws = MaxAbsAdvantage(), [Random(0) for _ in studies]
    alone = [strategy.targets([known], selector)[0] for known in studies]
    assert strategy.targets(studies, selector) == alone
    assert strategy.values(studies) == [strategy.values([known])[0] for known in studies]
    chosen = [strategy.critical([known], selector, draws[:1])[0] for known in studies]
    assert strategy.critical(studies, selector, draws) == chosen


class TestHalvesOfSurprisal:
    """Bisection cuts a stretch where as much surprise lies before the cut as after it."""

    @staticmethod
    def asked(surprisals: tuple[float, ...], halves: Any = "surprisal", steps: int = 8) -> list[int]:
        """Steps that are probed once the siblings have valued the prompt."""
        nodes = (Node((), (0.0,) * 8), *(Node((), ()) for _ in range(steps - 1)))
        state = TrajectoryState(tuple(range(steps + 1)), nodes, (0,) * steps, (0,) * steps, 1.0, 0, surprisals)
        return list(Bisect(8, halves=halves).targets([state], MaxAdvantage())[0])

    def test_the_first_probe_stands_beside_the_only_step_that_surprises(self) -> None:
        assert self.asked((0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 9.0, 0.1)) in ([6], [7])
        assert self.asked((9.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)) == [1]

    @given(st.integers(2, 30))
    def test_steps_that_surprise_alike_are_halved_by_number(self, steps: int) -> None:
        assert self.asked((0.5,) * steps, steps=steps) == self.asked((), "steps", steps) == [steps // 2]

    def test_where_nobody_knows_log_probs_steps_are_halved(self) -> None:
        assert self.asked(()) == [4]

    @given(st.integers(1, 62))
    def test_a_turn_that_surprised_is_found_with_few_probed_prefixes(self, turn: int) -> None:
        """64 steps: the prompt and what comes before the turn fail, what comes after it succeeds."""

        def found(halves: Any) -> tuple[int, int]:
            loud = tuple(9.0 if t == turn else 0.1 for t in range(64))
            seen: dict[int, tuple[float, ...]] = {0: (0.0,) * 8}
            search = Bisect(8, halves=halves)
            while True:
                nodes = tuple(Node((), seen.get(t, ())) for t in range(64))
                state = TrajectoryState(tuple(range(65)), nodes, (0,) * 64, (0,) * 64, 1.0, 0, loud)
                (wanted,) = search.targets([state], MaxAdvantage())
                if not wanted:
                    return search.critical([state], MaxAdvantage(), [Random(0)])[0], len(seen) - 1
                seen |= {t: (float(t > turn),) * count for t, count in wanted.items()}

        assert found("steps") == (turn, 6)
        step, probed = found("surprisal")
        assert step == turn
        assert probed <= 3


@pytest.mark.parametrize("steps", [8, 64, 256])
def test_the_rounds_of_a_search_grow_with_the_logarithm_of_the_steps(steps: int) -> None:
    search, chances, draw = ChangePoint(sure=1.0), [0.5] * (steps // 3) + [0.8] * steps, Random(steps)
    seen = [[1.0, 0.0, 1.0], *([] for _ in range(steps - 1))]
    rounds, spent = 0, 0
    while True:
        nodes = tuple(Node((), tuple(rewards)) for rewards in seen)
        probed = (len(seen[0]) - 3, *map(len, seen[1:]))
        known = TrajectoryState(tuple(range(0, 5 * steps + 1, 5)), nodes, (0,) * steps, probed, 1.0, spent)
        (wanted,) = search.targets([known], MaxAdvantage())
        if not wanted:
            break
        rounds += 1
        for step, count in wanted.items():
            added = count - len(seen[step])
            spent += added * known.remaining(step)
            seen[step] += [float(draw.random() < chances[step]) for _ in range(added)]
    assert steps.bit_length() / 2 < rounds <= steps.bit_length() + 4
    assert 0.8 * known.sweep(4.0) < spent <= known.sweep(4.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bisect(0),
        lambda: Bisect(halves="tokens"),  # pyright: ignore[reportArgumentType]
        lambda: ChangePoint(batch=0),
        lambda: ChangePoint(budget=-1.0),
        lambda: ChangePoint(cap=0.0),
        lambda: ChangePoint(sure=0.0),
        lambda: ChangePoint(profiles=1),
    ],
)
def test_settings_that_cannot_work_are_refused(make: Any) -> None:
    with pytest.raises(ConfigError, match=r"data\.search"):
        make()


class TestCancellable:
    """Probes in flight are given up only where no outcome of theirs could change the choice."""

    decided = (Node((), (0.0,) * 30), Node((), (0.0,) * 30), Node((), (1.0,) * 30))

    def test_a_choice_that_stands_whatever_comes_needs_no_more_probes(self) -> None:
        known = TrajectoryState((0, 5, 9, 12), self.decided, (1, 1, 0), (0,) * 3, 1.0)
        assert ChangePoint(batch=4).cancellable([known], MaxAdvantage()) == [{0, 1}]

    def test_an_open_choice_waits(self) -> None:
        known = TrajectoryState(
            (0, 5, 9, 12, 15, 20), tuple(Node((), ()) for _ in range(5)), (1, 1, 0, 0, 0), (0,) * 5, 1.0
        )
        assert ChangePoint(batch=4).cancellable([known], MaxAdvantage()) == [set()]

    def test_others_cancel_nothing(self) -> None:
        known = TrajectoryState((0, 5, 9, 12), self.decided, (1, 1, 0), (0,) * 3, 1.0)
        for strategy in (Exhaustive(4), Bisect(8), NoSearch()):
            assert strategy.cancellable([known], MaxAdvantage()) == [set()]

    @settings(max_examples=30)
    @given(known=knowns(), pending=st.lists(st.integers(0, 2), min_size=8, max_size=8), data=st.data())
    def test_whatever_the_cancelled_would_have_said_the_choice_stays(
        self, known: TrajectoryState, pending: list[int], data: Any
    ) -> None:
        waiting = replace(known, pending=tuple(pending[: known.steps]))
        search = ChangePoint(batch=4)
        (cancellable,) = search.cancellable([waiting], MaxAdvantage())
        if not cancellable:
            return
        assert cancellable == {t for t, count in enumerate(waiting.pending) if count}
        choices = set[int]()
        for outcome in (0.0, 1.0):
            nodes = [
                Node((), node.successes + (outcome,) * count)
                for node, count in zip(known.nodes, waiting.pending, strict=True)
            ]
            finished = replace(known, nodes=tuple(nodes))
            assert search.targets([finished], MaxAdvantage()) == [{}]
            choices.add(search.critical([finished], MaxAdvantage(), [Random(0)])[0])
        assert len(choices) == 1


def test_cancelled_probes_are_counted_and_the_search_ends() -> None:
    plan = RolloutPlan(group_size=8, reset_probability=1.0, explored=1, resets=0)
    runner = explorer(plan, ChangePoint(budget=16.0, batch=8, sure=0.6))
    runner.engine.poll = one_at_a_time(runner.engine)  # type: ignore[method-assign]
    assert runner.explore(Pivots().train(), 0).counts["cancelled"] == 0, "equal seeds give equal trees there"
    runner.engine = Moving(runner.engine)  # type: ignore[arg-type]
    made = runner.explore(Pivots().train(), 0)
    assert made.counts["cancelled"] > 0
    assert all(tree.curves for tree in made.trees if len({tree.samples[i].reward for i in tree.trajectories}) > 1)


class Moving(Scripted):
    """An engine that promises no equal tokens for equal seeds."""

    def __init__(self, engine: Scripted) -> None:
        super().__init__(engine.next_token, engine.eos, engine.context)
        self.poll = one_at_a_time(super())  # type: ignore[method-assign]

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, reproducible=False)


def one_at_a_time(engine: Any) -> Any:
    """Completions come back singly, as from a server, however many are ready."""
    whole, ready = engine.poll, list[Any]()

    def poll() -> list[Any]:
        ready.extend(() if ready else whole())
        return [ready.pop(0)] if ready else []

    return poll
