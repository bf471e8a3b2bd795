"""Temporary folders that end with their process or, where it was killed, with the next that makes such a folder."""

import atexit
import shutil
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK = "lock"
_YOUNG_SECONDS = 60.0
_HELD: list[FileLock] = []


@cache
def own_folder(kind: str, parent: str | None = None) -> Path:
    """This process's folder of a kind, which is there until it ends; those of dead processes are removed.

    Args:
        kind: begins the folder's name.
        parent: where it is made; ``None`` is the system's temporary folder.
    """
    place = Path(parent or tempfile.gettempdir())
    for folder in place.glob(f"{kind}-*"):
        _sweep(folder)
    mine = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=place))
    # The kernel gives the lock of a killed process back, whatever container it was in.
    lock = FileLock(mine / _LOCK)
    lock.acquire(timeout=0)
    _HELD.append(lock)
    atexit.register(shutil.rmtree, mine, ignore_errors=True)
    return mine


def _sweep(folder: Path) -> None:
    with suppress(OSError, Timeout):  # another user's, or at work
        if time.time() - folder.stat().st_mtime < _YOUNG_SECONDS or not (folder / _LOCK).exists():
            return
        with FileLock(folder / _LOCK).acquire(timeout=0):
            shutil.rmtree(folder)
