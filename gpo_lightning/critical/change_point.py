"""Search by expected gain: probes go where, by the change-point posterior, a token tells most about the choice."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, log2
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray

from gpo_lightning.critical.posterior import Floats, ValuePosterior, ValuePrior, trials_of
from gpo_lightning.critical.search import SearchStrategy, Targets
from gpo_lightning.critical.selectors import Selector
from gpo_lightning.critical.state import Node, TrajectoryState
from gpo_lightning.errors import ConfigError

Places = NDArray[np.int64]

_NEAR = 0.05
"""Two steps whose scores differ by less are equally good choices."""
_TOGETHER = 32
"""Trajectories whose profiles are drawn at once; more need more memory and are no faster."""
_SCORED = 16
"""Most places, and most rival steps, of which gains are reckoned in a round, however long the trajectory is."""
_PICKS = 12
"""About so many places are chosen in a round, one after the other."""
_FINAL = 256
"""Profiles that the last choice is made from."""


@dataclass(frozen=True)
class ChangePoint(SearchStrategy):
    """Reads probes through :class:`ValuePosterior`, and places them by value of information a token.

    Whole value profiles are drawn from the posterior. Each says how probes before a step would come out, and what the
    selector would score; so the expected score of the best choice *after* probing is an average over profiles, and
    what it gains over the best choice now, for every token it costs, decides where to probe next (Frazier et al.
    2008, "knowledge gradient"; looking further ahead than is bought, because a few trials alone seldom change a
    choice). Late prefixes are cheap, early ones dear, and settled stretches tell nothing; all three follow by
    themselves.

    The budget is spent in O(log n) rounds, small ones first: a round's tokens are shared out among several places, so
    that an engine is kept busy and a trajectory waits seldom.

    Args:
        budget: most tokens of probes for a trajectory, never exceeded: as many as would bring so many continuations
            before each step but the first together, so that ``budget=4`` costs no more than ``Exhaustive(4)``.
        batch: fewest probes that a place gets at once.
        lookahead: trials that the gain is reckoned for.
        sure: stops when the chosen step is within 0.05 of the best with this probability.
        cap: longest probe, in multiples of what the trajectory itself had left (and 8 tokens more). A probe that
            reaches it is graded as it stands, and counted as ``truncated``.
        profiles: drawn from the posterior for every decision.
        prior: what is believed of values beforehand.
    """

    budget: float = 4.0
    batch: int = 2
    lookahead: int = 32
    sure: float = 0.95
    cap: float = 2.0
    profiles: int = 96
    prior: ValuePrior = ValuePrior(nodes=16)

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("lookahead", 1), ("profiles", 2)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"data.search (ChangePoint): {name} is {getattr(self, name)}; it must be at least {least}."
                )
        if not (self.budget >= 0 and self.cap > 0 and 0 < self.sure <= 1):
            raise ConfigError(
                f"data.search (ChangePoint): budget is {self.budget}, cap {self.cap} and sure {self.sure}; budget must "
                "not be negative, cap must be positive, sure must lie in (0, 1]."
            )

    def longest(self, trajectory: TrajectoryState, step: int) -> int:
        return ceil(self.cap * trajectory.remaining(step)) + 8

    def targets(self, trajectories: Sequence[TrajectoryState], selector: Selector) -> list[Targets]:
        targets: list[Targets] = [{} for _ in trajectories]
        wholes = [0.0 if any(state.pending) else state.sweep(self.budget) for state in trajectories]
        open_ = [
            i for i, whole in enumerate(wholes) if whole - trajectories[i].spent > _leftover(whole, trajectories[i])
        ]
        for i, profiles in zip(open_, self._profiles([trajectories[i] for i in open_], self.profiles), strict=True):
            values = self.prior.values.numpy()[profiles]
            scores = selector.scores(torch.from_numpy(values)).numpy()
            if _sureness(scores) < self.sure:
                added = self._round(trajectories[i], wholes[i], profiles, values, scores)
                targets[i] = {step: trajectories[i].nodes[step].drawn + count for step, count in added.items()}
        return targets

    def _round(
        self, trajectory: TrajectoryState, whole: float, profiles: Places, values: Floats, scores: Floats
    ) -> Targets:
        """Probes for the next round: how many more before which steps.

        Args:
            trajectory: of n steps, without probes in flight.
            whole: tokens of its budget.
            profiles: ``[S, n + 1]`` drawn from its posterior, as indices of the prior's values.
            values: ``[S, n + 1]`` theirs.
            scores: ``[S, n]`` what the selector makes of them.
        """
        steps, left = trajectory.steps, int(whole) - trajectory.spent
        costs = trajectory.tokens - np.array(trajectory.boundaries[:-1])
        longest = np.ceil(self.cap * costs).astype(np.int64) + 8
        best = np.bincount(scores.argmax(-1), minlength=steps)  # [n] profiles in which each step is the best
        places, rivals = _candidates(best, longest <= left), _likeliest(best, scores.mean(0))
        if not len(places):
            return {}
        seen = values[:, places]
        rates = (self._gains(profiles[:, places], scores[:, rivals]) + 1e-6 * seen.std(0)) / costs[places]
        # Small rounds first, for much is learnt early; large ones where nothing is sure after them.
        share = max(whole / _rounds(steps) / 2, 0.35 * trajectory.spent)
        added = _shared_out(share, left, self.batch, rates, costs[places], longest[places], seen)
        return {int(step): int(count) for step, count in zip(places, added, strict=True) if count}

    def cancellable(self, trajectories: Sequence[TrajectoryState], selector: Selector) -> list[set[int]]:
        cancellable: list[set[int]] = [set() for _ in trajectories]
        # Asked only when half a batch is back: before that nothing is ever settled, and asking costs time.
        places = [i for i, trajectory in enumerate(trajectories) if 0 < sum(trajectory.pending) <= self.batch / 2]
        if not places:
            return cancellable
        verdicts: list[list[tuple[int, bool]]] = []
        for outcome in (0.0, 1.0):
            drawn = self._profiles([_supposing(trajectories[i], outcome) for i in places], self.profiles)
            scores = [selector.scores(self.prior.values[torch.from_numpy(each)]).numpy() for each in drawn]
            verdicts.append([(int(each.mean(0).argmax()), _sureness(each) >= self.sure) for each in scores])
        for i, worst, best in zip(places, *verdicts, strict=True):
            if worst == best and worst[1]:
                cancellable[i] = {step for step, pending in enumerate(trajectories[i].pending) if pending}
        return cancellable

    def _profiles(self, trajectories: Sequence[TrajectoryState], count: int) -> list[Places]:
        """Of each trajectory ``[count, n + 1]`` value profiles drawn from its posterior, as indices of the values."""
        drawn: list[Places] = []
        for first in range(0, len(trajectories), _TOGETHER):
            some = trajectories[first : first + _TOGETHER]
            states = self._posterior(some).states(count, torch.Generator().manual_seed(0)).numpy()
            # Each as an array of its own shape: how sums are rounded must not depend on the others.
            drawn += [states[i, :, : state.steps + 1].copy() for i, state in enumerate(some)]
        return drawn

    @cached_property
    def _odds(self) -> Floats:
        """``[G, K]`` probability of each number of successes in ``lookahead`` trials, by the value."""
        successes = torch.arange(self.lookahead + 1, dtype=torch.float64)
        return (
            torch.distributions.Binomial(self.lookahead, self.prior.values[:, None]).log_prob(successes).exp().numpy()
        )

    def _gains(self, profiles: Places, scores: Floats) -> Floats:
        """``[C]`` how much better the best of ``scores[S, M]`` is expected to be after trials at each place."""
        odds = self._odds[profiles].transpose(1, 2, 0).reshape(-1, len(profiles))  # [C K, S]
        after = (odds @ scores / len(profiles)).max(-1).reshape(profiles.shape[1], -1)  # [C, K]
        return after.sum(-1) - scores.mean(0).max()

    def _posterior(self, trajectories: Sequence[TrajectoryState]) -> ValuePosterior:
        successes, trials, steps = trials_of(
            [[node.successes for node in trajectory.nodes] for trajectory in trajectories]
        )
        outcomes = torch.tensor([trajectory.success for trajectory in trajectories], dtype=torch.float64)
        return ValuePosterior(successes, trials, outcomes, steps, self.prior)

    def values(self, trajectories: Sequence[TrajectoryState]) -> list[tuple[float, ...]]:
        if not trajectories:
            return []
        rows = self._posterior(trajectories).values.tolist()
        return [(*row[: state.steps], state.success) for state, row in zip(trajectories, rows, strict=True)]

    def critical(
        self, trajectories: Sequence[TrajectoryState], selector: Selector, draws: Sequence[Random]
    ) -> list[int]:
        chosen: list[int] = []
        for profiles, draw in zip(self._profiles(trajectories, _FINAL), draws, strict=True):
            scores = selector.scores(self.prior.values[torch.from_numpy(profiles)])
            chosen.append(selector.first_best(scores.mean(0), draw))
        return chosen


def _rounds(steps: int) -> int:
    """Rounds of probes that a trajectory's budget is divided into."""
    return ceil(log2(steps)) + 1


