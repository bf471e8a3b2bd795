"""Processes that end when this one is gone, however it went: no engine is left behind by a rank that was killed.

The guard stands before what it guards is started. It knows the processes by a variable of their environment, which all
that they start inherits: an engine that still loads, its workers, and one that is stopped are all found.
"""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

_VARIABLE = "GPO_ENGINE"
# A shell, since it starts at once and holds a megabyte. Its input ends when this process does, for no other has it.
# It looks several times, for a process that was just being started is not there at once.
_SCRIPT = """
read -r word && exit
for look in 1 2 3 4 5 6; do
    for process in /proc/[0-9]*; do
        grep -qsz "^$0\\$" "$process/environ" && kill -KILL "${process#/proc/}"
    done
    sleep 0.5
done
"""


class KillOnParentDeath:
    """Holds until it is revoked.

    >>> guard = KillOnParentDeath()
    >>> _ = subprocess.Popen(["sleep", "60"], env=os.environ | guard.environment)
    >>> guard.kill(); guard.revoke()
    """

    def __init__(self) -> None:
        self._mark = uuid4().hex
        # In a session of its own: what is sent to all processes of a terminal must not reach it first.
        command = ["/bin/sh", "-c", _SCRIPT, f"{_VARIABLE}={self._mark}"]
        self._executor = subprocess.Popen(
            command, stdin=subprocess.PIPE, start_new_session=True, stderr=subprocess.DEVNULL
        )

    @property
    def environment(self) -> dict[str, str]:
        """What the processes to be guarded are started with."""
        return {_VARIABLE: self._mark}

    def processes(self) -> list[int]:
        """Ids of the guarded processes that are alive."""
        mark = f"{_VARIABLE}={self._mark}".encode()
        found: list[int] = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended, or is another user's
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    def kill(self, seconds: float = 2.0) -> None:
        """End them all now, those included that are stopped or just being started."""
        end = time.monotonic() + seconds
        while (alive := self.processes()) and time.monotonic() < end:
            for pid in alive:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def revoke(self) -> None:
        """They may live on, or are gone already. Idempotent."""
        if self._executor.stdin is not None and not self._executor.stdin.closed:
            with suppress(BrokenPipeError):
                self._executor.stdin.write(b"live\n")
                self._executor.stdin.close()
        self._executor.wait()
