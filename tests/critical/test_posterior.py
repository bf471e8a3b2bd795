"""The change-point posterior against every possible history written out, and what must hold of it in any case."""

from itertools import pairwise, product
from math import exp, lgamma, prod

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.critical import ValuePosterior, ValuePrior
from gpo_lightning.critical.posterior import even_steps
from gpo_lightning.errors import ConfigError

Trials = list[tuple[int, int]]
"""Successes and trials before each step."""

PRIOR = ValuePrior(change=0.3, drift=0.0, settled=0.2)
DRIFTING = ValuePrior(change=0.3, drift=0.4, settled=0.2, nodes=3)


def posterior(trials: Trials, outcome: float, prior: ValuePrior = PRIOR) -> ValuePosterior:
    successes, counts = (torch.tensor([column]) for column in zip(*trials, strict=True))
    return ValuePosterior(successes, counts, torch.tensor([outcome]), prior=prior)


def beta(a: float, b: float) -> float:
    return exp(lgamma(a) + lgamma(b) - lgamma(a + b))


def segment(trials: Trials, power: int = 0) -> float:
    """Integral of v^power times the likelihood of a segment's trials, over the prior of a fresh value."""
    k, m = (sum(column) for column in zip(*trials, strict=True)) if trials else (0, 0)
    s = PRIOR.settled
    at_zero = s / 2 * (k == 0 and power == 0)
    at_one = s / 2 * (k == m)
    return (1 - s) * beta(0.5 + k + power, 0.5 + m - k) / beta(0.5, 0.5) + at_zero + at_one


def last_segment(trials: Trials, outcome: float) -> float:
    """The segment that reaches the end, whose value is the outcome itself."""
    return PRIOR.settled / 2 * all(k == (m if outcome else 0) for k, m in trials)


def by_hand(trials: Trials, outcome: float) -> tuple[list[float], list[float]]:
    """Means of V before each step and chances that each step changed it, over all 2^n histories of changes."""
    n = len(trials)
    whole, means, changes = 0.0, [0.0] * n, [0.0] * n
    for history in product((False, True), repeat=n):
        cuts = [0, *(t + 1 for t in range(n) if history[t])]
        ends = [*cuts[1:], n + 1]
        pieces = [trials[a : min(b, n)] for a, b in zip(cuts, ends, strict=True)]
        parts = [segment(piece) for piece in pieces[:-1]] + [last_segment(pieces[-1], outcome)]
        weight = prod(PRIOR.change if change else 1 - PRIOR.change for change in history) * prod(parts)
        whole += weight
        for t in range(n):
            changes[t] += weight * history[t]
            i = max(i for i, cut in enumerate(cuts) if cut <= t)
            if i == len(cuts) - 1:
                means[t] += weight * outcome
            elif parts[i]:
                means[t] += weight * segment(pieces[i], power=1) / parts[i]
    return [mean / whole for mean in means], [change / whole for change in changes]


@given(
    st.lists(st.integers(0, 6).flatmap(lambda m: st.tuples(st.integers(0, m), st.just(m))), min_size=1, max_size=5),
    st.sampled_from([0.0, 1.0]),
)
def test_it_is_the_sum_over_all_histories(trials: Trials, outcome: float) -> None:
    found = posterior(trials, outcome)
    means, changes = by_hand(trials, outcome)
    assert found.values[0, :-1].tolist() == pytest.approx(means, rel=1e-9, abs=1e-12)
    assert found.changes[0].tolist() == pytest.approx(changes, rel=1e-9, abs=1e-12)
    assert found.values[0, -1] == outcome
    steps = found.values[0].diff().tolist()
    assert found.advantages[0].tolist() == pytest.approx(steps, abs=1e-9), "the means of the steps add up"


@given(
    st.lists(st.integers(0, 4).flatmap(lambda m: st.tuples(st.integers(0, m), st.just(m))), min_size=1, max_size=4),
    st.sampled_from([0.0, 1.0]),
)
def test_with_drift_it_is_the_sum_over_all_profiles(trials: Trials, outcome: float) -> None:
    grid, weights, kernel = DRIFTING.values.tolist(), DRIFTING.weights.tolist(), DRIFTING.kernel.tolist()
    end = grid.index(outcome)
    whole, means, sizes = 0.0, [0.0] * len(trials), [0.0] * len(trials)
    for path in product(range(len(grid)), repeat=len(trials)):
        states = (*path, end)
        weight = weights[path[0]] * prod(kernel[a][b] for a, b in pairwise(states))
        weight *= prod(grid[s] ** k * (1 - grid[s]) ** (m - k) for s, (k, m) in zip(path, trials, strict=True))
        whole += weight
        for t, state in enumerate(path):
            means[t] += weight * grid[state]
            sizes[t] += weight * abs(grid[states[t + 1]] - grid[state])
    found = posterior(trials, outcome, DRIFTING)
    assert found.values[0, :-1].tolist() == pytest.approx([mean / whole for mean in means], rel=1e-9, abs=1e-12)
    assert found.absolute_advantages[0].tolist() == pytest.approx([size / whole for size in sizes], rel=1e-9, abs=1e-12)


