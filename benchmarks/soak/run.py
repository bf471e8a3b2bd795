"""The tiny run that is killed and watched, as a process forked from one that has already imported everything."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

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
    _into(folder)
    gpo(["fit", "--config", str(ROOT / "configs" / "quickstart.yaml"), *SMALL, *arguments])


def _into(folder: Path) -> None:
    """Work in a folder, and say what is said in its log."""
    os.chdir(folder)
    log = (folder / "log.txt").open("a")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)


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


def config(name: str) -> list[str]:
    return ["--config", str(ROOT / "configs" / name)]


def begin(folder: Path, *arguments: str) -> int:
    """Begin a run in a process of its own, which starts its other ranks as the command does; its id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            # Other ranks are started with what the process itself was started with, by all that anybody can tell:
            # by the command, not as the module that the soak is.
            sys.modules["__main__"].__spec__ = None
            sys.argv = [
                str(Path(sys.executable).with_name("gpo")),
                "fit",
                *config("quickstart.yaml"),
                *SMALL,
                *arguments,
            ]
            os.environ["PYTHONPATH"] = str(ROOT)
            _into(folder)
            gpo()
            status = 0
        except SystemExit as stop:
            print(stop, flush=True)
            status = stop.code if isinstance(stop.code, int) else 1
        finally:
            os._exit(status)
    return pid


def status_of(pid: int, seconds: float) -> int:
    """The exit status of a child, negative where a signal ended it; one that takes longer is killed."""
    end = monotonic() + seconds
    while monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
