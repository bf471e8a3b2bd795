"""Runs of a study: one `gpo fit` for each task, arm, learning rate and seed; a finished one is never made again."""

import json
import multiprocessing
import os
import re
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

os.environ["OMP_NUM_THREADS"] = "1"
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["gpo_lightning.cli", "gpo_lightning.callbacks", "peft", "transformers"])


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
        only: arms of a task that does not have all of them.
        explain: arms that explain the others and claim nothing: they have intervals, and no test that would be paid
            for by the tests of the others.
        about: what it asks, for the page of results.
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
    only: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    explain: list[str] = field(default_factory=list[str])
    about: str = ""

    def arms_of(self, task: str) -> list[str]:
        """Names of the arms that are run on a task; the first is the base."""
        return self.only.get(task, list(self.arms))

    @property
    def folder(self) -> Path:
        """Where its runs lie."""
        return ROOT / "runs" / "study" / self.name

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


def folder_of(study: Study, task: str, arm: str, seed: int, rate: float | None) -> Path:
    """Where a run lies; it is finished when the file ``finished`` is there."""
    plain = re.sub(r"[^a-z0-9]+", "-", arm.lower()).strip("-")
    return study.folder / task / f"{plain}-{rate or 'as-configured'}-{seed}"


def run(study: Study, task: str, arm: str, seed: int, rate: float | None, core: int) -> list[Point]:
    """A training run on one core, in a process that has imported everything before it began."""
    folder = folder_of(study, task, arm, seed, rate)
    if not (folder / "finished").exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = _PROCESSES.Process(target=_fit, args=(command(study, task, arm, seed, rate, folder), folder, core))
        made.start()
        made.join()
        if made.exitcode != 0:
            sys.exit(f"{task}, {arm}, seed {seed} failed; its messages are in {folder / 'log.txt'}")
        (folder / "finished").touch()
    return points(folder)


def points(folder: Path) -> list[Point]:
    """The measurements of a run so far."""
    return [Point(**json.loads(file.read_text())) for file in sorted((folder / "last" / "exact").glob("after-*.json"))]


def restore(study: Study, results: Path) -> None:
    """Put back the runs that a file of results holds, so that a study goes on where it was on another machine too.

    Runs of a task, an arm or settings that have changed since, and of seeds that were not all finished, are left out.
    """
    if not results.exists():
        return
    kept: dict[str, Any] = json.loads(results.read_text())
    before = Study(**kept["study"])
    if any(getattr(before, name) != getattr(study, name) for name in ("tokens", "common", "heldout", "every")):
        return
    for task, arms in kept["curves"].items():
        for arm, found in arms.items():
            same = (before.tasks[task], before.arms[arm]) == (study.tasks.get(task), study.arms.get(arm))
            for seed, its in zip(before.seeds, found if same and len(found) == len(before.seeds) else (), strict=False):
                folder = folder_of(study, task, arm, seed, kept["rates"][f"{task}, {arm}"])
                exact = folder / "last" / "exact"
                if not (folder / "finished").exists():
                    exact.mkdir(parents=True, exist_ok=True)
                    for number, point in enumerate(its):
                        (exact / f"after-{number:06}.json").write_text(json.dumps(point))
                    (folder / "finished").touch()


def _end_with_the_study() -> None:
    """Nobody asks for a run any more whose study was killed."""
    if (study := multiprocessing.parent_process()) is not None:
        study.join()
        os._exit(1)


def _fit(arguments: list[str], folder: Path, core: int) -> None:
    from gpo_lightning.cli import main

    threading.Thread(target=_end_with_the_study, daemon=True).start()
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.sched_setaffinity(0, {core})
    os.chdir(ROOT)
    main(arguments)


def command(study: Study, task: str, arm: str, seed: int, rate: float | None, folder: Path) -> list[str]:
    callbacks: list[dict[str, Any]] = [
        {"class_path": "gpo_lightning.callbacks.ExactSuccess", "init_args": {"every_n_epochs": study.every}},
        {"class_path": "gpo_lightning.callbacks.TokenBudget", "init_args": {"tokens": study.tokens}},
        {"class_path": "gpo_lightning.callbacks.MetricsLog"},
    ]
    return [
        "fit",
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
