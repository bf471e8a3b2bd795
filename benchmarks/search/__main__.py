"""How well, and at what cost, each search strategy finds the critical step: five tables.

    python benchmarks/search [simulated curves belief errors overhead] [--trajectories 200] [--seed 1] [--steps 8 16 32]

Writes benchmarks/results/search.json; tables that were not asked for stay in it as they were.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import belief
import curves
import errors
import overhead
import profiles
import torch

RESULTS = Path(__file__).parents[1] / "results" / "search.json"


def main() -> None:
    names = ("simulated", "curves", "belief", "errors", "overhead")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help=f"of {', '.join(names)}; none means all")
    parser.add_argument("--trajectories", type=int, default=200, help="simulated ones, and chains with an error")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 16, 32], help="of simulated trajectories")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if unknown := set(options.tables) - set(names):
        parser.error(f"no table is called {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    make: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "simulated": lambda: profiles.table(options.steps, options.trajectories, options.seed),
        "curves": lambda: curves.table(options.seed),
        "belief": lambda: belief.table(options.trajectories, options.seed),
        "errors": lambda: errors.table(min(100, options.trajectories), options.seed),
        "overhead": lambda: overhead.table(32, options.seed),
    }
    found: dict[str, Any] = json.loads(options.output.read_text()) if options.output.exists() else {}
    found = {name: rows for name, rows in found.items() if name in names}
    for name in options.tables or names:
        found[name] = {"trajectories": options.trajectories, "seed": options.seed, "rows": make[name]()}
        options.output.parent.mkdir(exist_ok=True)
        options.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
