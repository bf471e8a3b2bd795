"""Search strategies on value curves of a real model: 64 or more continuations before every step are the truth.

    python benchmarks/search/curves.py sums=runs/value-curves/sums/rollouts.parquet legs=...

keeps what is needed of such rollouts (`gpo explore --config configs/explore/...` writes them) in value_curves.json
beside this file, which the table is made from. `make value-curves` does both.

Probes are drawn with the measured success rates, so the measured curve is the truth by definition; that it is itself an
estimate (standard error up to 0.06) makes neighbouring steps look a little more different than they are.
"""

import json
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from profiles import Trajectory, measure, strategies

from gpo_lightning.rollouts import RolloutTree, read_trees

DATA = Path(__file__).with_name("value_curves.json")
SHARE = 3
"""Of the tokens of 32 probes a step; the trajectories have fewer than eight steps."""


def kept(tree: RolloutTree) -> list[dict[str, Any]]:
    """The curves of a tree, without their text."""
    curves: list[dict[str, Any]] = []
    for curve in tree.curves:
        steps = range(len(curve.boundaries) - 1)
        groups = [[tree.samples[i] for i in tree.group(curve.tokens[: curve.boundaries[t]])] for t in steps]
        lengths = [mean(len(sample.tokens) - sample.start for sample in group) for group in groups]
        curves.append(
            {
                "boundaries": curve.boundaries,
                "values": [round(value, 4) for value in curve.values],
                "trials": curve.trials,
                "lengths": [round(length, 1) for length in lengths],
            }
        )
    return curves


def trajectories(curves: list[dict[str, Any]], seed: int, repeats: int) -> list[Trajectory]:
    return [
        Trajectory(
            np.array(curve["values"]),
            tuple(curve["boundaries"]),
            tuple(curve["lengths"]),
            np.random.default_rng([seed, i, r]),
        )
        for r in range(repeats)
        for i, curve in enumerate(curves)
    ]


def table(seed: int, repeats: int = 4) -> list[dict[str, Any]]:
    """Every strategy on every task of the kept curves, each curve searched ``repeats`` times."""
    tasks: dict[str, list[dict[str, Any]]] = json.loads(DATA.read_text())
    rows: list[dict[str, Any]] = []
    for task, curves in tasks.items():
        print(f"\n{task}: {len(curves)} trajectories of SmolLM2, {mean(len(c['lengths']) for c in curves):.1f} steps")
        for name, (strategy, selector) in strategies(SHARE).items():
            found = measure(trajectories(curves, seed, repeats), strategy, selector)
            rows.append({"task": task, "trajectories": len(curves), "strategy": name, **found})
            print(f"{name:20}{found['cost']:8.1f} {found['hit']:5.2f} {found['regret']:7.3f}", flush=True)
    return rows


if __name__ == "__main__":
    named = (argument.split("=", 1) for argument in sys.argv[1:])
    made = {name: [curve for tree in read_trees(Path(path)) for curve in kept(tree)] for name, path in named}
    DATA.write_text(json.dumps(made, separators=(",", ":")) + "\n")
    print(f"{DATA}: " + ", ".join(f"{name} {len(curves)}" for name, curves in made.items()))
