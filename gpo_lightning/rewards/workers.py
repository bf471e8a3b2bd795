"""A pool of worker processes that can be killed: what runs in them cannot hang, kill or bloat the run itself.

They are confined (no network, no files but Python's own libraries, no processes), as far as the platform can.

A job that is not done by its deadline is ended by killing its process; the next job gets a new one. A process that
dies by itself (or by another's hand) in the middle of a job costs that job one repetition.
"""

import atexit
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from gpo_lightning.errors import ConfigError

_START_WITHIN = 120.0
_MOST_SAID = 1 << 20
"""Bytes of one answer: a worker that says more is broken, and must not fill this process's memory."""
_ROOT = str(Path(__file__).parents[2])
_PASSED_ON = ("PATH", "HOME", "TMPDIR", "LANG", "LC_", "LD_", "DYLD_", "PYTHON", "VIRTUAL_ENV", "CONDA_", "SYSTEMROOT")
"""Beginnings of the environment variables that a worker gets: keys and tokens of the user's are not among them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    Args:
        status: ``done``, ``timeout`` (killed at its deadline), ``crashed`` (its process died twice), else why the
            function gave up: ``memory`` or the name of its exception.
        value: what the function returned; only where ``done``.
        stage: the last stage the function said it had reached.
    """

    status: str
    value: Any = None
    stage: str = ""


@dataclass
class WorkerCounts:
    """What became of the processes of a pool."""

    started: int = 0
    killed: int = 0
    crashed: int = 0
    retired: int = 0


@dataclass
class Workers:
    """Runs one importable function on many jobs, in processes that are started when first needed.

    Args:
        function: ``module:name`` of a function of a job and a callback that names the stage it has reached.
        workers: processes.
        deadline: seconds a job may take.
        memory_mib: address space of a process, in MiB.
    """

    function: str
    workers: int
    deadline: float
    memory_mib: int
    counts: WorkerCounts = field(default_factory=WorkerCounts)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._owner = os.getpid()
        atexit.register(self.close)

    def run(self, jobs: Sequence[Any]) -> list[Outcome]:
        """The outcomes, in the order of the jobs. Threads take turns."""
        with self._lock:
            if self._owner != os.getpid():  # forked: the parent's processes are not ours to speak to
                self._idle, self._owner = [], os.getpid()
            return _Round(self, jobs).outcomes()

    def close(self) -> None:
        """End all processes; the next job starts new ones."""
        if self._owner == os.getpid():
            for worker in self._idle:
                worker.end()
        self._idle = []

    @property
    def pids(self) -> list[int]:
        """Processes that are alive and wait for a job."""
        return [worker.process.pid for worker in self._idle if worker.process.poll() is None]

    def take(self) -> "_Worker":
        """A process without a job."""
        while self._idle:
            worker = self._idle.pop()
            if worker.process.poll() is None:
                return worker
            worker.end()
            self.counts.crashed += 1
        self.counts.started += 1
        return _Worker(self)

    def keep(self, worker: "_Worker") -> None:
        """Take back a process that has done its job."""
        self._idle.append(worker)


_SHARED: dict[tuple[str, int, float, int], Workers] = {}


def shared_workers(function: str, workers: int, deadline: float, memory_mib: int) -> Workers:
    """The pool that all graders with these settings use."""
    settings = (function, workers, deadline, memory_mib)
    if settings not in _SHARED:
        _SHARED[settings] = Workers(*settings)
    return _SHARED[settings]


def grader_incidents() -> Counter[str]:
    """What befell the shared processes since this one began, and was mended: killed at a deadline, or died."""
    counts = [pool.counts for pool in _SHARED.values()]
    return Counter(
        graders_killed=sum(each.killed for each in counts), graders_died=sum(each.crashed for each in counts)
    )


