"""Kills a run at random moments, takes it up again, and compares what it leaves with an uninterrupted one, to the bit.

    python benchmarks/soak.py --kills 20 --iterations 200

Kills are SIGKILL, at a random moment within a phase; the phases take turns. Children are forked from a process that has
already imported everything, so that most of the time is spent in the run itself.
"""

import argparse
import gc
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import torch

from gpo_lightning.cli import main as gpo
from gpo_lightning.engines import Purpose, Transformers
from gpo_lightning.module import GPOModule
from gpo_lightning.problems import ModularChains
from gpo_lightning.running import AtomicCheckpointIO

ROOT = Path(__file__).parents[1]
SMALL = [
    "--data.plan={problems: 4, group: 4, resets: 4, reset_probability: 1.0}",
    "--data.problems={class_path: gpo_lightning.problems.ModularChains, init_args: {steps: 4, heldout_size: 16}}",
    "--data.sampling.max_tokens=40",
    "--data.micro_batch=8",
    "--data.engine={class_path: gpo_lightning.engines.Transformers, init_args: {batch_size: 8}}",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.accelerator=cpu",
]
PHASES = ("sampling", "probing", "grading", "training", "checkpointing", "evaluation")


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


def long_run(iterations: int, folder: Path) -> dict[str, Any]:
    """Memory, open files, threads, processes and temporary files over many tiny iterations."""
    folder.mkdir(parents=True)
    record = folder / "record.json"
    with temporary_files_in(folder / "temporary") as leftovers:

        def work() -> None:
            readings: list[tuple[int, float, int, int, int, int]] = []

            def note(self: GPOModule) -> None:
                gc.collect()
                resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
                files, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
                children = len(children_of(os.getpid()))
                readings.append((self.trainer.current_epoch, resident, files, threads, children, len(leftovers())))
                record.write_text(json.dumps(readings))

            GPOModule.on_train_epoch_end = note  # type: ignore[method-assign]
            length = f"--trainer.max_epochs={iterations}"
            fit(folder, length, "--data.problems.steps=2", "--data.sampling.max_tokens=16")

        status = child(work)
        left_over = leftovers()
    readings = json.loads(record.read_text())
    # The first iterations fill caches.
    later = readings[len(readings) // 4 :]
    slope = _slope([(r[0], r[1]) for r in later])
    return {
        "iterations": len(readings),
        "finished": status == 0,
        "resident_mib": [round(later[0][1], 1), round(later[-1][1], 1)],
        "mib_an_iteration": round(slope, 4),
        "open_files": [later[0][2], later[-1][2]],
        "threads": [later[0][3], later[-1][3]],
        "children": [later[0][4], later[-1][4]],
        "temporary_files": [later[0][5], later[-1][5]],
        "left_over": left_over,
    }


@contextmanager
def temporary_files_in(folder: Path) -> Generator[Callable[[], list[str]]]:
    """Give the processes started within a folder for temporary files; yields what lists those that are there.

    Folders in shared memory lie elsewhere; those that were not there before and are named as ours are listed too.
    """
    folder.mkdir(parents=True)
    before, was = set(_shared_memory()), os.environ.get("TMPDIR")
    os.environ["TMPDIR"], tempfile.tempdir = str(folder), None
    try:
        yield lambda: sorted([path.name for path in folder.iterdir()] + list(set(_shared_memory()) - before))
    finally:
        tempfile.tempdir = None
        os.environ.pop("TMPDIR")
        if was is not None:
            os.environ["TMPDIR"] = was


def _shared_memory() -> list[str]:
    return [path.name for path in Path("/dev/shm").glob("gpo-*")]


def children_of(pid: int) -> list[int]:
    """Processes that a process started and that are still there."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def _slope(points: list[tuple[float, float]]) -> float:
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=200, help="of the long run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/soak"))
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "soak.json")
    options = parser.parse_args()
    folder = options.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    begin = monotonic()
    result: dict[str, Any] = {"machine": "2 cores of a shared x86-64 virtual machine", "seed": options.seed}
    if options.kills:
        result["kill"] = kills(options.kills, folder, options.seed)
        print(f"{result['kill']['identical']} of {options.kills} ended as the uninterrupted run did, to the bit")
    if options.iterations:
        result["long"] = long_run(options.iterations, folder / "long")
        print(result["long"])
    result["seconds"] = round(monotonic() - begin, 1)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
