"""What an iteration of GPO costs beyond the base method's, in tokens and in time outside the engine."""

from typing import Any

from tiny import explorer, served

from gpo_lightning.critical import Bisect, ChangePoint, Exhaustive, MaxAdvantage, NoSearch, SearchStrategy
from gpo_lightning.engines import Ledger, Purpose
from gpo_lightning.experience.groups import groups
from gpo_lightning.problems import ModularChains
from gpo_lightning.rollouts import RolloutPlan, RolloutTree

STRATEGIES: dict[str, SearchStrategy] = {
    "base method": NoSearch(),
    "random step": NoSearch(),
    "exhaustive 4": Exhaustive(4),
    "exhaustive 32": Exhaustive(32),
    "bisect 16": Bisect(16),
    "change_point": ChangePoint(),
}


def reused(tree: RolloutTree) -> int:
    """Tokens of probes that belong to the group of a critical prefix, and so were not drawn again for it."""
    return sum(tree.spent(prefix, Purpose.PROBE) for prefix in {curve.critical_prefix for curve in tree.curves})


def table(problems: int, seed: int) -> list[dict[str, Any]]:
    """One iteration of the quickstart's plan (every mixed group explored) for each strategy."""
    source = ModularChains(steps=8)
    rows: list[dict[str, Any]] = []
    columns = ("tokens", "x base", "no reuse", "rollouts", "all reused", "search")
    print(f"\n{'one iteration':20}" + "".join(f"{column:>11}" for column in columns))
    with served() as (policy, engine):
        for name, strategy in STRATEGIES.items():
            plan = RolloutPlan(problems=problems, group_size=8, reset_probability=float(name != "base method"))
            engine.ledger = Ledger()
            made = explorer(engine, policy, source, plan, strategy, MaxAdvantage(), seed).explore(
                source.train()[:problems], 0
            )
            tokens = sum(account.generated + account.prefilled for account in engine.ledger.accounts.values())
            base = rows[0]["tokens"] if rows else tokens
            seconds = made.seconds.seconds
            row = {
                "strategy": name,
                "tokens": tokens,
                "times_base": tokens / base,
                "times_base_without_reuse": (tokens + sum(map(reused, made.trees))) / base,
                "rollouts": sum(len(g.samples) for g in groups(made.trees, ("critical", "prompt"))),
                "rollouts_all_reused": sum(len(g.samples) for g in groups(made.trees, ("critical", "prompt", "probe"))),
                "search_share": seconds.get("search", 0.0) / sum(seconds.values()),
            }
            rows.append(row)
            print(
                f"{name:20}{tokens:11,}{row['times_base']:11.2f}{row['times_base_without_reuse']:11.2f}"
                f"{row['rollouts']:11}{row['rollouts_all_reused']:11}{100 * row['search_share']:10.1f}%",
                flush=True,
            )
    return rows
