"""Runs of a study: one `gpo fit` for each task, arm, learning rate and seed; a finished one is never made again."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Study:
    """What is compared.

    Args:
        name: of the folder under ``runs/study`` and of the results.
        tokens: generated and prefilled tokens of a run's rollouts.
        seeds: of the runs that count: problem order, samples and adapter.
        threshold: success that tokens are counted to.
        common: command-line options of every run.
        tasks: options of each task.
        arms: options of each arm; the first is what the others are compared with.
        rates: learning rates that every arm is tuned over; none leaves that of the configuration.
        tuning_seeds: of the runs that choose a learning rate, and do not count.
        heldout: held-out problems.
        every: iterations between measurements.
    """

    name: str
    tokens: int
    seeds: list[int]
    threshold: float
    common: list[str]
    tasks: dict[str, list[str]]
    arms: dict[str, list[str]]
    rates: list[float] = field(default_factory=list[float])
    tuning_seeds: list[int] = field(default_factory=list[int])
    heldout: int = 512
    every: int = 2

    @classmethod
    def read(cls, path: Path) -> "Study":
        return cls(**yaml.safe_load(path.read_text()))


@dataclass(frozen=True, slots=True)
class Point:
    """A measurement: exact success, and what rollouts had cost by then."""

    success: float
    generated: int
    prefilled: int
    steps: int


def run(study: Study, task: str, arm: str, seed: int, rate: float | None, core: int) -> list[Point]:
    """A training run on one core, measured after every iteration."""
    plain = re.sub(r"[^a-z0-9]+", "-", arm.lower()).strip("-")
    folder = ROOT / "runs" / "study" / study.name / task / f"{plain}-{rate or 'as-configured'}-{seed}"
    if not (folder / "finished").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.txt").open("w") as log:
            made = subprocess.run(
                command(study, task, arm, seed, rate, folder),
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            )
        if made.returncode != 0:
            sys.exit(f"{task}, {arm}, seed {seed} failed; its messages are in {folder / 'log.txt'}")
        (folder / "finished").touch()
    return [Point(**json.loads(file.read_text())) for file in sorted((folder / "last" / "exact").glob("after-*.json"))]


def command(study: Study, task: str, arm: str, seed: int, rate: float | None, folder: Path) -> list[str]:
    callbacks: list[dict[str, Any]] = [
        {"class_path": "gpo_lightning.callbacks.ExactSuccess", "init_args": {"every_n_epochs": study.every}},
        {"class_path": "gpo_lightning.callbacks.TokenBudget", "init_args": {"tokens": study.tokens}},
        {"class_path": "gpo_lightning.callbacks.MetricsLog"},
    ]
    return [
        *(sys.executable, "-m", "gpo_lightning", "fit"),
        *study.common,
        *study.tasks[task],
        *study.arms[arm],
        *([f"--model.optimizer.init_args.lr={rate}"] if rate else []),
        f"--seed_everything={seed}",
        f"--data.problems.init_args.heldout_size={study.heldout}",
        "--data.engine={class_path: gpo_lightning.engines.Transformers, init_args: {batch_size: 256}}",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        "--trainer.max_epochs=-1",
        f"--trainer.callbacks={json.dumps(callbacks)}",
        f"--trainer.logger.init_args={{save_dir: {folder.parent}, name: {folder.name}, version: last}}",
    ]
