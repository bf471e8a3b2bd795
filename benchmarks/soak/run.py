"""The tiny run that is killed and watched, as a process forked from one that has already imported everything."""

import os
from collections.abc import Callable
from pathlib import Path

from gpo_lightning.cli import main as gpo

ROOT = Path(__file__).parents[2]
SMALL = [
    "--data.plan={problems: 4, group_size: 4, resets: 4, reset_probability: 1.0}",
    "--data.problems={class_path: gpo_lightning.problems.ModularChains, init_args: {steps: 4, heldout_size: 16}}",
    "--data.sampling.max_tokens=40",
    "--data.micro_batch=8",
    "--data.engine={class_path: gpo_lightning.engines.Transformers, init_args: {batch_size: 8}}",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.accelerator=cpu",
]


def fit(folder: Path, *arguments: str) -> None:
    os.chdir(folder)
    log = (folder / "log.txt").open("a")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    gpo(["fit", "--config", str(ROOT / "configs" / "quickstart.yaml"), *SMALL, *arguments])


def child(work: Callable[[], None]) -> int:
    """Run ``work`` in a process of its own; its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]