def _leftover(whole: float, trajectory: TrajectoryState) -> float:
    """Tokens of a budget that are not worth another round."""
    return whole / _rounds(trajectory.steps) / 4


def _sureness(scores: Floats) -> float:
    """Probability that the step chosen now is as good as the best, by ``scores[S, n]``."""
    chosen = int(scores.mean(0).argmax())
    return float((scores[:, chosen] >= scores.max(-1) - _NEAR).mean())


def _candidates(best: Places, affordable: NDArray[np.bool_]) -> Places:
    """Steps before which probes may go: all, or of many those that halve, and halve again, where the best may be.

    Args:
        best: ``[n]`` profiles in which each step is the best.
        affordable: ``[n]`` whether a probe before each can be paid.
    """
    steps = np.flatnonzero(affordable)
    if len(steps) <= _SCORED:
        return steps
    interest = best + 0.1 * best.mean()
    interest[1:] += best[:-1]  # a step's score tells of the values before and after it
    below = interest[steps].cumsum()
    wanted = (np.arange(_SCORED) + 0.5) / _SCORED * below[-1]
    return steps[np.unique(np.searchsorted(below, wanted))]


def _likeliest(best: Places, means: Floats) -> Places:
    """Steps that may come out as the best: all, or of many the likeliest; ``means[n]`` of their scores breaks ties."""
    return np.lexsort((-means, -best))[:_SCORED]


