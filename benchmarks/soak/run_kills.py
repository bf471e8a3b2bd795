"""A run is killed at a random moment of a phase, taken up again, and compared with an uninterrupted one."""

import json
import os
import random
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import sleep
from typing import Any

import torch
from run import child, fit

from gpo_lightning.engines import Purpose, Transformers
from gpo_lightning.module import GPOModule
from gpo_lightning.problems import ModularChains
from gpo_lightning.runs.atomic_checkpoint import AtomicCheckpointIO

PHASES = ("sampling", "probing", "grading", "training", "checkpointing", "evaluation")


def kill_within(phase: str, draw: random.Random) -> None:
    """Have this process killed at a random moment of a phase."""
    call, delay = draw.randint(1, 4 if phase != "checkpointing" else 2), draw.random()

    def entered(seconds: float) -> None:
        nonlocal call
        call -= 1
        if call == 0:
            threading.Thread(target=lambda: (sleep(delay * seconds), os.kill(os.getpid(), signal.SIGKILL))).start()

    def watch(owner: type, name: str, seconds: float, when: Callable[[Any], bool] = lambda _: True) -> None:
        original = getattr(owner, name)

        def method(self: Any, *arguments: Any, **keywords: Any) -> Any:
            if when(self):
                entered(seconds)
            return original(self, *arguments, **keywords)

        setattr(owner, name, method)

    def making(purpose: Purpose) -> Callable[[Any], bool]:
        return lambda engine: bool(engine._queue) and engine._queue[0][1].purpose is purpose

    match phase:
        case "sampling":
            watch(Transformers, "poll", 0.3, making(Purpose.SAMPLE))
        case "probing":
            watch(Transformers, "poll", 0.2, making(Purpose.PROBE))
        case "evaluation":
            watch(Transformers, "poll", 0.3, making(Purpose.EVALUATION))
        case "grading":
            watch(ModularChains, "grade_all", 0.001)
        case "training":
            watch(GPOModule, "training_step", 0.2)
        case _:
            watch(AtomicCheckpointIO, "save_checkpoint", 0.02)


def left(folder: Path) -> dict[str, Any]:
    """What a run leaves that must not depend on its having been killed."""
    # A run that was killed before it had finished anything leaves nothing to take up: the next begins in a new folder.
    directory = max(folder.glob("runs/quickstart/version_*/summary.json")).parent
    files = [*directory.glob("adapter/*.safetensors"), *directory.rglob("*.parquet"), *directory.glob("metrics/*.json")]
    found: dict[str, Any] = {str(file.relative_to(directory)): file.read_bytes() for file in files}
    summary = json.loads((directory / "summary.json").read_text())
    found |= {key: summary[key] for key in ("tokens", "prefilled", "cached", "before", "after", "steps")}
    newest = max((directory / "checkpoints").glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    content = torch.load(newest, weights_only=True)
    found["optimiser"], found["weights"] = content["optimizer_states"], content["state_dict"]
    return found


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def kills(count: int, folder: Path, seed: int) -> dict[str, Any]:
    """One run, killed and taken up again, for each of ``count`` moments."""
    draw = random.Random(seed)
    length = ["--trainer.max_epochs=2"]
    whole = folder / "whole"
    whole.mkdir(parents=True)
    if child(lambda: fit(whole, *length)) != 0:
        sys.exit(f"The uninterrupted run failed; see {whole / 'log.txt'}")
    expected = left(whole)
    results: list[dict[str, Any]] = []
    for number in range(count):
        phase, place = PHASES[number % len(PHASES)], folder / f"killed-{number}"
        place.mkdir()
        moment = random.Random(draw.random())

        def killed(phase: str = phase, place: Path = place, moment: random.Random = moment) -> None:
            kill_within(phase, moment)
            fit(place, *length)

        was_killed = child(killed) == signal.SIGKILL
        finished = child(lambda place=place: fit(place, *length, "--ckpt_path=last")) == 0
        found = left(place) if finished else {}
        different = [name for name, value in expected.items() if not same(found.get(name), value)]
        results.append({"phase": phase, "killed": was_killed, "finished": finished, "different": different})
        print(f"{number + 1:3d} {phase:14s} killed {was_killed}, finished {finished}, different: {different or 'none'}")
        shutil.rmtree(place)
    good = sum(r["killed"] and r["finished"] and not r["different"] for r in results)
    return {"kills": sum(r["killed"] for r in results), "identical": good, "results": results}
