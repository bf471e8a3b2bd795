"""How long the command line takes before it does what it was asked: help, errors, the first rollouts.

    python benchmarks/startup.py [--rounds 3]

Each command runs in a process of its own, from the command to the prompt; the medians of the rounds are printed beside
the goal, and benchmarks/results/startup.json keeps them all. Seconds on the clock depend on what else the machine does;
seconds of processor time, of the process and its children, hardly do.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "startup.json"
QUICK = ["--config", "quickstart"]
FEW = ["--data.plan.problems=1", "--data.plan.group_size=2", "--data.plan.resets=0", "--data.sampling.max_tokens=48"]
ENGINE = ["--data.engine", "Transformers"]

COMMANDS: dict[str, tuple[list[str], float]] = {
    "gpo --help": (["--help"], 2),
    "gpo --version": (["--version"], 2),
    "gpo configs": (["configs"], 2),
    "a key that does not exist": (["fit", *QUICK, "--data.plan.grup", "3"], 3),
    "a class that does not exist": (["fit", *QUICK, "--model.loss", "gpo_lightning.losses.DPOO"], 3),
    "a value of the wrong type": (["fit", *QUICK, "--trainer.max_epochs", "many"], 3),
    "a value that is out of range": (["fit", *QUICK, "--data.plan.reset_probability", "2"], 3),
    "an optimizer's value that is": (["fit", *QUICK, "--model.optimizer.lr", "-1"], 3),
    "values that exclude each other": (
        ["fit", *QUICK, "--model.schedule.warmup=0.1", "--model.lr_scheduler=StepLR"],
        3,
    ),
    "rollouts that are missing": (["fit", *QUICK, "--data.saved", "missing.parquet"], 3),
    "two rollouts of tiny, and their page": (["explore", *QUICK, *ENGINE, *FEW], 12),
}


def seconds(arguments: list[str], folder: str) -> tuple[float, float]:
    """On the clock, from the command to the prompt, and of the processor."""
    before, began = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-m", "gpo_lightning", *arguments], cwd=folder, capture_output=True, check=False)
    taken, after = time.perf_counter() - began, os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return round(taken, 2), round(processor, 2)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, (arguments, _) in COMMANDS.items():
            with tempfile.TemporaryDirectory() as folder:
                taken[name].append(seconds(arguments, folder))
    rows = [
        {
            "command": name,
            "goal_s": goal,
            "clock_s": statistics.median(clock for clock, _ in taken[name]),
            "processor_s": statistics.median(processor for _, processor in taken[name]),
            "all": taken[name],
        }
        for name, (_, goal) in COMMANDS.items()
    ]
    print(f"{'command':<40} {'goal, s':>8} {'clock, s':>9} {'processor, s':>13}")
    for row in rows:
        print(f"{row['command']:<40} {row['goal_s']:>8} {row['clock_s']:>9} {row['processor_s']:>13}")
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    load = [round(each, 1) for each in os.getloadavg()]
    found = {"machine": machine, "load": load, "rounds": rounds, "rows": rows}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
