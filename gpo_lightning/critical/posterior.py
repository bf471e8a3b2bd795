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
        change: chance that a step changes the value.
        settled: chance that a fresh value is exactly 0 or 1: nothing that follows matters any more. The rest is
            Jeffreys' prior, Beta(1/2, 1/2).
        nodes: values that Jeffreys' prior is summed over. They are those of Gauss and Chebyshev, which make the sums
            exact up to ``2 nodes - 1`` trials in a segment.
    """

    change: float = 0.2
    settled: float = 0.3
    nodes: int = 32

    def __post_init__(self) -> None:
        if not 0 < self.change < 1 or not 0 < self.settled < 1 or self.nodes < 2:
            raise ConfigError(
                f"data.search.prior: change is {self.change}, settled {self.settled}, nodes {self.nodes}; change and "
                "settled must lie in (0, 1), nodes must be at least 2."
            )

    @cached_property
    def values(self) -> Tensor:
        """``[G]`` ascending: 0, the nodes, 1."""
        inner = [(1 - cos((2 * k + 1) * pi / (2 * self.nodes))) / 2 for k in range(self.nodes)]
        return torch.tensor([0.0, *inner, 1.0], dtype=torch.float64)

    @cached_property
    def weights(self) -> Tensor:
        """``[G]`` prior probability of each value; the nodes of Gauss and Chebyshev all weigh the same."""
        weights = torch.full((self.nodes + 2,), (1 - self.settled) / self.nodes, dtype=torch.float64)
        weights[0] = weights[-1] = self.settled / 2
        return weights


class ValuePosterior:
    """Posteriors of B trajectories of up to n steps at once; shorter ones are padded and their padding never read.

    Args:
        successes: ``[B, n]`` rewards summed over the trials before each step.
        trials: ``[B, n]``.
        outcomes: ``[B]`` the trajectories' own rewards, V(s_n).
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
        likelihood = self._likelihood(successes.double(), trials.double())  # [B, n + 1, G]
        self._forward = self._pass_forward(likelihood)
        self._fresh = self._pass_backward(likelihood)

    def _likelihood(self, successes: Tensor, trials: Tensor) -> Tensor:
        values = self.prior.values
        logs = torch.special.xlogy(successes[..., None], values)
        logs = logs + torch.special.xlogy((trials - successes)[..., None], 1 - values)
        likelihood = (logs - logs.amax(-1, keepdim=True)).exp()
        padded = torch.nn.functional.pad(likelihood, (0, 0, 0, 1), value=1.0)
        # The end is seen: the value nearest to the outcome, which is 0 or 1 where rewards are.
        nearest = (values - self._outcomes[:, None]).abs().argmin(-1)
        end = torch.nn.functional.one_hot(nearest, len(values)).double()
        place = torch.arange(padded.shape[1])[None, :, None]
        last = self._steps[:, None, None]
        return torch.where(place == last, end[:, None], torch.where(place > last, 1.0, padded))

    def _pass_forward(self, likelihood: Tensor) -> Tensor:
        """``[B, n + 1, G]`` p(V_t | trials up to t)."""
        rho, weights = self.prior.change, self.prior.weights
        now = _normalised(weights * likelihood[:, 0])
        passed = [now]
        for t in range(1, likelihood.shape[1]):
            now = _normalised(((1 - rho) * now + rho * weights) * likelihood[:, t])
            passed.append(now)
        return torch.stack(passed, 1)

    def _pass_backward(self, likelihood: Tensor) -> Tensor:
        """``[B, n + 1, G]`` likelihood of the trials from t on, given V_t, up to a factor."""
        rho, weights = self.prior.change, self.prior.weights
        now = _normalised(likelihood[:, -1])
        passed = [now]
        for t in reversed(range(likelihood.shape[1] - 1)):
            now = _normalised(likelihood[:, t] * ((1 - rho) * now + rho * (weights * now).sum(-1, keepdim=True)))
            passed.append(now)
        return torch.stack(passed[::-1], 1)

    @cached_property
    def _marginals(self) -> Tensor:
        """``[B, n + 1, G]`` p(V_t | everything)."""
        rho, weights = self.prior.change, self.prior.weights
        after = self._fresh[:, 1:]
        ahead = (1 - rho) * after + rho * (weights * after).sum(-1, keepdim=True)
        return torch.cat([_normalised(self._forward[:, :-1] * ahead), self._forward[:, -1:]], 1)

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

    @cached_property
    def changes(self) -> Tensor:
        """``[B, n]`` probability that step t changed the value."""
        rho, weights = self.prior.change, self.prior.weights
        stay = (1 - rho) * (self._forward[:, :-1] * self._fresh[:, 1:]).sum(-1)
        change = rho * (weights * self._fresh[:, 1:]).sum(-1)
        return change / (stay + change)

    @cached_property
    def _sides(self) -> tuple[Tensor, Tensor]:
        """``[B, n, G]`` each: p(V_t) and p(V_{t+1}) given that step t changed the value; independent then."""
        return self._forward[:, :-1], _normalised(self.prior.weights * self._fresh[:, 1:])

    @cached_property
    def advantages(self) -> Tensor:
        """``[B, n]`` posterior mean of A_t = V_{t+1} - V_t."""
        before, after = self._sides
        return self.changes * ((after - before) * self.prior.values).sum(-1)

    @cached_property
    def absolute_advantages(self) -> Tensor:
        """``[B, n]`` posterior mean of |A_t|: the integral of P(one side below x, the other above)."""
        before, after = (side.cumsum(-1)[..., :-1] for side in self._sides)
        crossing = before * (1 - after) + after * (1 - before)
        return self.changes * (crossing * self.prior.values.diff()).sum(-1)

    def paths(self, samples: int, generator: torch.Generator) -> Tensor:
        """``[B, S, n + 1]`` draws of the whole value profile from its posterior.

        Args:
            samples: S.
            generator: draws them.
        """
        rho, weights, grid = self.prior.change, self.prior.weights, self.prior.values
        batch, length, _ = self._forward.shape
        below = self._forward.cumsum(-1)
        luck = torch.rand(length, 2, batch, samples, generator=generator, dtype=torch.float64)
        now = _draw(below[:, -1], luck[-1, 0])
        drawn = [now]
        for t in reversed(range(length - 1)):
            keep = (1 - rho) * self._forward[:, t].gather(-1, now)
            stays = luck[t, 1] * (keep + rho * weights[now]) < keep
            now = torch.where(stays, now, _draw(below[:, t], luck[t, 0]))
            drawn.append(now)
        return grid[torch.stack(drawn[::-1], -1)]


def _normalised(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True)


def _draw(below: Tensor, luck: Tensor) -> Tensor:
    """Indices drawn from cumulative weights ``[B, G]`` by uniform numbers ``[B, S]``."""
    return torch.searchsorted(below.contiguous(), luck * below[:, -1:]).clamp(max=below.shape[-1] - 1)


def trials_of(rewards: Sequence[Sequence[Sequence[float]]]) -> tuple[Tensor, Tensor, Tensor]:
    """Successes ``[B, n]``, trials ``[B, n]`` and steps ``[B]`` from the rewards seen before each step."""
    steps = torch.tensor([len(row) for row in rewards])
    successes, trials = torch.zeros(2, len(rewards), int(steps.max()) if len(rewards) else 0, dtype=torch.float64)
    for b, row in enumerate(rewards):
        for t, seen in enumerate(row):
            successes[b, t], trials[b, t] = sum(seen), len(seen)
    return successes, trials, steps