def _shared_out(
    share: float, left: int, batch: int, rates: Floats, costs: Places, longest: Places, values: Floats
) -> Places:
    """``[C]`` probes of a round: its tokens are shared out among C places, one after the other to the best.

    What a place is worth falls as others are chosen that tell the same: by the share of its variance that probes
    there would explain if all were Gaussian.

    Args:
        share: tokens of the round, as the trajectory's own length lets expect.
        left: tokens that must not be exceeded whatever happens.
        batch: probes that a place gets at once.
        rates: ``[C]`` gain a token.
        costs: ``[C]`` expected tokens of a probe.
        longest: ``[C]`` most tokens of a probe.
        values: ``[S, C]`` of profiles.
    """
    centred = values - values.mean(0)
    covariance = centred.T @ centred / len(values)
    variance, noise = covariance.diagonal(), (values * (1 - values)).mean(0)
    likeness = covariance**2 / np.maximum(variance[:, None] * variance, 1e-12)
    batch = max(batch, round(share / float(costs.mean()) / _PICKS))
    added = np.zeros(len(rates), dtype=np.int64)
    while share > 0:
        best = int(np.where(longest <= left, rates, -1.0).argmax())
        count = min(batch, left // int(longest[best]))
        if count < 1:
            break
        added[best] += count
        share, left = share - count * int(costs[best]), left - count * int(longest[best])
        explained = count * variance[best] / max(count * variance[best] + noise[best], 1e-12)
        rates = rates * (1 - likeness[best] * explained)
    return added


def _supposing(trajectory: TrajectoryState, outcome: float) -> TrajectoryState:
    """As if every probe in flight had come back with one outcome."""
    nodes = (
        Node(node.prefix, (*node.successes, *[outcome] * pending), node.ungraded)
        for node, pending in zip(trajectory.nodes, trajectory.pending, strict=True)
    )
    return replace(trajectory, nodes=tuple(nodes), pending=(0,) * trajectory.steps)