class _Worker:
    """One process and the job it has."""

    def __init__(self, pool: Workers) -> None:
        command = [sys.executable, "-m", "gpo_lightning.rewards.worker", pool.function]
        paths = [_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
        passed_on = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
        process = subprocess.Popen(
            [*command, str(pool.memory_mib), str(pool.deadline)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**passed_on, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        )
        self.process, self.stdin, self.stdout = process, cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        self.ready = False
        self.place: int | None = None
        self.stage = ""
        self.until = time.monotonic() + _START_WITHIN
        self.unsent = self._unread = b""
        os.set_blocking(self.stdin.fileno(), False)

    def give(self, place: int, job: Any, deadline: float) -> None:
        """Begin to send a job; a process that is already dead is found out when its answer is read."""
        self.place, self.stage = place, ""
        self.until = time.monotonic() + deadline
        self.unsent = json.dumps(job).encode() + b"\n"
        self.send()

    def send(self) -> None:
        """Send what the pipe takes: a process that is stopped reads nothing, and must not stop this one."""
        try:
            self.unsent = self.unsent[os.write(self.stdin.fileno(), self.unsent) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self.unsent = b""

    def said(self) -> list[dict[str, Any]] | None:
        """The answers that have come in; ``None`` where the process is dead, or says what is no answer."""
        data = os.read(self.stdout.fileno(), 1 << 16)
        *lines, self._unread = (self._unread + data).split(b"\n")
        if not data or len(self._unread) > _MOST_SAID:
            return None
        try:
            messages = [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            return None
        return messages if all(isinstance(message, dict) for message in messages) else None

    def end(self) -> None:
        """Kill the process and forget it."""
        self.process.kill()
        for pipe in (self.stdin, self.stdout):
            with suppress(OSError):  # what was still to be written is lost with the process
                pipe.close()
        self.process.wait()


class _Round:
    """One call of :meth:`Workers.run`."""

    def __init__(self, pool: Workers, jobs: Sequence[Any]) -> None:
        self.pool, self.jobs = pool, jobs
        self.ended: list[Outcome | None] = [None] * len(jobs)
        self.waiting = deque(range(len(jobs)))
        self.repeated: set[int] = set()
        self.busy: set[_Worker] = set()
        self.failed_starts = 0

    def outcomes(self) -> list[Outcome]:
        with selectors.DefaultSelector() as self.selector:
            try:
                while self.waiting or any(worker.place is not None for worker in self.busy):
                    self._employ()
                    self._listen()
                    self._overdue()
            finally:
                for worker in self.busy:
                    if worker.ready and worker.place is None:
                        self.pool.keep(worker)
                    else:
                        worker.end()
        return [outcome or Outcome("crashed") for outcome in self.ended]

    def _employ(self) -> None:
        waiting = sum(not worker.ready for worker in self.busy)
        while len(self.busy) < self.pool.workers and waiting < len(self.waiting):
            worker = self.pool.take()
            self.busy.add(worker)
            self.selector.register(worker.stdout, selectors.EVENT_READ, worker)
            waiting += not worker.ready
            if worker.ready:
                self._next(worker)

    def _next(self, worker: _Worker) -> None:
        worker.place = None
        if self.waiting:
            place = self.waiting.popleft()
            worker.give(place, self.jobs[place], self.pool.deadline)
            if worker.unsent:
                self.selector.register(worker.stdin, selectors.EVENT_WRITE, worker)

    def _listen(self) -> None:
        soonest = min((w.until for w in self.busy if w.place is not None or not w.ready), default=time.monotonic())
        for key, events in self.selector.select(max(0.0, soonest - time.monotonic())):
            worker: _Worker = key.data
            if worker not in self.busy:  # dismissed for what it had said a moment before
                continue
            if events & selectors.EVENT_WRITE:
                worker.send()
                if not worker.unsent:
                    self.selector.unregister(worker.stdin)
                continue
            said = worker.said()
            if said is None:
                self._died(worker)
            for message in said or ():
                if worker in self.busy:
                    self._hear(worker, message)

    def _hear(self, worker: _Worker, message: dict[str, Any]) -> None:
        if "ready" in message and not worker.ready:
            worker.ready = True
            self._next(worker)
        elif "stage" in message:
            worker.stage = str(message["stage"])
        elif worker.place is not None:
            status = "done" if "done" in message else str(message.get("failed", "crashed"))
            self.ended[worker.place] = Outcome(status, message.get("done"), worker.stage)
            worker.place = None
            if message.get("leaving", True):
                self.pool.counts.retired += 1
                self._dismiss(worker)
            else:
                self._next(worker)

    def _died(self, worker: _Worker) -> None:
        place = worker.place
        self._dismiss(worker)
        self.pool.counts.crashed += 1
        if not worker.ready:
            self._start_failed()
            return
        if place is not None:
            if place in self.repeated:
                self.ended[place] = Outcome("crashed", stage=worker.stage)
            else:
                self.repeated.add(place)
                self.waiting.appendleft(place)

    def _overdue(self) -> None:
        now = time.monotonic()
        for worker in [w for w in self.busy if now >= w.until and (w.place is not None or not w.ready)]:
            if worker.place is not None:
                self.ended[worker.place] = Outcome("timeout", stage=worker.stage)
                self.pool.counts.killed += 1
            else:
                self._start_failed()
            self._dismiss(worker)

    def _start_failed(self) -> None:
        self.failed_starts += 1
        if self.failed_starts > 2:
            raise ConfigError(
                f"the worker processes of {self.pool.function} do not start with memory_mib: {self.pool.memory_mib}; "
                'give them more, and see that their library is there (pip install "gpo-lightning[math]").'
            )

    def _dismiss(self, worker: _Worker) -> None:
        self.selector.unregister(worker.stdout)
        if worker.stdin in self.selector.get_map():
            self.selector.unregister(worker.stdin)
        self.busy.discard(worker)
        worker.end()
