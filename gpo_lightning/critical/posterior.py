"""What is known of a trajectory's values: an exact Bayesian change-point model of success along its steps.

Between most steps nothing is decided, so V(s_0), ..., V(s_n) is taken to be piecewise constant: each step changes the
value with a small chance, and then to a fresh draw from the prior. Probes before a step are Bernoulli trials of the
value there, and trials of one segment are read together. The last value is known, the trajectory's own outcome; its
outcome is no trial anywhere else, because the trajectory under study was not drawn at random once one looks at it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import cos, fsum, inf, pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpo_lightning.errors import ConfigError

Floats = NDArray[np.float64]

_SETTLED = 0.03
"""How far from 0 and 1 a belief takes settled values to be."""


@dataclass(frozen=True)
class ValuePrior:
    """What is believed of values before any probe.

    Args:
        change: chance that a step changes the value for good, to a fresh one.
        drift: chance that it moves the value a little, to a neighbouring node.
        settled: chance that a fresh value is exactly 0 or 1: nothing that follows matters any more. The rest is
            Jeffreys' prior, Beta(1/2, 1/2).
        nodes: values that Jeffreys' prior is summed over. They are those of Gauss and Chebyshev, which make the sums
            exact up to ``2 nodes - 1`` trials in a segment.
        belief: trials that :func:`even_steps` counts for before every step but the first, a belief that costs no
            token; 0 for none.
    """

    change: float = 0.2
    drift: float = 0.3
    settled: float = 0.3
    nodes: int = 32
    belief: float = 0.0

    def __post_init__(self) -> None:
        sound = 0 < self.change < 1 and 0 <= self.drift <= 1 - self.change and 0 < self.settled < 1
        if not sound or self.nodes < 2 or not 0 <= self.belief < inf:
            raise ConfigError(
                f"data.search.prior: change is {self.change}, drift {self.drift}, settled {self.settled}, nodes "
                f"{self.nodes}, belief {self.belief}; change and settled must lie in (0, 1), drift in [0, 1 - change], "
                "nodes must be >= 2, belief must not be negative."
            )

    @cached_property
    def values(self) -> Tensor:
        """``[G]`` ascending: 0, the nodes, 1."""
        inner = [(1 - cos((2 * k + 1) * pi / (2 * self.nodes))) / 2 for k in range(self.nodes)]
        return torch.tensor([0.0, *inner, 1.0], dtype=torch.float64)

    @cached_property
    def weights(self) -> Tensor:
        """``[G]`` probability of each fresh value; the nodes of Gauss and Chebyshev all weigh the same."""
        weights = torch.full((self.nodes + 2,), (1 - self.settled) / self.nodes, dtype=torch.float64)
        weights[0] = weights[-1] = self.settled / 2
        return weights

    @cached_property
    def kernel(self) -> Tensor:
        """``[G, G]`` probability of the value after a step, given the value before it."""
        size = self.nodes + 2
        stay = torch.eye(size, dtype=torch.float64) * (1 - self.change - self.drift)
        return stay + self.drift * self._neighbours + self.change * self.weights

    @cached_property
    def _neighbours(self) -> Tensor:
        """``[G, G]`` one node up or down, equally likely; what is settled, and the outermost nodes' ways out, stay."""
        moves = torch.eye(self.nodes + 2, dtype=torch.float64)
        for k in range(1, self.nodes + 1):
            moves[k, k] = 0.0
            moves[k, max(1, k - 1)] += 0.5
            moves[k, min(self.nodes, k + 1)] += 0.5
        return moves


