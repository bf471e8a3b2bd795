"""How well, and at what cost, each search strategy finds the critical step, on value profiles whose truth is known.

    python benchmarks/search.py [--trajectories 200] [--seed 1] [--steps 8 16 32]

Writes benchmarks/results/search.json.

Five families of profiles (their parameters were fixed before any strategy was tuned, and the tuning used other seeds),
trajectories of 8, 16 and 32 steps of unequal length. A *hit* is a chosen step whose true advantage is within 0.05 of
the best one's; *regret* is what it falls short by; *cost* is the tokens of all probes in lengths of the trajectory.
Seven siblings value the prompt for every strategy, as a group of eight gives them.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from gpo_lightning.critical import (
    Bisect,
    ChangePoint,
    Exhaustive,
    Known,
    MaxAdvantage,
    NoSearch,
    RandomStep,
    SearchStrategy,
    Selector,
)
from gpo_lightning.tree import Node

RESULTS = Path(__file__).parent / "results" / "search.json"
SIBLINGS = 7
TOKENS = 1000
SHARES = {8: 3, 16: 5, 32: 8}
"""Steps -> the share of exhaustive N = 32's tokens that the change-point search is to make do with."""

Draw = np.random.Generator
Profile = np.ndarray
"""``[n + 1]`` values before each step, and the outcome."""


# ---- families -------------------------------------------------------------------------------------------------------


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


# ---- one search -----------------------------------------------------------------------------------------------------


class Trajectory:
    """A profile that can be probed; its probes take as many tokens as the trajectory itself had left."""

    def __init__(self, profile: Profile, draw: Draw) -> None:
        self.profile, self.draw = profile, draw
        n = len(profile) - 1
        lengths = draw.gamma(2.0, 1.0, n)
        ends = np.round(np.cumsum(lengths) / lengths.sum() * (TOKENS - n)) + np.arange(1, n + 1)
        self.boundaries = (0, *(int(end) for end in ends))
        self.rewards: list[list[float]] = [[] for _ in range(n)]
        self.rewards[0] = self._trials(0, SIBLINGS)
        self.spent = 0

    def probe(self, step: int, count: int) -> None:
        self.rewards[step] += self._trials(step, count)
        self.spent += count * (TOKENS - self.boundaries[step])

    def _trials(self, step: int, count: int) -> list[float]:
        return (self.draw.random(count) < self.profile[step]).astype(float).tolist()

    @property
    def known(self) -> Known:
        nodes = tuple(Node((), tuple(seen)) for seen in self.rewards)
        return Known(self.boundaries, nodes, (0,) * len(nodes), float(self.profile[-1]), self.spent)


def search(trajectories: list[Trajectory], strategy: SearchStrategy, selector: Selector) -> list[int]:
    """The critical step of each trajectory, searched side by side."""
    searching = trajectories
    while searching:
        wanted = strategy.probes([trajectory.known for trajectory in searching], selector)
        asked = [(trajectory, steps) for trajectory, steps in zip(searching, wanted, strict=True) if steps]
        for trajectory, steps in asked:
            for step, count in steps.items():
                trajectory.probe(step, count)
        searching = [trajectory for trajectory, _ in asked]
    return [strategy.critical(t.known, selector, Random(i)) for i, t in enumerate(trajectories)]


def measure(
    family: str, n: int, strategy: SearchStrategy, selector: Selector, count: int, seed: int
) -> dict[str, float]:
    trajectories = [
        Trajectory(FAMILIES[family](np.random.default_rng([seed, n, i]), n), np.random.default_rng([seed, n, i, 1]))
        for i in range(count)
    ]
    begun = time.process_time()
    chosen = search(trajectories, strategy, selector)
    seconds = time.process_time() - begun
    scores = selector_truth(trajectories)
    best = scores.max(-1)
    got = scores[np.arange(count), chosen]
    return {
        "cost": sum(t.spent for t in trajectories) / TOKENS / count,
        "hit": float((got >= best - 0.05).mean()),
        "regret": float((best - got).mean()),
        "milliseconds": 1000 * seconds / count,
    }


def selector_truth(trajectories: list[Trajectory]) -> np.ndarray:
    """``[B, n]`` true advantages, by which every strategy is judged."""
    return np.diff(np.stack([trajectory.profile for trajectory in trajectories]), axis=1)


# ---- the table ------------------------------------------------------------------------------------------------------


def strategies(n: int) -> dict[str, tuple[SearchStrategy, Selector]]:
    # What exhaustive search costs on average: 32 probes of half a trajectory before all but the first step.
    whole = 32 * (n - 1) / 2
    best = MaxAdvantage()
    return {
        "random": (NoSearch(), RandomStep()),
        **{f"exhaustive {samples}": (Exhaustive(samples), best) for samples in (4, 8, 16, 32)},
        **{f"bisect {samples}": (Bisect(samples), best) for samples in (8, 16, 32)},
        "change_point": (ChangePoint(), best),
        f"change_point 1/{2 * SHARES[n]}": (ChangePoint(budget=whole / SHARES[n] / 2, sure=1.0, cap=1.0), best),
        f"change_point 1/{SHARES[n]}": (ChangePoint(budget=whole / SHARES[n], sure=1.0, cap=1.0), best),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for n in options.steps:
        print(f"\n{n} steps{'':14}" + "".join(f"{family:>22}" for family in FAMILIES))
        for name, (strategy, selector) in strategies(n).items():
            found = {f: measure(f, n, strategy, selector, options.trajectories, options.seed) for f in FAMILIES}
            rows.append({"steps": n, "strategy": name, "families": found})
            cells = (f"{r['cost']:8.0f} {r['hit']:5.2f} {r['regret']:7.3f}" for r in found.values())
            print(f"{name:20}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
    options.output.parent.mkdir(exist_ok=True)
    about = {"trajectories": options.trajectories, "seed": options.seed, "columns": "cost, hit rate, regret"}
    options.output.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