def test_a_step_leads_somewhere_for_certain() -> None:
    for prior in (ValuePrior(), PRIOR, DRIFTING):
        assert torch.allclose(prior.kernel.sum(-1), torch.ones(len(prior.values), dtype=torch.float64))
        assert (prior.kernel >= 0).all()


def test_profiles_drawn_from_it_have_its_means() -> None:
    found = posterior([(3, 7), (2, 4), (0, 0), (3, 4)], 1.0)
    states = found.states(40_000, torch.Generator().manual_seed(0))[0]
    paths = found.prior.values[states]
    assert torch.allclose(paths.mean(0), found.values[0], atol=0.01)
    assert torch.allclose(paths.diff(dim=-1).abs().mean(0), found.absolute_advantages[0], atol=0.01)
    assert torch.allclose((paths.diff(dim=-1) != 0).double().mean(0), found.changes[0], atol=0.02)
    low, high = (bound[0] for bound in found.interval(0.9))
    inside = ((paths >= low) & (paths <= high)).double().mean(0)
    assert (inside >= 0.88).all()


def test_trajectories_of_different_length_do_not_disturb_each_other() -> None:
    long, short = [(1, 4), (2, 4), (4, 4), (3, 4)], [(3, 7), (0, 4)]
    padded = torch.tensor([[k for k, _ in long], [3, 0, 99, 99]]), torch.tensor([[m for _, m in long], [7, 4, 99, 99]])
    both = ValuePosterior(*padded, torch.tensor([1.0, 0.0]), torch.tensor([4, 2]), PRIOR)
    for row, (trials, outcome) in enumerate(((long, 1.0), (short, 0.0))):
        alone = posterior(trials, outcome)
        assert torch.allclose(both.values[row, : len(trials) + 1], alone.values[0])
        assert torch.allclose(both.changes[row, : len(trials)], alone.changes[0])


def test_a_clear_turn_is_found_and_neighbours_are_read_together() -> None:
    found = posterior([(1, 4), (0, 4), (1, 4), (4, 4), (3, 4), (4, 4)], 1.0)
    assert found.advantages[0].argmax() == 2
    low, high = found.interval()
    single = posterior([(1, 4)], 1.0)
    assert (high - low)[0, 1] < (single.interval()[1] - single.interval()[0])[0, 0]


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_nothing_known_is_no_trouble(outcome: float) -> None:
    for trials in ([(0, 0)], [(0, 0)] * 5, [(0, 50)] * 3, [(50, 50)] * 3, [(0, 200), (200, 200)]):
        found = posterior(trials, outcome)
        for numbers in (found.values, found.changes, found.advantages, found.absolute_advantages):
            assert torch.isfinite(numbers).all()
        assert ((found.values >= 0) & (found.values <= 1)).all()


@pytest.mark.parametrize(
    "bad", [{"change": 0.0}, {"drift": 0.9}, {"drift": -0.1}, {"change": 1.0}, {"settled": 0.0}, {"nodes": 1}]
)
def test_a_prior_that_is_none_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"data\.search\.prior"):
        ValuePrior(**bad)  # type: ignore[arg-type]


@given(st.integers(1, 12), st.floats(0.02, 0.98))
def test_the_belief_is_what_values_are_if_every_step_is_equally_hard_and_mistakes_are_final(
    steps: int, p: float
) -> None:
    right = p ** (1 / steps)
    first_wrong = [right**t * (1 - right) for t in range(steps)]
    by_hand = [[p ** (1 - t / steps) for t in range(steps)], [0.0] * steps]
    for wrong, chance in enumerate(first_wrong):
        for t in range(wrong + 1):
            by_hand[1][t] += chance / (1 - p) * p ** (1 - t / steps)
    found = even_steps(np.array([p, p]), np.array([1.0, 0.0]), np.array([steps, steps]), steps)
    assert found.tolist() == [pytest.approx(row) for row in by_hand]


@given(
    trials=st.lists(st.tuples(st.integers(0, 3), st.just(3)), min_size=2, max_size=6),
    outcome=st.sampled_from([0.0, 1.0]),
)
def test_a_belief_tells_nothing_before_the_first_step_and_gives_way_to_probes(trials: Trials, outcome: float) -> None:
    believing = ValuePrior(change=0.3, settled=0.2, belief=0.5)
    found = posterior(trials, outcome, believing)
    assert bool(((found.values >= 0) & (found.values <= 1)).all())
    many = [(1000 * k, 1000 * m) for k, m in trials]
    swayed, plain = posterior(many, outcome, believing), posterior(many, outcome, ValuePrior(change=0.3, settled=0.2))
    assert swayed.values[0, :-1].tolist() == pytest.approx(plain.values[0, :-1].tolist(), abs=0.02)


def test_without_probes_a_failure_is_believed_to_fall_and_a_success_to_rise() -> None:
    nothing: Trials = [(3, 7), (0, 0), (0, 0), (0, 0)]
    believed = posterior(nothing, 0.0, ValuePrior(belief=1.0)).values[0].tolist()
    flat = posterior(nothing, 0.0, ValuePrior()).values[0].tolist()
    rising = posterior(nothing, 1.0, ValuePrior(belief=1.0)).values[0].tolist()
    assert believed[3] < flat[3]
    assert rising[1] < rising[3]
