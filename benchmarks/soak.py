"""Kills a run at random moments, takes it up again, and compares what it leaves with an uninterrupted one, to the bit.

    python benchmarks/soak.py --kills 20 --engine-kills 10 --iterations 200

Then one run whose vLLM engine and whose grader are killed from outside, again and again; and one of many iterations,
whose memory, files and processes must not grow. A number of 0 leaves a part out; what is run is written into the JSON
beside what was there.

Kills are SIGKILL, at a random moment within a phase; the phases take turns. Children are forked from a process that has
already imported everything, so that most of the time is spent in the run itself.
"""

import argparse
import atexit
import gc
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import torch

from gpo_lightning.cli import main as gpo
from gpo_lightning.engines import Purpose, Transformers
from gpo_lightning.grading import Case, Grade, Grader, Maths
from gpo_lightning.module import GPOModule
from gpo_lightning.problems import ModularChains
from gpo_lightning.running import AtomicCheckpointIO
from gpo_lightning.tree import read_trees

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


class Algebra(Grader):
    """Has the number after the mark compared as part of a formula, so that every response goes to a worker process."""

    inner = Maths(workers=1)

    def grade(self, response: str, answer: str, metadata: Mapping[str, Any]) -> Grade:
        return self.grade_all([Case(response, answer, metadata)])[0]

    def grade_all(self, cases: Sequence[Case]) -> list[Grade]:
        asked = [
            Case(rf"\boxed{{x+{case.response.rpartition('#')[2].strip() or '0'}}}", f"{case.answer}+x", case.metadata)
            for case in cases
        ]
        return self.inner.grade_all(asked)


class AlgebraicChains(ModularChains):
    """Modular chains, graded by algebra."""

    @property
    def grader(self) -> Grader:
        return Algebra()


PROBLEMS, GROUP = 8, 8
KILLED = [
    f"--data.plan={{problems: {PROBLEMS}, group: {GROUP}, resets: 4, reset_probability: 1.0}}",
    "--data.problems={class_path: soak.AlgebraicChains, init_args: {steps: 4, heldout_size: 16}}",
    "--data.engine={class_path: gpo_lightning.engines.VLLM, init_args: {memory_gib: 0.1}}",
    # A machine that is busy starts slowly.
    "--data.recovery={restarts: 5}",
]


def engine_kills(count: int, folder: Path, seed: int) -> dict[str, Any]:
    """One run in which the engine's process and the grader's are killed from outside, ``count`` times each."""
    folder.mkdir(parents=True)
    # More iterations than kills: after each the engine makes something, so there is one an iteration at least.
    epochs = count + 2
    with temporary_files_in(folder / "temporary") as leftovers:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                fit(folder, *KILLED, f"--trainer.max_epochs={epochs}")
                status = 0
            finally:
                atexit._run_exitfuncs()  # type: ignore[attr-defined]
                os._exit(status)
        killer = Killer(pid, folder, count, random.Random(seed))
        killer.work()
        status = os.waitpid(pid, 0)[1]
        left_over = leftovers()
    directory = max(folder.glob("runs/quickstart/version_*"))
    summary = json.loads((directory / "summary.json").read_text()) if status == 0 else {"events": {}, "tokens": {}}
    made, groups = Counter[str](), list[int]()
    for file in sorted((directory / "rollouts").glob("*.parquet")):
        for tree in read_trees(file):
            groups.append(sum(sample.purpose is Purpose.SAMPLE for sample in tree.samples))
            for sample in tree.samples:
                made[str(sample.purpose)] += len(sample.tokens) - sample.start
    in_training = {purpose: n for purpose, n in summary["tokens"].items() if purpose != Purpose.EVALUATION}
    return {
        "killed": {"engine": killer.killed["engine"], "grader": killer.killed["grader"]},
        "finished": status == 0,
        "events": summary["events"],
        "iterations": epochs,
        "problems": [len(groups), epochs * PROBLEMS],
        "rollouts": [sum(groups), epochs * PROBLEMS * GROUP],
        "tokens_in_files_and_ledger": [dict(sorted(made.items())), dict(sorted(in_training.items()))],
        "nothing_lost_or_twice": groups == [GROUP] * (epochs * PROBLEMS) and made == in_training,
        "left_over": left_over,
        "processes_left": children_of(os.getpid()),
    }