class ValuePosterior:
    """Posteriors of B trajectories of up to n steps at once; shorter ones are padded and their padding never read.

    Args:
        successes: ``[B, n]`` success summed over the trials before each step.
        trials: ``[B, n]``.
        outcomes: ``[B]`` the trajectories' own success, V(s_n).
        steps: ``[B]`` how many steps each trajectory has; ``None`` for n.
        prior: what is believed beforehand.
    """

    def __init__(
        self,
        successes: Tensor,
        trials: Tensor,
        outcomes: Tensor,
        steps: Tensor | None = None,
        prior: ValuePrior = ValuePrior(),
    ) -> None:
        self.prior = prior
        self._steps = torch.full((len(trials),), trials.shape[1]) if steps is None else steps
        self._outcomes = outcomes.to(torch.float64)
        evidence = self._evidence(successes.double().numpy(), trials.double().numpy())
        forward, ahead = self._pass_both_ways(evidence)
        self._likelihood, self._forward, self._ahead = map(torch.from_numpy, (evidence, forward, ahead))

    def _evidence(self, successes: Floats, trials: Floats) -> Floats:
        """``[B, n + 1, G]`` likelihood of the trials at each place, up to a factor; the end is seen."""
        values, failures = self.prior.values.numpy(), trials - successes
        inner = values[1:-1]
        logs = np.empty((*trials.shape, len(values)))
        logs[..., 1:-1] = successes[..., None] * np.log(inner) + failures[..., None] * np.log1p(-inner)
        logs[..., 0], logs[..., -1] = np.where(successes > 0, -np.inf, 0.0), np.where(failures > 0, -np.inf, 0.0)
        evidence = np.ones((len(trials), trials.shape[1] + 1, len(values)))
        if self.prior.belief:
            # As if a few trials had been seen; what is settled is nearly 0 or 1 here, lest it be ruled out.
            rates = (successes[:, 0] + 0.5) / (trials[:, 0] + 1)
            expected = even_steps(rates, self._outcomes.numpy(), self._steps.numpy(), trials.shape[1])
            near = values.clip(_SETTLED, 1 - _SETTLED)
            seen = expected[..., None] * np.log(near) + (1 - expected[..., None]) * np.log1p(-near)
            logs[:, 1:] += self.prior.belief * seen[:, 1:]
        evidence[:, :-1] = np.exp(logs - logs.max(-1, keepdims=True))
        last = self._steps.numpy()
        evidence[np.arange(evidence.shape[1]) >= last[:, None]] = 1.0
        # The value nearest to the outcome, which is 0 or 1 where success is.
        nearest = np.abs(values - self._outcomes.numpy()[:, None]).argmin(-1)
        evidence[np.arange(len(last)), last] = np.arange(len(values)) == nearest[:, None]
        return evidence

    def _pass_both_ways(self, evidence: Floats) -> tuple[Floats, Floats]:
        """``[B, n + 1, G]`` each: p(V_t | trials up to t), and the likelihood of those after t, up to a factor.

        The prior is the same chain read backwards, so both passes are one recursion, and are made side by side.
        """
        batch, length = evidence.shape[:2]
        both = np.concatenate([evidence, evidence[:, ::-1]]).swapaxes(0, 1).copy()  # [n + 1, 2 B, G]
        known, expected = np.empty_like(both), np.ones_like(both)
        onward = self.prior.kernel.numpy().T.copy()
        for t in range(length):
            if t:
                # One small product a trajectory: as a whole it would be rounded by how many there are.
                expected[t] = (known[t - 1][:, None] @ onward)[:, 0]
            now = np.multiply(both[t], expected[t], out=known[t])
            now /= now.max(-1, keepdims=True)
        forward = self.prior.weights.numpy() * known[:, :batch].swapaxes(0, 1)
        ahead = expected[::-1, batch:].swapaxes(0, 1)
        return forward / forward.sum(-1, keepdims=True), np.ascontiguousarray(ahead)

    @cached_property
    def _marginals(self) -> Tensor:
        """``[B, n + 1, G]`` p(V_t | everything)."""
        return _normalised(self._forward * self._ahead)

    @cached_property
    def values(self) -> Tensor:
        """``[B, n + 1]`` posterior means of V before each step, and after the last."""
        return (self._marginals * self.prior.values).sum(-1)

    def interval(self, mass: float = 0.9) -> tuple[Tensor, Tensor]:
        """``[B, n + 1]`` each: bounds that hold V with the given probability, half of the rest on either side."""
        below = self._marginals.cumsum(-1)
        grid = self.prior.values
        low = (below < (1 - mass) / 2).sum(-1).clamp(max=len(grid) - 1)
        high = (below < (1 + mass) / 2).sum(-1).clamp(max=len(grid) - 1)
        return grid[low], grid[high]

    def _expected(self, worth: Tensor) -> Tensor:
        """``[B, n]`` posterior mean over (V_t, V_{t+1}) of ``worth[G, G]``, up to the factor that worth 1 has."""
        after = self._likelihood[:, 1:] * self._ahead[:, 1:]
        return (self._forward[:, :-1] @ worth * after).sum(-1)

    @cached_property
    def changes(self) -> Tensor:
        """``[B, n]`` probability that step t changed the value for good."""
        fresh = self.prior.change * self.prior.weights.expand(len(self.prior.weights), -1)
        return self._expected(fresh) / self._expected(self.prior.kernel)

    @cached_property
    def advantages(self) -> Tensor:
        """``[B, n]`` posterior mean of A_t = V_{t+1} - V_t."""
        return self.values.diff(dim=-1)

    @cached_property
    def absolute_advantages(self) -> Tensor:
        """``[B, n]`` posterior mean of |A_t|."""
        grid, kernel = self.prior.values, self.prior.kernel
        return self._expected(kernel * (grid - grid[:, None]).abs()) / self._expected(kernel)

    def states(self, samples: int, generator: torch.Generator) -> Tensor:
        """``[B, S, n + 1]`` draws of the whole value profile from its posterior, as indices of ``prior.values``.

        Drawn from the end to the beginning; across most steps the value stays. All trajectories share the random
        numbers, so that what is drawn for one depends on no other.

        Args:
            samples: S.
            generator: draws them.
        """
        forward, kernel = self._forward.numpy().swapaxes(0, 1), self.prior.kernel.numpy()
        length, batch, size = forward.shape
        luck = torch.rand(length, 2, samples, generator=generator, dtype=torch.float64).numpy()
        luck = np.tile(luck, batch)  # [n + 1, 2, B S]
        stays = forward[:-1] * kernel.diagonal() / (forward[:-1, :, None] @ kernel)[:, :, 0]  # given V_{t+1}
        moves = kernel.T * (1 - np.eye(size))  # [G after, G before]
        trajectory = np.arange(batch).repeat(samples)
        now = _draw(forward[-1][trajectory], luck[-1, 1])
        drawn = [now]
        for t in reversed(range(length - 1)):
            moved = np.flatnonzero(luck[t, 0] >= stays[t].take(trajectory * size + now))
            weights = forward[t].take(trajectory[moved], 0) * moves.take(now[moved], 0)
            now = now.copy()
            now[moved] = _draw(weights, luck[t, 1, moved])
            drawn.append(now)
        return torch.from_numpy(np.stack(drawn[::-1], -1).reshape(batch, samples, length))


