"""SIGTERM, SIGUSR1, SIGHUP and Ctrl-C: stop where nothing is lost, and say how to go on.

A signal raises a flag; the run looks at it between two polls of the engine and after each optimiser step. By then
everything that was finished is in the journal and in the last checkpoint. A run that waits for something that does not
come (an engine that hangs, or loads) is ended after half a minute, and at once at the second Ctrl-C: what it had
finished is as safe.
"""

import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from gpo_lightning.errors import Interrupted
from gpo_lightning.stopping import PATIENCE, status_after, stopping_signals

_SAME_PRESS = 1.0
"""Seconds in which one Ctrl-C reaches another rank twice: from the terminal, and forwarded."""


class StopSignals:
    """Within: the signals of :func:`~gpo_lightning.stopping.stopping_signals` ask the run to stop.

    Args:
        forward: told the signal, to hand it to the other ranks' processes.
        last_resort: ends this process, from another thread, where it has not stopped in time.
        patience: seconds until then.
    """

    def __init__(
        self,
        forward: Callable[[int], None] = lambda signum: None,
        last_resort: Callable[[], None] = lambda: None,
        patience: float = PATIENCE,
    ) -> None:
        self.received: signal.Signals | None = None
        self._forward, self._last_resort, self._patience = forward, last_resort, patience
        self._before: dict[signal.Signals, Any] = {}
        self._over = threading.Event()
        self._since = 0.0
        self._once = threading.RLock()
        self._mouth: socket.socket | None = None
        self._fd_before = -1

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for name in stopping_signals():
                self._before[name] = signal.signal(name, self._receive)
            self._listen()
        return self

    def _listen(self) -> None:
        """Hear of signals while this thread waits in C, as for a rank that is stopped; Python would tell it later."""
        ear, mouth = socket.socketpair()
        mouth.setblocking(False)
        self._mouth, self._fd_before = mouth, signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._hear, args=(ear,), name="gpo-signals", daemon=True).start()

    def _hear(self, ear: socket.socket) -> None:
        with ear:
            while heard := ear.recv(1):
                if heard[0] not in self._before:
                    continue
                again = self.received is not None and monotonic() - self._since > _SAME_PRESS
                if again and heard[0] == signal.SIGINT:
                    self._last_resort()
                self._begin_to_stop(heard[0])

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._mouth is not None:
            signal.set_wakeup_fd(self._fd_before)
            self._mouth.close()
        for name, handler in self._before.items():
            signal.signal(name, handler)
        self._before.clear()

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        self._begin_to_stop(signum)

    def _begin_to_stop(self, signum: int) -> None:
        """Once, from whichever thread knows of it first."""
        with self._once:
            first = self.received is None
            if first:
                self.received, self._since = signal.Signals(signum), monotonic()
        if first:
            threading.Thread(target=self._wait, name="gpo-stop", daemon=True).start()
            self._forward(signum)

    def _wait(self) -> None:
        if not self._over.wait(self._patience):
            self._last_resort()

    @property
    def status(self) -> int:
        """The exit status of a process that stopped as asked."""
        return status_after(self.received)

    def check(self) -> None:
        """Stop here if a signal came.

        Raises:
            Interrupted: one came.
        """
        if self.received is not None:
            raise Interrupted(f"stopped by {self.received.name}", self.status)


def requeue(rank: int) -> str | None:
    """Have SLURM start the job again where it asked for that (``#SBATCH --requeue``); says what was done.

    Lightning's own handler does the same, but writes its checkpoint wherever the signal finds the run.
    """
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{job}_{os.environ['SLURM_ARRAY_TASK_ID']}" if job else os.environ.get("SLURM_JOB_ID")
    if rank != 0 or not SLURMEnvironment.detect() or job is None or not re.fullmatch("[0-9_-]+", job):
        return None
    try:
        done = subprocess.run(["scontrol", "requeue", job], check=False, capture_output=True, text=True)
    except OSError as error:
        return f"SLURM could not be asked to requeue job {job}: {error}"
    if done.returncode != 0:
        return f"SLURM did not requeue job {job}: {done.stderr.strip()}"
    return f"SLURM job {job} is requeued"


def started_again() -> bool:
    """Whether a scheduler started this job before."""
    slurm = int(os.environ.get("SLURM_RESTART_COUNT", "0")) if SLURMEnvironment.detect() else 0
    return slurm > 0 or int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def stopped(directory: Path, requeueing: str | None) -> str:
    """What to tell the user."""
    done = f" {requeueing}." if requeueing else ""
    return (
        f"Stopped as asked.{done} Everything finished is in {directory}. Go on with the same command and "
        f"--ckpt_path last, or with gpo fit --run {directory}"
    )
