"""What a belief without probes is worth: change_point with and without it, where truth is known.

Value curves of SmolLM2 (see curves.py), each searched four times, and two simulated families of 16 steps: hit rate and
regret at equal budgets. `measured` is how far the belief lies from the true values (root mean square).
"""

import json
from typing import Any

import numpy as np
from curves import DATA, trajectories
from profiles import Trajectory, measure, simulated

from gpo_lightning.critical import ChangePoint, MaxAbsAdvantage, MaxAdvantage, MinAdvantage, ValuePrior
from gpo_lightning.critical.posterior import even_steps

BELIEFS = (0.0, 0.25, 1.0)


def table(count: int, seed: int) -> list[dict[str, Any]]:
    """A row for each task, selector and budget."""
    curves: dict[str, list[dict[str, Any]]] = json.loads(DATA.read_text())
    rows: list[dict[str, Any]] = []
    for task in (*curves, "monotone", "martingale"):

        def drawn(task: str = task) -> list[Trajectory]:
            return trajectories(curves[task], seed, 4) if task in curves else simulated(task, 16, count, seed)

        print(f"\n{task}: the belief is off by {measured(drawn()):.2f}; hit rate and regret with a belief of")
        print(f"{'':32}" + "".join(f"{belief:>15}" for belief in BELIEFS))
        for selector in (MaxAdvantage(), MaxAbsAdvantage(), MinAdvantage()):
            for budget in (1, 2, 4):
                searches = [ChangePoint(budget, prior=ValuePrior(nodes=16, belief=belief)) for belief in BELIEFS]
                found = [measure(drawn(), search, selector) for search in searches]
                name = f"{type(selector).__name__}, budget {budget}"
                rows.append({"task": task, "strategy": name, "beliefs": BELIEFS, "found": found})
                print(f"{name:32}" + "".join(f"{its['hit']:8.2f} {its['regret']:6.3f}" for its in found), flush=True)
    return rows


def measured(found: list[Trajectory]) -> float:
    """Root mean square of what the belief is off by, given the true success from the prompt."""
    errors: list[float] = []
    for each in found:
        values, steps = each.profile, len(each.lengths)
        rate = values[:1].clip(0.02, 0.98)
        believed = even_steps(rate, values[-1:], np.array([steps]), steps)[0]
        errors += ((believed - values[:-1]) ** 2).tolist()
    return float(np.mean(errors) ** 0.5)
