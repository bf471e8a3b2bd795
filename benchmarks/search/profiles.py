"""Search strategies on simulated value profiles whose truth is known.

Five families (their parameters were fixed before any strategy was tuned, and the tuning used other seeds), of 8, 16
and 32 steps. A *hit* is a chosen step whose true advantage is within 0.05 of the best one's; *regret* is what it falls
short by; *cost* is the tokens of all probes in lengths of the trajectory. Seven siblings value the prompt for every
strategy, as a group of eight gives them.
"""

import time
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import torch

from gpo_lightning.critical import (
    Bisect,
    ChangePoint,
    Exhaustive,
    MaxAdvantage,
    NoSearch,
    RandomStep,
    SearchStrategy,
    Selector,
    Targets,
    TrajectoryState,
)
from gpo_lightning.critical.state import Node

SIBLINGS = 7
TOKENS = 1000
NEAR = 0.05
SHARES = {8: 3, 16: 5, 32: 8}
"""Steps -> the share of exhaustive N = 32's tokens that the change-point search is to make do with."""

Draw = np.random.Generator
Profile = np.ndarray
"""``[n + 1]`` values before each step, and the outcome."""


def one_pivot(draw: Draw, n: int) -> Profile:
    """Nothing happens but at one step, which all but decides; noise of 0.02 elsewhere."""
    before, turn = draw.uniform(0.2, 0.6), draw.integers(0, n)
    right = draw.random() < before
    values = np.full(n + 1, before)
    values[turn + 1 :] = draw.uniform(0.85, 1.0) if right else draw.uniform(0.0, 0.15)
    return _ending(_noisy(draw, values, 0.02), float(right))


def several_pivots(draw: Draw, n: int) -> Profile:
    """Two to four steps after which the value is anything."""
    turns = set(draw.choice(np.arange(1, n + 1), min(int(draw.integers(2, 5)), n), replace=False).tolist())
    values, now = np.empty(n + 1), draw.uniform(0.2, 0.8)
    for t in range(n + 1):
        now = draw.uniform() if t in turns else now
        values[t] = now
    return _ending(_noisy(draw, values, 0.02), float(draw.random() < values[n - 1]))


def martingale(draw: Draw, n: int) -> Profile:
    """An exact martingale: evidence of heavy-tailed weight (Pareto 1.2) comes in on what the outcome will be."""
    prior = draw.uniform(0.2, 0.8)
    right = draw.random() < prior
    weights = draw.pareto(1.2, n) + 0.05
    weights *= draw.uniform(4, 12) / weights.sum()
    logit = np.log(prior / (1 - prior)) + np.cumsum(draw.normal(weights / 2 * (1 if right else -1), np.sqrt(weights)))
    return _ending(np.array([prior, *(1 / (1 + np.exp(-logit)))]), float(right))


def monotone(draw: Draw, n: int) -> Profile:
    """Up, or down, all the way, in steps of very unequal size (Dirichlet 0.3)."""
    low, high = draw.uniform(0, 0.4), draw.uniform(0.6, 1.0)
    values = low + (high - low) * np.concatenate([[0.0], np.cumsum(draw.dirichlet(np.full(n, 0.3)))])
    values = values if draw.random() < 0.5 else 1 - values
    return _ending(values, float(values[n - 1] > 0.5))


def flat(draw: Draw, n: int) -> Profile:
    """Nothing happens at all until the outcome; noise of 0.03."""
    values = _noisy(draw, np.full(n + 1, draw.uniform(0.1, 0.9)), 0.03)
    return _ending(values, float(draw.random() < values[n - 1]))


def _noisy(draw: Draw, values: Profile, size: float) -> Profile:
    return np.clip(values + draw.normal(0, size, len(values)), 0, 1)


def _ending(values: Profile, outcome: float) -> Profile:
    return np.array([*values[:-1], outcome])


FAMILIES: dict[str, Callable[[Draw, int], Profile]] = {
    made.__name__: made for made in (one_pivot, several_pivots, martingale, monotone, flat)
}


