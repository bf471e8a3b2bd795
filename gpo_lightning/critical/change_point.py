"""Search by expected gain: probes go where, by the change-point posterior, a token tells most about the choice."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from random import Random

import torch
from torch import Tensor

from gpo_lightning.critical.posterior import ValuePosterior, ValuePrior, trials_of
from gpo_lightning.critical.search import SearchStrategy, Targets
from gpo_lightning.critical.selectors import Selector
from gpo_lightning.critical.state import Node, TrajectoryState
from gpo_lightning.errors import ConfigError

_NEAR = 0.05
"""Two steps whose scores differ by less are equally good choices."""


@dataclass(frozen=True)
class ChangePoint(SearchStrategy):
    """Reads probes through :class:`ValuePosterior`, and places them by value of information a token.

    Whole value profiles are drawn from the posterior. Each says how probes before a step would come out, and what the
    selector would score; so the expected score of the best choice *after* probing is an average over profiles, and
    what it gains over the best choice now, for every token it costs, decides where to probe next (Frazier et al.
    2008, "knowledge gradient"; looking further ahead than is bought, because a few trials alone seldom change a
    choice). Late prefixes are cheap, early ones dear, and settled stretches tell nothing; all three follow by
    themselves.

    Args:
        budget: most tokens of probes for a trajectory, never exceeded: as many as would bring so many continuations
            before each step but the first together, so that ``budget=4`` costs no more than ``Exhaustive(4)``.
        batch: probes asked for at once.
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
    prior: ValuePrior = ValuePrior()

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
        open_ = [i for i, state in enumerate(trajectories) if not any(state.pending) and any(self._affordable(state))]
        if open_:
            chosen = self._choose([trajectories[i] for i in open_], selector)
            for i, (step, count) in zip(open_, chosen, strict=True):
                targets[i] = {step: trajectories[i].nodes[step].drawn + count} if count else {}
        return targets

    def _affordable(self, trajectory: TrajectoryState) -> list[int]:
        """``[n]`` probes before each step that the rest of the budget is sure to pay for."""
        left = int(trajectory.sweep(self.budget)) - trajectory.spent
        return [max(0, min(self.batch, left // self.longest(trajectory, t))) for t in range(trajectory.steps)]

    def _choose(self, trajectories: Sequence[TrajectoryState], selector: Selector) -> list[tuple[int, int]]:
        """For each trajectory the step to probe, and how often; 0 where the choice is sure enough."""
        width = max(trajectory.steps for trajectory in trajectories)
        states, scores = self._scored_profiles(trajectories, selector)
        counts = torch.tensor([[*self._affordable(k), *[0] * (width - k.steps)] for k in trajectories])
        costs = torch.tensor([[*map(k.remaining, range(k.steps)), *[1] * (width - k.steps)] for k in trajectories])
        gains = self._gains(states[..., :-1], scores) / costs
        # Where no outcome would change the choice, the least known value may yet.
        doubt = self.prior.values[states[..., :-1]].std(1) / costs * 1e-6
        best = (gains + doubt).masked_fill(counts == 0, -1.0).argmax(-1)
        counts = counts * (self._sureness(scores) < self.sure)[:, None]
        return [(int(step), int(row[step])) for step, row in zip(best, counts, strict=True)]

    def cancellable(self, trajectories: Sequence[TrajectoryState], selector: Selector) -> list[set[int]]:
        cancellable: list[set[int]] = [set() for _ in trajectories]
        # Asked only when half a batch is back: before that nothing is ever settled, and asking costs time.
        places = [i for i, trajectory in enumerate(trajectories) if 0 < sum(trajectory.pending) <= self.batch / 2]
        if not places:
            return cancellable
        verdicts: list[list[tuple[int, bool]]] = []
        for outcome in (0.0, 1.0):
            _, scores = self._scored_profiles([_supposing(trajectories[i], outcome) for i in places], selector)
            sure = (self._sureness(scores) >= self.sure).tolist()
            verdicts.append(list(zip(scores.mean(1).argmax(-1).tolist(), sure, strict=True)))
        for i, worst, best in zip(places, *verdicts, strict=True):
            if worst == best and worst[1]:
                cancellable[i] = {step for step, pending in enumerate(trajectories[i].pending) if pending}
        return cancellable

    def _scored_profiles(self, trajectories: Sequence[TrajectoryState], selector: Selector) -> tuple[Tensor, Tensor]:
        """Drawn profiles ``[B, S, width + 1]`` as states of the prior, and the selector's scores ``[B, S, width]``."""
        states = self._posterior(trajectories).states(self.profiles, torch.Generator().manual_seed(0))
        inside = torch.tensor(
            [[t < trajectory.steps for t in range(states.shape[-1] - 1)] for trajectory in trajectories]
        )
        scores = selector.scores(self.prior.values[states])
        return states, scores.masked_fill(~inside[:, None], -torch.inf)

    @cached_property
    def _odds(self) -> Tensor:
        """``[G, K]`` probability of each number of successes in ``lookahead`` trials, by the value."""
        successes = torch.arange(self.lookahead + 1, dtype=torch.float64)
        return torch.distributions.Binomial(self.lookahead, self.prior.values[:, None]).log_prob(successes).exp()

    def _gains(self, states: Tensor, scores: Tensor) -> Tensor:
        """``[B, n]`` how much better the best expected score is after ``lookahead`` trials before each step."""
        samples, steps = states.shape[1:]
        odds = self._odds[states].permute(0, 2, 3, 1).flatten(1, 2)  # [B, n K, S]
        finite = scores.nan_to_num(neginf=-1e3)
        after = (odds @ finite / samples).amax(-1).unflatten(1, (steps, -1))  # [B, n, K]
        return after.sum(-1) - finite.mean(1).amax(-1, keepdim=True)

    def _sureness(self, scores: Tensor) -> Tensor:
        """``[B]`` probability that the step chosen now is as good as the best."""
        chosen = scores.mean(1).argmax(-1)[:, None, None].expand(-1, scores.shape[1], 1)
        return (scores.gather(-1, chosen).squeeze(-1) >= scores.amax(-1) - _NEAR).double().mean(-1)

    def _posterior(self, trajectories: Sequence[TrajectoryState]) -> ValuePosterior:
        successes, trials, steps = trials_of(
            [[node.successes for node in trajectory.nodes] for trajectory in trajectories]
        )
        outcomes = torch.tensor([trajectory.success for trajectory in trajectories], dtype=torch.float64)
        return ValuePosterior(successes, trials, outcomes, steps, self.prior)

    def values(self, trajectories: Sequence[TrajectoryState]) -> list[tuple[float, ...]]:
        return [(*self._posterior([state]).values[0, : state.steps].tolist(), state.success) for state in trajectories]

    def critical(
        self, trajectories: Sequence[TrajectoryState], selector: Selector, draws: Sequence[Random]
    ) -> list[int]:
        chosen: list[int] = []
        for state, draw in zip(trajectories, draws, strict=True):
            profiles = self._posterior([state]).states(1024, torch.Generator().manual_seed(0))[0]
            chosen.append(selector.first_best(selector.scores(self.prior.values[profiles]).mean(0), draw))
        return chosen


def _supposing(trajectory: TrajectoryState, outcome: float) -> TrajectoryState:
    """As if every probe in flight had come back with one outcome."""
    nodes = (
        Node(node.prefix, (*node.successes, *[outcome] * pending), node.ungraded)
        for node, pending in zip(trajectory.nodes, trajectory.pending, strict=True)
    )
    return replace(trajectory, nodes=tuple(nodes), pending=(0,) * trajectory.steps)
