"""One run whose vLLM engine and whose grader are killed from outside, again and again."""

import atexit
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Any

from processes import children_of, processes_in, temporary_files_in
from run import fit

from gpo_lightning.engines import Purpose
from gpo_lightning.problems import ModularChains
from gpo_lightning.rewards import Case, Grade, Grader, Maths
from gpo_lightning.rollouts import read_trees


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
    "--data.problems={class_path: engine_kills.AlgebraicChains, init_args: {steps: 4, heldout_size: 16}}",
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
    summary = json.loads((directory / "summary.json").read_text()) if status == 0 else {"incidents": {}, "tokens": {}}
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
        "incidents": summary["incidents"],
        "iterations": epochs,
        "problems": [len(groups), epochs * PROBLEMS],
        "rollouts": [sum(groups), epochs * PROBLEMS * GROUP],
        "tokens_in_files_and_ledger": [dict(sorted(made.items())), dict(sorted(in_training.items()))],
        "nothing_lost_or_twice": groups == [GROUP] * (epochs * PROBLEMS) and made == in_training,
        "left_over": left_over,
        "processes_left": processes_in(folder),
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
        before = self._journaled()
        while self._journaled() <= before or not self._pids("engine") or not self._pids("grader"):
            if os.waitid(os.P_PID, self.run, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return False
            sleep(0.01)
        return True

    def _journaled(self) -> tuple[str, int]:
        """The latest journal and its size; it only grows, until a later one begins."""
        sizes = [("", 0)]
        for path in self.folder.glob("runs/quickstart/version_*/journal/*.journal"):
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
        mark = {"engine": b"spawn_main", "grader": b"gpo_lightning.rewards.worker"}[kind]
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