class Trajectory:
    """A profile that can be probed.

    Args:
        profile: true values.
        boundaries: ``[n + 1]`` token offsets of its steps.
        lengths: ``[n]`` tokens of a probe before each step.
        draw: decides how probes come out.
    """

    def __init__(self, profile: Profile, boundaries: tuple[int, ...], lengths: tuple[float, ...], draw: Draw) -> None:
        self.profile, self.boundaries, self.lengths, self.draw = profile, boundaries, lengths, draw
        self.rewards: list[list[float]] = [[] for _ in lengths]
        self.rewards[0] = self._trials(0, SIBLINGS)
        self.tokens = 0.0

    @property
    def cost(self) -> float:
        """Tokens of its probes, in lengths of its own."""
        return self.tokens / self.boundaries[-1]

    def probe_up_to(self, targets: Targets) -> bool:
        """Draw what the targets lack; whether they lacked anything."""
        missing = {step: count - len(self.rewards[step]) for step, count in targets.items()}
        for step, count in missing.items():
            self.rewards[step] += self._trials(step, max(0, count))
            self.tokens += max(0, count) * self.lengths[step]
        return any(count > 0 for count in missing.values())

    def _trials(self, step: int, count: int) -> list[float]:
        return (self.draw.random(count) < self.profile[step]).astype(float).tolist()

    @property
    def state(self) -> TrajectoryState:
        nodes = tuple(Node((), tuple(seen)) for seen in self.rewards)
        probed = (len(self.rewards[0]) - SIBLINGS, *(len(seen) for seen in self.rewards[1:]))
        outcome = float(self.profile[-1])
        return TrajectoryState(self.boundaries, nodes, (0,) * len(nodes), probed, outcome, round(self.tokens))


def search(trajectories: list[Trajectory], strategy: SearchStrategy, selector: Selector) -> list[int]:
    """The critical step of each trajectory, searched side by side."""
    searching = trajectories
    while searching:
        targets = strategy.targets([trajectory.state for trajectory in searching], selector)
        searching = [t for t, target in zip(searching, targets, strict=True) if t.probe_up_to(target)]
    draws = [Random(i) for i in range(len(trajectories))]
    return strategy.critical([trajectory.state for trajectory in trajectories], selector, draws)


def simulated(family: str, n: int, count: int, seed: int) -> list[Trajectory]:
    """Trajectories of steps of unequal length, whose probes take as many tokens as the trajectory itself had left."""
    made: list[Trajectory] = []
    for i in range(count):
        profile = FAMILIES[family](np.random.default_rng([seed, n, i]), n)
        draw = np.random.default_rng([seed, n, i, 1])
        lengths = draw.gamma(2.0, 1.0, n)
        ends = np.round(np.cumsum(lengths) / lengths.sum() * (TOKENS - n)) + np.arange(1, n + 1)
        boundaries = (0, *(int(end) for end in ends))
        made.append(Trajectory(profile, boundaries, tuple(TOKENS - float(b) for b in boundaries[:-1]), draw))
    return made


def measure(trajectories: list[Trajectory], strategy: SearchStrategy, selector: Selector) -> dict[str, float]:
    """Cost in lengths, hit rate, regret, and milliseconds of CPU, a trajectory; judged by true scores."""
    begun = time.process_time()
    chosen = search(trajectories, strategy, selector)
    seconds = time.process_time() - begun
    judge = MaxAdvantage() if isinstance(selector, RandomStep) else selector
    lost, hits = 0.0, 0
    for trajectory, step in zip(trajectories, chosen, strict=True):
        scores = judge.scores(torch.from_numpy(trajectory.profile))
        short = float(scores.max() - scores[step])
        lost, hits = lost + short, hits + (short <= NEAR)
    count = len(trajectories)
    return {
        "cost": sum(trajectory.cost for trajectory in trajectories) / count,
        "hit": hits / count,
        "regret": lost / count,
        "milliseconds": 1000 * seconds / count,
    }


def strategies(share: int) -> dict[str, tuple[SearchStrategy, Selector]]:
    """What is compared; ``share`` is the part of what 32 probes a step cost that we are to make do with."""
    best = MaxAdvantage()
    return {
        "random": (NoSearch(), RandomStep()),
        **{f"exhaustive {samples}": (Exhaustive(samples), best) for samples in (4, 8, 16, 32)},
        **{f"bisect {samples}": (Bisect(samples), best) for samples in (8, 16, 32)},
        **{f"change_point {budget}": (ChangePoint(budget), best) for budget in (2, 4, 8)},
        f"change_point 32/{share}": (ChangePoint(32 / share, sure=1.0, cap=1.0), best),
    }


def table(steps: list[int], count: int, seed: int) -> list[dict[str, Any]]:
    """Every strategy on every family and length; printed while it is made."""
    rows: list[dict[str, Any]] = []
    for n in steps:
        print(f"\n{f'{n} steps':20}" + "".join(f"{family:>22}" for family in FAMILIES))
        for name, (strategy, selector) in strategies(SHARES[n]).items():
            found = {f: measure(simulated(f, n, count, seed), strategy, selector) for f in FAMILIES}
            rows.append({"steps": n, "strategy": name, "families": found})
            cells = (f"{r['cost']:8.1f} {r['hit']:5.2f} {r['regret']:7.3f}" for r in found.values())
            print(f"{name:20}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
    return rows
