"""What is known of a trajectory's values: an exact Bayesian change-point model of success along its steps.

Between most steps nothing is decided, so V(s_0), ..., V(s_n) is taken to be piecewise constant: each step changes the
value with a small chance, and then to a fresh draw from the prior. Probes before a step are Bernoulli trials of the
value there, and trials of one segment are read together. The last value is known, the trajectory's own outcome; its
outcome is no trial anywhere else, because the trajectory under study was not drawn at random once one looks at it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import cos, pi

import torch
from torch import Tensor

from gpo_lightning.errors import ConfigError


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
    """

    change: float = 0.2
    drift: float = 0.3
    settled: float = 0.3
    nodes: int = 32

    def __post_init__(self) -> None:
        sound = 0 < self.change < 1 and 0 <= self.drift <= 1 - self.change and 0 < self.settled < 1
        if not sound or self.nodes < 2:
            raise ConfigError(
                f"data.search.prior: change is {self.change}, drift {self.drift}, settled {self.settled}, nodes "
                f"{self.nodes}; change and settled must lie in (0, 1), drift in [0, 1 - change], nodes must be >= 2."
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
        self._likelihood = self._evidence(successes.double(), trials.double())
        self._forward = self._pass_forward()
        self._ahead = self._pass_backward()

    def _evidence(self, successes: Tensor, trials: Tensor) -> Tensor:
        """``[B, n + 1, G]`` likelihood of the trials at each place, up to a factor; the end is seen."""
        values = self.prior.values
        logs = torch.special.xlogy(successes[..., None], values)
        logs = logs + torch.special.xlogy((trials - successes)[..., None], 1 - values)
        likelihood = (logs - logs.amax(-1, keepdim=True)).exp()
        padded = torch.nn.functional.pad(likelihood, (0, 0, 0, 1), value=1.0)
        # The value nearest to the outcome, which is 0 or 1 where success is.
        nearest = (values - self._outcomes[:, None]).abs().argmin(-1)
        end = torch.nn.functional.one_hot(nearest, len(values)).double()
        place = torch.arange(padded.shape[1])[None, :, None]
        last = self._steps[:, None, None]
        return torch.where(place == last, end[:, None], torch.where(place > last, 1.0, padded))

    def _pass_forward(self) -> Tensor:
        """``[B, n + 1, G]`` p(V_t | trials up to t)."""
        now = _normalised(self.prior.weights * self._likelihood[:, 0])
        passed = [now]
        for evidence in self._likelihood.unbind(1)[1:]:
            now = _normalised(now @ self.prior.kernel * evidence)
            passed.append(now)
        return torch.stack(passed, 1)

    def _pass_backward(self) -> Tensor:
        """``[B, n + 1, G]`` likelihood of the trials after t, given V_t, up to a factor."""
        now = torch.ones_like(self._likelihood[:, -1])
        passed = [now]
        for evidence in reversed(self._likelihood.unbind(1)[1:]):
            now = _normalised(evidence * now @ self.prior.kernel.T)
            passed.append(now)
        return torch.stack(passed[::-1], 1)

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

        Args:
            samples: S.
            generator: draws them.
        """
        batch, length, _ = self._forward.shape
        luck = torch.rand(length, batch, samples, 1, generator=generator, dtype=torch.float64)
        now = _draw(self._forward[:, -1, None].cumsum(-1), luck[-1])
        drawn = [now]
        for t in reversed(range(length - 1)):
            before = self._forward[:, t, None] * self.prior.kernel.T  # [B, G after, G before]
            table = before.cumsum(-1)
            rows = table.gather(1, now[..., None].expand(-1, -1, table.shape[-1]))
            now = _draw(rows, luck[t])
            drawn.append(now)
        return torch.stack(drawn[::-1], -1)


def _normalised(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True)


def _draw(below: Tensor, luck: Tensor) -> Tensor:
    """Indices ``[B, S]`` drawn from cumulative weights ``[B, S, G]`` by uniform numbers ``[B, S, 1]``."""
    return (below < luck * below[..., -1:]).sum(-1).clamp(max=below.shape[-1] - 1)


def trials_of(outcomes: Sequence[Sequence[Sequence[float]]]) -> tuple[Tensor, Tensor, Tensor]:
    """Successes ``[B, n]``, trials ``[B, n]`` and steps ``[B]`` from the success seen before each step."""
    steps = torch.tensor([len(row) for row in outcomes])
    successes, trials = torch.zeros(2, len(outcomes), int(steps.max()) if outcomes else 0, dtype=torch.float64)
    for b, row in enumerate(outcomes):
        for t, seen in enumerate(row):
            successes[b, t], trials[b, t] = sum(seen), len(seen)
    return successes, trials, steps
