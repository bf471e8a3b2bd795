"""Every loss of configs/loss/, run for a few iterations of the quickstart: does it train, and how long does it take?

    python benchmarks/losses.py [names ...]        writes benchmarks/results/losses.json, and the rest to runs/losses/

One line a loss: what it reads, seconds, held-out accuracy before and after. The runs are short and their settings the
quickstart's, so this compares no losses; it shows that each of them runs from its one line of configuration.
"""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "losses.json"
SHORT = [
    "--trainer.max_epochs=3",
    "--trainer.enable_progress_bar=false",
    "--trainer.accelerator=cpu",
    "--data.engine=gpo_lightning.engines.Transformers",
    "--data.plan.problems=16",
    "--data.problems.heldout_size=128",
]


def run(name: str) -> dict[str, Any]:
    """One loss, as a user runs it."""
    folder = ROOT / "runs" / "losses" / name
    command = [sys.executable, "-m", "gpo_lightning", "fit", "--config", "configs/quickstart.yaml"]
    command += ["--config", f"configs/loss/{name}.yaml", *SHORT]
    command += [f"--trainer.logger.init_args.{key}={value}" for key, value in _place(folder).items()]
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode:
        return {"loss": name, "failed": f"see {folder / 'log.txt'}", "seconds": round(seconds, 1)}
    return {"loss": name, "seconds": round(seconds, 1), **_outcome(folder)}


def _place(folder: Path) -> dict[str, str]:
    return {"save_dir": str(folder.parent), "name": folder.name, "version": "last"}


def _outcome(folder: Path) -> dict[str, Any]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = json.loads((folder / "last" / "summary.json").read_text())
    incidents = EventAccumulator(str(folder / "last")).Reload()
    metrics = {tag: incidents.Scalars(tag)[-1].value for tag in incidents.Tags()["scalars"] if tag.startswith("train/")}
    return {
        "experience": found["experience"],
        "steps": found["steps"],
        "before": found["before"]["accuracy"],
        "after": found["after"]["accuracy"],
        "metrics": metrics,
    }


def main() -> None:
    names = sys.argv[1:] or sorted(file.stem for file in (ROOT / "configs" / "loss").glob("*.yaml"))
    print(f"{'loss':30} {'experience':22} {'seconds':>7} {'steps':>5} {'before':>7} {'after':>7}")
    rows: list[dict[str, Any]] = []
    for name in names:
        rows.append(run(name))
        print(_line(rows[-1]), flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()}
    RESULTS.write_text(json.dumps({"machine": machine, "settings": SHORT, "losses": rows}, indent=1) + "\n")
    if any("failed" in row for row in rows):
        sys.exit(1)


def _line(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"{row['loss']:30} failed, {row['failed']}"
    numbers = f"{row['seconds']:7.1f} {row['steps']:5} {row['before']:7.1%} {row['after']:7.1%}"
    return f"{row['loss']:30} {row['experience']:22} {numbers}"


if __name__ == "__main__":
    main()
