"""What befalls runs besides kills: an engine that starts, or is stopped; another run; another configuration."""

import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from processes import processes_in
from run import ROOT, begin, config, status_of

sys.path.append(str(ROOT))
from tests.engines.listening import listens_at

VLLM = "--data.engine={class_path: gpo_lightning.engines.VLLM, init_args: {memory_gib: 0.1}}"
SERVER = "--data.engine={class_path: gpo_lightning.engines.VLLMServer, init_args: {launch: {memory_gib: 0.1}}}"
STOPPED = {"vllm": [VLLM], "vllm_server": [SERVER], "another_rank": config("trainer/ddp.yaml")}
LENGTH = "--trainer.max_epochs=2"
DIFFERENCES = {
    "seed_everything": "--seed_everything=1",
    "model.optimizer.init_args.lr": "--model.optimizer.init_args.lr=0.01",
    "model.loss.class_path": "--model.loss=gpo_lightning.losses.RLOO",
    "model.policy.lora.init_args.r": "--model.policy.lora.r=8",
    "model.schedule": "--model.schedule={name: linear}",
    "data.plan.group_size": "--data.plan.group_size=5",
    "data.problems.init_args.steps": "--data.problems.init_args.steps=5",
    "data.micro_batch": "--data.micro_batch=4",
    "trainer.accumulate_grad_batches": "--trainer.accumulate_grad_batches=2",
    "trainer.gradient_clip_val": "--trainer.gradient_clip_val=0.5",
}
PATIENT = 600.0


def differences(folder: Path) -> dict[str, Any]:
    """A run that was killed is taken up with one key changed at a time: refused, by the key's name."""
    folder.mkdir(parents=True)
    run = begin(folder, LENGTH)
    _wait(run, lambda: _there(folder, "metrics/iteration-0000.json"))
    os.kill(run, signal.SIGKILL)
    status_of(run, PATIENT)
    accepted = [key for key, change in DIFFERENCES.items() if not _refused(folder, key, change)]
    finished = status_of(begin(folder, "--trainer.max_epochs=3", "--ckpt_path=last"), PATIENT) == 0
    return {"differences": len(DIFFERENCES), "accepted": accepted, "went_on_where_nothing_differs": finished}


def _refused(folder: Path, key: str, change: str) -> bool:
    log = folder / "log.txt"
    before = log.stat().st_size
    status = status_of(begin(folder, LENGTH, change, "--ckpt_path=last"), PATIENT)
    said = log.read_bytes()[before:].decode(errors="replace")
    return status == 1 and "was made with another configuration" in said and key in said and "Traceback" not in said


def together(folder: Path) -> dict[str, Any]:
    """Two runs in one folder at once: one works, the other is refused."""
    folder.mkdir(parents=True)
    runs = [begin(folder, LENGTH, "--trainer.logger.init_args.version=mine") for _ in range(2)]
    statuses = sorted(status_of(run, PATIENT) for run in runs)
    said = (folder / "log.txt").read_text(errors="replace")
    refused = ("holds a run already" in said or "is in use" in said) and "Traceback" not in said
    finished = (folder / "runs/quickstart/mine/summary.json").exists()
    return {"statuses": statuses, "refused": refused, "finished": finished}


def engine_starts(count: int, folder: Path, seed: int) -> dict[str, Any]:
    """The trainer is killed while its engine starts: nothing of the engine is left after some seconds."""
    draw, left = random.Random(seed), list[int]()
    for number in range(count):
        place = folder / str(number)
        place.mkdir(parents=True)
        run = begin(place, LENGTH, VLLM)
        _wait(run, lambda place=place: bool(_engine(place)))
        sleep(draw.uniform(0, 8))
        os.kill(run, signal.SIGKILL)
        status_of(run, PATIENT)
        end = monotonic() + 20
        while (alive := processes_in(place)) and monotonic() < end:
            sleep(0.1)
        left.append(len(alive))
        _end(alive)
    return {"kills": count, "processes_left": left}


def stopped(folder: Path) -> dict[str, Any]:
    """SIGTERM comes while what the run waits for is stopped (SIGSTOP): it ends as asked, and goes on later.

    Within the 120 s that a pre-emption notice gives. Stopped are vLLM's processes, a server of ours, and another rank.
    """
    return {name: _stopped(folder / name, kind) for name, kind in STOPPED.items()}


def _stopped(folder: Path, arguments: list[str]) -> dict[str, Any]:
    folder.mkdir(parents=True)
    run = begin(folder, LENGTH, *arguments)
    _wait(run, lambda: _there(folder, "journal/version-000000-rank0.journal"))
    waited_for = _engine(folder) or [pid for pid in processes_in(folder) if pid != run]
    addresses = sorted(map(str, listens_at([run, *waited_for])))
    for pid in waited_for:
        os.kill(pid, signal.SIGSTOP)
    begun = monotonic()
    os.kill(run, signal.SIGTERM)
    status = status_of(run, PATIENT)
    seconds = round(monotonic() - begun, 1)
    sleep(5)
    alive = processes_in(folder)
    _end(alive)
    finished = status_of(begin(folder, LENGTH, *arguments, "--ckpt_path=last"), PATIENT) == 0
    found = {"status": status, "seconds": seconds, "processes_left": len(alive), "went_on": finished}
    return found | {"stopped": len(waited_for), "listened_at": addresses}


def _wait(run: int, until: Callable[[], bool]) -> None:
    """Until something is there, or the run has ended."""
    while not until() and os.waitid(os.P_PID, run, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        sleep(0.01)


def _there(folder: Path, name: str) -> bool:
    return any(folder.glob(f"runs/quickstart/version_*/{name}"))


def _engine(folder: Path) -> list[int]:
    """Processes of an engine of a run that works in a folder."""
    found: list[int] = []
    for pid in processes_in(folder):
        with suppress(OSError):
            if b"GPO_ENGINE=" in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
    return found


def _end(processes: list[int]) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
