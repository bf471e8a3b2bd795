"""Where a trajectory turned, for people who look at it: which step, how large, and how probable that it is the one.

Training resets to the step a selector likes best, however little is known. A person who is shown a step wants to know
whether it is *the* step, so here nothing is called a turn without the probability that it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpo_lightning.critical.posterior import ValuePosterior, ValuePrior, trials_of

_TOGETHER = 256
"""Trajectories read at once; more need more memory and are no faster."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A step across which the chance to succeed changes.

    Args:
        step: its index t.
        before: posterior mean of V before it.
        after: and after it.
        probability: that no other step changes V more in this direction, and that this one changes it noticeably.
    """

    step: int
    before: float
    after: float
    probability: float

    @property
    def size(self) -> float:
        """V after the step less V before it."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Reading:
    """What the trials before each of a trajectory's n steps say of its values.

    Args:
        values: ``[n + 1]`` posterior means; the last is the trajectory's own outcome.
        low: ``[n + 1]`` lower end of the credible band, which holds the mean as well.
        high: ``[n + 1]`` upper end.
        fall: the step most probably the largest fall.
        gain: the step most probably the largest gain.
        outcome: V(s_n), the trajectory's own.
    """

    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    fall: Turn
    gain: Turn
    outcome: float

    @property
    def turn(self) -> Turn:
        """The one in the direction of the outcome: the gain that made a solution right, the fall that ruined it."""
        return self.gain if self.outcome > 0.5 else self.fall

    @property
    def other(self) -> Turn:
        """The one against it: a gain that was lost again, a fall that was made good."""
        return self.fall if self.outcome > 0.5 else self.gain


@dataclass(frozen=True)
class TurnReader:
    """Reads turns from trials, through :class:`ValuePosterior`.

    >>> seen = [[1, 1, 0, 1]] * 4 + [[0] * 8] * 3  # seen before each of seven steps of a wrong solution
    >>> reading = TurnReader().read([seen], [0.0])[0]
    >>> reading.turn.step, round(reading.turn.before, 2), round(reading.turn.after, 2)
    (3, 0.73, 0.0)
    >>> reading.turn.probability > 0.9
    True

    Args:
        least: a smaller change is not noticed.
        mass: probability that V lies in its band.
        profiles: drawn from each posterior; the probability of a turn is a share of these.
        prior: what is believed of values beforehand.
    """

    least: float = 0.2
    mass: float = 0.9
    profiles: int = 400
    prior: ValuePrior = ValuePrior()

    def read(self, seen: Sequence[Sequence[Sequence[float]]], outcomes: Sequence[float]) -> list[Reading]:
        """One reading a trajectory.

        Args:
            seen: success of the continuations before each step, of each trajectory; every one has at least one step.
            outcomes: the trajectories' own success, in [0, 1].
        """
        readings: list[Reading] = []
        # Those of one length stand together, so that little is spent on padding.
        order = sorted(range(len(seen)), key=lambda i: len(seen[i]))
        for first in range(0, len(order), _TOGETHER):
            chosen = order[first : first + _TOGETHER]
            readings += self._read([seen[i] for i in chosen], [float(outcomes[i]) for i in chosen])
        return [reading for _, reading in sorted(zip(order, readings, strict=True), key=lambda pair: pair[0])]

    def _read(self, seen: Sequence[Sequence[Sequence[float]]], outcomes: Sequence[float]) -> list[Reading]:
        successes, trials, steps = trials_of(seen)
        ends = torch.tensor(outcomes, dtype=torch.float64)
        posterior = ValuePosterior(successes, trials, ends, steps, self.prior)
        profiles = self.prior.values[posterior.states(self.profiles, torch.Generator().manual_seed(0))]
        inside = torch.arange(successes.shape[1]) < steps[:, None]
        changes = profiles.diff(dim=-1)
        falls, gains = self._largest(-changes, inside), self._largest(changes, inside)
        low, high = posterior.interval(self.mass)
        low, high = torch.minimum(low, posterior.values), torch.maximum(high, posterior.values)
        bands = zip(posterior.values.tolist(), low.tolist(), high.tolist(), strict=True)
        return [
            _reading([row[:n] for row in band], fall, gain, outcome)
            for n, band, fall, gain, outcome in zip(steps.tolist(), bands, falls, gains, outcomes, strict=True)
        ]

    def _largest(self, changes: Tensor, inside: Tensor) -> list[tuple[int, float]]:
        """For each trajectory the step that is most often the largest of ``changes[B, S, n]``, and how often."""
        found = changes.masked_fill(~inside[:, None], -torch.inf).max(-1)
        hits = torch.nn.functional.one_hot(found.indices, changes.shape[-1]) * (found.values >= self.least)[..., None]
        best = hits.double().mean(1).max(-1)
        return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def _reading(
    band: Sequence[Sequence[float]], fall: tuple[int, float], gain: tuple[int, float], outcome: float
) -> Reading:
    """From means, lower and upper ends ``[n]`` before the steps; the outcome closes each."""
    values, low, high = ((*row, outcome) for row in band)
    turns = [Turn(step, values[step], values[step + 1], probability) for step, probability in (fall, gain)]
    return Reading(values, low, high, turns[0], turns[1], outcome)
