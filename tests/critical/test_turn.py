"""A turn is called by its probability, and the probability is right."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.critical import MaxAdvantage, MinAdvantage, TowardOutcome, TurnReader, ValuePrior

RIGHT, WRONG = [1.0] * 12, [0.0] * 12

trials = st.lists(st.lists(st.sampled_from([0.0, 1.0]), max_size=6), min_size=1, max_size=7)


def read(rewards: Sequence[Sequence[float]], outcome: float):
    (reading,) = TurnReader().read([rewards], [outcome])
    return reading


@pytest.mark.parametrize("at", range(5))
def test_a_planted_fall_is_found_wherever_it_is(at: int) -> None:
    turn = read([RIGHT if t <= at else WRONG for t in range(5)], 0.0).turn
    assert (turn.step, round(turn.before, 1), round(turn.after, 1)) == (at, 1.0, 0.0)
    assert turn.probability > 0.95
    assert turn.size < -0.9


@pytest.mark.parametrize("at", range(5))
def test_a_planted_gain_is_found_wherever_it_is(at: int) -> None:
    turn = read([WRONG if t <= at else RIGHT for t in range(5)], 1.0).turn
    assert (turn.step, round(turn.before, 1), round(turn.after, 1)) == (at, 0.0, 1.0)
    assert turn.probability > 0.95
    assert turn.size > 0.9


def test_what_was_won_and_then_lost_has_both_turns() -> None:
    half = [1.0, 0.0] * 6
    reading = read([half, half, RIGHT, RIGHT, WRONG], 0.0)
    assert (reading.turn.step, reading.other.step) == (3, 1)
    assert reading.turn.probability > 0.9
    assert reading.other.probability > 0.8
    assert reading.other.size > 0.3 > 0 > reading.turn.size


def test_a_gradual_decline_has_no_single_turn() -> None:
    slope = [[1.0] * ones + [0.0] * (12 - ones) for ones in (10, 8, 7, 5, 3, 2)]
    assert read(slope, 0.0).turn.probability < 0.8


@pytest.mark.parametrize(("rewards", "outcome"), [([RIGHT] * 4, 1.0), ([WRONG] * 4, 0.0)])
def test_where_nothing_changes_nothing_turns(rewards: list[list[float]], outcome: float) -> None:
    reading = read(rewards, outcome)
    assert reading.turn.probability < 0.2
    assert reading.other.probability < 0.2


def test_without_trials_nothing_is_sure() -> None:
    reading = read([[]] * 6, 0.0)
    assert reading.turn.probability < 0.6
    assert reading.low[0] < 0.05
    assert reading.high[0] > 0.95


@given(trials, st.sampled_from([0.0, 1.0]))
def test_bands_hold_the_means_and_probabilities_are_shares(rewards: list[list[float]], outcome: float) -> None:
    reading = read(rewards, outcome)
    assert len(reading.values) == len(reading.low) == len(reading.high) == len(rewards) + 1
    bands = zip(reading.low, reading.values, reading.high, strict=True)
    assert all(0 <= low <= value <= high <= 1 for low, value, high in bands)
    assert reading.values[-1] == reading.low[-1] == reading.high[-1] == outcome
    for turn in (reading.turn, reading.other):
        assert 0 <= turn.step < len(rewards)
        assert 0 <= turn.probability <= 1
        assert (turn.before, turn.after) == reading.values[turn.step : turn.step + 2]


def test_trajectories_of_other_lengths_change_nothing_but_luck() -> None:
    short, long = [RIGHT, WRONG], [RIGHT] * 9 + [WRONG]
    together = TurnReader().read([long, short], [0.0, 0.0])
    apart = [read(long, 0.0), read(short, 0.0)]
    for one, other in zip(together, apart, strict=True):
        assert one.values == pytest.approx(other.values, abs=1e-9)
        assert one.turn.step == other.turn.step
        assert one.turn.probability == pytest.approx(other.turn.probability, abs=0.06)


def test_turns_called_with_a_probability_are_right_that_often() -> None:
    """Profiles drawn from the prior, trials drawn from the profiles: the stated probability is the share of hits."""
    prior, draw = ValuePrior(), torch.Generator().manual_seed(3)
    count, steps = 3000, 8
    states = [torch.multinomial(prior.weights, count, replacement=True, generator=draw)]
    for _ in range(steps):
        states.append(torch.multinomial(prior.kernel[states[-1]], 1, generator=draw)[:, 0])
    values = prior.values[torch.stack(states, 1)]
    values = values[(values[:, -1] == 0) | (values[:, -1] == 1)]
    probes = torch.randint(0, 9, values[:, :-1].shape, generator=draw)
    successes = torch.binomial(probes.double(), values[:, :-1], generator=draw)
    rewards = [
        [[1.0] * int(s) + [0.0] * int(n - s) for s, n in zip(row, tried, strict=True)]
        for row, tried in zip(successes.tolist(), probes.tolist(), strict=True)
    ]
    stated: dict[str, list[tuple[float, float]]] = {"sure": [], "open": []}
    readings = TurnReader().read(rewards, values[:, -1].tolist())
    for profile, reading in zip(values, readings, strict=True):
        changes = profile.diff() * (1 if reading.outcome == 1 else -1)
        hit = float(changes.max() >= 0.2 and changes[reading.turn.step] >= changes.max() - 1e-9)
        stated["sure" if reading.turn.probability >= 0.8 else "open"].append((reading.turn.probability, hit))
    for kind, pairs in stated.items():
        said, hits = torch.tensor(pairs).mean(0).tolist()
        assert len(pairs) > 200, kind
        assert said == pytest.approx(hits, abs=0.03), kind


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.sampled_from([0.0, 1.0]))
def test_toward_outcome_is_the_gain_of_right_and_the_fall_of_wrong_solutions(
    values: list[float], outcome: float
) -> None:
    profile = torch.tensor([*values, outcome], dtype=torch.float64)
    other = MaxAdvantage() if outcome else MinAdvantage()
    assert TowardOutcome().scores(profile).tolist() == other.scores(profile).tolist()
