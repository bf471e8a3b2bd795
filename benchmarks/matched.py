"""Methods at matched compute: held-out accuracy when every method has spent the same tokens on rollouts.

    python benchmarks/matched.py [methods ...] [--tasks chains-8 chains-16] [--tokens 150000] [--seeds 0 1 2] [--go-on]

Probes and prefixes count like any other token; beside that, accuracy by generated tokens alone, which is what an engine
pays that has every prefix in its cache. A run is measured after each iteration; a method's accuracy at a budget is
interpolated between the two iterations around it. Writes benchmarks/results/matched.json; methods and tasks that
were not asked for stay in it as they were.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from statistics import mean, stdev
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "matched.json"

ALL_REUSED = (
    "--data.experience={class_path: gpo_lightning.experience.PolicyGradient, "
    "init_args: {starts: [critical, prompt, probe]}}"
)
METHODS: dict[str, list[str]] = {
    "base method": ["--config=configs/critical/off.yaml"],
    "random step": ["--config=configs/critical/random.yaml"],
    "exhaustive 4 (paper)": [],
    "change_point 4": ["--config=configs/critical/change_point.yaml"],
    "change_point 2": ["--config=configs/critical/change_point.yaml", "--data.search.init_args.budget=2.0"],
    "change_point 4, all probes": ["--config=configs/critical/change_point.yaml", ALL_REUSED],
    "change_point 4, min": [
        "--config=configs/critical/change_point.yaml",
        "--config=configs/critical/min_advantage.yaml",
    ],
}
TASKS: dict[str, list[str]] = {
    "chains-8": ["--data.problems.init_args.steps=8"],
    "chains-16": [
        "--data.problems.init_args.steps=16",
        "--data.sampling.max_tokens=192",
        "--data.evaluation.max_tokens=192",
    ],
}
HELDOUT = 256
SHARES = (0.25, 0.5, 0.75, 1.0)


def command(method: str, task: str, tokens: int, seed: int, folder: Path) -> list[str]:
    evaluated = "gpo_lightning.callbacks.BenchmarkEvaluation, init_args: {every_n_epochs: 1, on_end: false}"
    budget = f"gpo_lightning.callbacks.TokenBudget, init_args: {{tokens: {tokens}}}"
    return [
        *(sys.executable, "-m", "gpo_lightning", "fit", "--config=configs/quickstart.yaml"),
        *METHODS[method],
        *TASKS[task],
        f"--seed_everything={seed}",
        f"--data.problems.init_args.heldout_size={HELDOUT}",
        "--data.engine=gpo_lightning.engines.Transformers",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        "--trainer.max_epochs=-1",
        f"--trainer.callbacks=[{{class_path: {evaluated}}}, {{class_path: {budget}}}, "
        "{class_path: gpo_lightning.callbacks.MetricsLog}]",
        f"--trainer.logger.init_args={{save_dir: {folder.parent}, name: {folder.name}, version: last}}",
    ]


def run(method: str, task: str, tokens: int, seed: int, core: int, go_on: bool) -> list[tuple[float, float, float]]:
    """A training run on one core: (tokens spent, those generated, held-out accuracy) after each iteration."""
    folder = ROOT / "runs" / "matched" / f"{task}-{re.sub(r'[^a-z0-9]+', '_', method)}-{tokens}-{seed}"
    if not (go_on and (folder / "finished").exists()):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.txt").open("w") as log:
            subprocess.run(
                command(method, task, tokens, seed, folder),
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
                check=True,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            )
        (folder / "finished").touch()
    moments = json.loads((folder / "last" / "evaluation" / "results.json").read_text())["heldout"]
    accuracy = {int(moment): result["overall"]["means"]["accuracy"]["mean"] for moment, result in moments.items()}
    spent, generated = {0: 0.0}, {0: 0.0}
    for file in (folder / "last" / "metrics").glob("iteration-*.json"):
        logged = json.loads(file.read_text())
        moment = int(file.stem.partition("-")[2]) + 1
        generated[moment] = logged["compute/generated"]
        spent[moment] = generated[moment] + logged["compute/prefilled"]
    return [(spent[moment], generated[moment], accuracy[moment]) for moment in sorted(accuracy)]


def at(curve: list[tuple[float, float]], tokens: float) -> float:
    """Accuracy when ``tokens`` were spent, on the line between the measurements around."""
    for (before, low), (after, high) in pairwise(curve):
        if before <= tokens <= after:
            return low + (high - low) * (tokens - before) / (after - before)
    return curve[-1][1]


def levels(curves: list[list[tuple[float, float]]], budgets: list[float]) -> dict[str, dict[str, float | None]]:
    """Mean accuracy over runs, and its standard deviation, at each budget."""
    found = {f"{budget:.0f}": [at(curve, budget) for curve in curves] for budget in budgets}
    return {
        "accuracy": {budget: mean(values) for budget, values in found.items()},
        "deviation": {budget: stdev(values) if len(values) > 1 else None for budget, values in found.items()},
    }


def row(method: str, task: str, tokens: int, curves: list[list[tuple[float, float, float]]]) -> dict[str, Any]:
    by_all = [[(spent, accuracy) for spent, _, accuracy in curve] for curve in curves]
    by_generated = [[(generated, accuracy) for _, generated, accuracy in curve] for curve in curves]
    return {
        "task": task,
        "method": method,
        "tokens": tokens,
        "iterations": mean(len(curve) - 1 for curve in curves),
        "all": levels(by_all, [share * tokens for share in SHARES]),
        "generated": levels(by_generated, [share * tokens / 2 for share in SHARES]),
        "curves": curves,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=list(METHODS), help=f"of {', '.join(METHODS)}")
    parser.add_argument("--tasks", nargs="+", default=["chains-8"], choices=TASKS)
    parser.add_argument("--tokens", type=int, default=150_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--go-on", action="store_true", help="read the runs that a call before this one finished")
    options = parser.parse_args()
    if unknown := set(options.methods) - set(METHODS):
        parser.error(f"no method is called {', '.join(sorted(unknown))}")
    cores: SimpleQueue[int] = SimpleQueue()
    for core in sorted(os.sched_getaffinity(0)):
        cores.put(core)

    def measure(method: str, task: str, seed: int) -> list[tuple[float, float, float]]:
        core = cores.get()
        try:
            return run(method, task, options.tokens, seed, core, options.go_on)
        finally:
            cores.put(core)

    old: list[dict[str, Any]] = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    rows = {(row["task"], row["method"]): row for row in old}
    print(f"Accuracy at 1/4, 1/2, 3/4 and all of {options.tokens:,} tokens; then, of half as many generated ones")
    print(f"{'task':10} {'method':28} iterations")
    with ThreadPoolExecutor(cores.qsize()) as pool:
        runs = {
            (task, method): [pool.submit(measure, method, task, seed) for seed in options.seeds]
            for task in options.tasks
            for method in options.methods
        }
        for (task, method), futures in runs.items():
            made = rows[task, method] = row(method, task, options.tokens, [future.result() for future in futures])
            shown = f"{_line(made['all'])}   |   {_line(made['generated'])}"
            print(f"{task:10} {method:28} {made['iterations']:10.1f}   {shown}", flush=True)
            RESULTS.write_text(
                json.dumps({"seeds": options.seeds, "heldout": HELDOUT, "rows": [*rows.values()]}, indent=1) + "\n"
            )


def _line(row: dict[str, dict[str, float | None]]) -> str:
    pairs = zip(row["accuracy"].values(), row["deviation"].values(), strict=True)
    return "  ".join(f"{100 * (value or 0):5.1f} (sd {100 * (spread or 0):4.1f})" for value, spread in pairs)


if __name__ == "__main__":
    main()