class Killer:
    """Kills a run's engine and grader from outside, each time at a random moment after rollouts have arrived.

    Args:
        run: process of the run.
        folder: where it runs.
        count: kills of each.
        draw: of the moments.
    """

    def __init__(self, run: int, folder: Path, count: int, draw: random.Random) -> None:
        self.run, self.folder, self.count, self.draw = run, folder, count, draw
        self.killed: Counter[str] = Counter()
        self._latest = ("", 0)

    def work(self) -> None:
        """Until all are done, or the run has ended."""
        for number in range(self.count):
            if not self._wait_for_rollouts():
                return
            for kind in self.draw.sample(("engine", "grader"), 2):
                sleep(self.draw.uniform(0, 0.3))
                self._kill(kind)
            print(f"{number + 1:3d} killed: {dict(self.killed)}", flush=True)

    def _wait_for_rollouts(self) -> bool:
        """Whether rollouts have arrived since; ``False`` where the run has ended."""
        before = self._spooled()
        while self._spooled() <= before or not self._pids("engine") or not self._pids("grader"):
            if os.waitid(os.P_PID, self.run, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return False
            sleep(0.01)
        return True

    def _spooled(self) -> tuple[str, int]:
        """The latest journal and its size; it only grows, until a later one begins."""
        sizes = [("", 0)]
        for path in self.folder.glob("runs/quickstart/version_*/spool/*.journal"):
            with suppress(OSError):
                sizes.append((path.name, path.stat().st_size))
        self._latest = max(*sizes, self._latest)
        return self._latest

    def _kill(self, kind: str) -> None:
        for pid in self._pids(kind):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed[kind] += 1

    def _pids(self, kind: str) -> list[int]:
        mark = {"engine": b"spawn_main", "grader": b"gpo_lightning.grading.worker"}[kind]
        return [pid for pid in children_of(self.run) if mark in _command(pid)]


def _command(pid: int) -> bytes:
    """Empty where the process is gone."""
    try:
        path = Path(f"/proc/{pid}")
        return (
            b"spawn_main"
            if path.joinpath("comm").read_bytes().startswith(b"VLLM")
            else path.joinpath("cmdline").read_bytes()
        )
    except OSError:
        return b""


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

    Folders in shared memory lie elsewhere; those whose name says that a process of ours made them are listed too.
    """
    folder.mkdir(parents=True)
    before, was = _shared_memory(), os.environ.get("TMPDIR")
    os.environ["TMPDIR"], tempfile.tempdir = str(folder), None
    try:
        # Compiled kernels are kept on purpose.
        yield lambda: sorted(
            {path.name for path in folder.iterdir() if not path.name.startswith("torchinductor")}
            | (_shared_memory() - before)
        )
    finally:
        tempfile.tempdir = None
        os.environ.pop("TMPDIR")
        if was is not None:
            os.environ["TMPDIR"] = was


def _shared_memory() -> set[str]:
    """Folders of processes that have ended: others may run on this machine."""
    folders = [path.name for path in Path("/dev/shm").glob("gpo-weights-*-*")]
    return {name for name in folders if not Path(f"/proc/{name.split('-')[2]}").exists()}


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
    parser.add_argument("--engine-kills", type=int, default=10, help="of the engine's process, and of the grader's")
    parser.add_argument("--iterations", type=int, default=200, help="of the long run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/soak"))
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "soak.json")
    options = parser.parse_args()
    folder = options.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    result: dict[str, Any] = json.loads(options.output.read_text()) if options.output.exists() else {}
    result |= {"machine": "2 cores of a shared x86-64 virtual machine", "seed": options.seed}
    parts: list[tuple[str, int, Callable[[], dict[str, Any]]]] = [
        ("kill", options.kills, lambda: kills(options.kills, folder, options.seed)),
        ("engine_kill", options.engine_kills, lambda: engine_kills(options.engine_kills, folder / "e", options.seed)),
        ("long", options.iterations, lambda: long_run(options.iterations, folder / "long")),
    ]
    for name, wanted, run in parts:
        if wanted:
            begin = monotonic()
            result[name] = run() | {"seconds": round(monotonic() - begin, 1)}
            print(name, {key: value for key, value in result[name].items() if key != "results"})
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