def even_steps(rates: Floats, outcomes: Floats, steps: NDArray[np.int64], width: int) -> Floats:
    """``[B, width]`` values that are believed before each step if every step is equally hard and mistakes are final.

    A right prefix of t of n steps has the value p^(1 - t/n), the rule of :class:`.Frontier`. A success was right all
    the way; of the failures, a share (p^(t/n) - p) / (1 - p) was right until then.

    >>> even_steps(np.array([0.25, 0.25]), np.array([1.0, 0.0]), np.array([2, 2]), 2).round(3).tolist()
    [[0.25, 0.5], [0.25, 0.167]]

    Args:
        rates: ``[B]`` success from the prompt, p, in (0, 1).
        outcomes: ``[B]`` of the trajectories.
        steps: ``[B]`` n.
        width: columns; those after a trajectory's end have no meaning.
    """
    done = np.minimum(np.arange(width) / steps[:, None], 1.0)
    p = rates[:, None]
    right = p ** (1 - done)
    return right * np.where(outcomes[:, None] >= 0.5, 1.0, (p**done - p) / (1 - p))


def _normalised(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True)


def _draw(weights: Floats, luck: Floats) -> NDArray[np.int64]:
    """Indices drawn by weights ``[N, G]`` and uniform numbers ``[N]``."""
    below = weights.cumsum(-1)
    return (below > (luck * below[:, -1])[:, None]).argmax(-1)


def trials_of(outcomes: Sequence[Sequence[Sequence[float]]]) -> tuple[Tensor, Tensor, Tensor]:
    """Successes ``[B, n]``, trials ``[B, n]`` and steps ``[B]`` from the success seen before each step."""
    steps = [len(row) for row in outcomes]
    successes, trials = np.zeros((2, len(outcomes), max(steps, default=0)))
    for b, row in enumerate(outcomes):
        successes[b, : steps[b]] = [fsum(seen) for seen in row]
        trials[b, : steps[b]] = [len(seen) for seen in row]
    return torch.from_numpy(successes), torch.from_numpy(trials), torch.tensor(steps, dtype=torch.int64)
