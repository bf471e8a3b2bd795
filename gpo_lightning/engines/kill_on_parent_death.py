"""Processes that end when this one is gone, however it went: no engine is left behind by a rank that was killed."""

import subprocess
from collections.abc import Sequence
from contextlib import suppress

# A shell, since it starts at once and holds a megabyte. Its input ends when this process does, for no other has it.
_SCRIPT = 'read -r word || kill -KILL "$@"'


class KillOnParentDeath:
    """Holds until it is revoked.

    Args:
        processes: ids of those to end.
    """

    def __init__(self, processes: Sequence[int]) -> None:
        command = ["/bin/sh", "-c", _SCRIPT, "gpo-guard", *map(str, processes)]
        # In a session of its own: what is sent to all processes of a terminal must not reach it first.
        self._executor = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def revoke(self) -> None:
        """They may live on, or are gone already. Idempotent."""
        if self._executor.stdin is not None and not self._executor.stdin.closed:
            with suppress(BrokenPipeError):
                self._executor.stdin.write(b"live\n")
                self._executor.stdin.close()
        self._executor.wait()
