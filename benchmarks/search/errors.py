"""How often the critical step is the mistake, on modular chains with one planted at a known step."""

from typing import Any

from tiny import explorer, served

from gpo_lightning.critical import (
    Bisect,
    ChangePoint,
    Exhaustive,
    MaxAbsAdvantage,
    MaxAdvantage,
    MinAdvantage,
    NoSearch,
    RandomStep,
    SearchStrategy,
    Selector,
)
from gpo_lightning.engines import Purpose
from gpo_lightning.evaluation.labelled_errors import errors_found
from gpo_lightning.problems import PlantedErrors
from gpo_lightning.rollouts import RolloutPlan

STRATEGIES: dict[str, SearchStrategy] = {
    "exhaustive 4": Exhaustive(4),
    "exhaustive 16": Exhaustive(16),
    "bisect 8": Bisect(8),
    "bisect 16": Bisect(16),
    "change_point 1": ChangePoint(budget=1.0),
    "change_point 2": ChangePoint(budget=2.0),
    "change_point 4": ChangePoint(budget=4.0),
}
SELECTORS: dict[str, Selector] = {
    "min_advantage": MinAdvantage(),
    "max_abs_advantage": MaxAbsAdvantage(),
    "max_advantage": MaxAdvantage(),
}


def table(count: int, seed: int) -> list[dict[str, Any]]:
    """Every selector with every strategy; the cost is tokens of probes in lengths of the trajectory."""
    planted = PlantedErrors(steps=8, count=count, seed=seed)
    trajectories = planted.trajectories()
    rows: list[dict[str, Any]] = []
    with served() as (policy, engine):
        length = sum(len(policy.tokenizer.encode("".join(trajectory.steps))) for trajectory in trajectories)

        def measure(name: str, strategy: SearchStrategy, rule: str, selector: Selector) -> None:
            before = engine.ledger.accounts[Purpose.PROBE].generated
            plan = RolloutPlan(problems=count, group_size=8)
            examined = explorer(engine, policy, planted.problems, plan, strategy, selector, seed)
            found = errors_found(trajectories, examined.examine(trajectories).trees)
            cost = (engine.ledger.accounts[Purpose.PROBE].generated - before) / length
            rows.append({"strategy": name, "selector": rule, "cost": cost, "found": found.mean, "n": found.n})
            print(f"{name:20}{rule:20}{cost:8.1f} {found}", flush=True)

        print(f"\n{count} chains of 8 steps with a planted error: how often it is the critical step")
        measure("random", NoSearch(), "random", RandomStep())
        for name, strategy in STRATEGIES.items():
            for rule, selector in SELECTORS.items():
                measure(name, strategy, rule, selector)
    return rows
