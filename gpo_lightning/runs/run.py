"""A run has a folder of its own, ``runs/NAME/VERSION``, an identity, and a lock while somebody works in it."""

import json
import os
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout

from gpo_lightning.errors import ConfigError, StorageError
from gpo_lightning.runs.checkpoint import newest_checkpoint
from gpo_lightning.runs.identity import Identity
from gpo_lightning.whole_file import write_whole

IDENTITY = "run.json"
CHECKPOINTS = "checkpoints"
_LOCK = "run.lock"


class Run:
    """A run that this process works on.

    Args:
        folder: its folder.
        identity: who it is.
    """

    def __init__(self, folder: Path, identity: Identity) -> None:
        self.folder, self.identity = folder, identity
        self._lock = FileLock(folder / _LOCK)
        self._finished: int | None = None

    @classmethod
    def begin(cls, folder: Path, config: Mapping[str, Any]) -> "Run":
        """A new run in a folder where none is yet.

        Raises:
            ConfigError: one is.
            StorageError: the folder cannot be written.
        """
        if (folder / IDENTITY).exists():
            raise ConfigError(
                f"{folder} holds a run already. Go on with it (--run {folder}), or give the logger another name or "
                "version."
            )
        run = cls(folder, Identity.new(config))
        run.work()
        return run

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """A run that was begun before.

        What it was, its checkpoints know as well: a machine that stopped may leave a torn ``run.json``.

        Raises:
            ConfigError: there is none.
        """
        content = read_identity(folder)
        if content is not None:
            run = cls(folder, Identity.read(content))
            run._finished = content.get("finished")
            return run
        checkpoint, _ = newest_checkpoint([folder / CHECKPOINTS])
        if checkpoint is None or checkpoint.run is None:
            raise ConfigError(f"{folder} holds no run that one could go on with: there is no {IDENTITY} in it.")
        return cls(folder, checkpoint.run)

    @property
    def finished(self) -> int | None:
        """Iterations after which it ended by itself; ``None`` where it has not."""
        return self._finished

    def work(self) -> None:
        """Take the lock, which the kernel gives back should this process be killed.

        Raises:
            ConfigError: another process works in the folder.
            StorageError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            self._write()
        except Timeout as error:
            worker = (read_identity(self.folder) or {}).get("worker", "unknown")
            raise ConfigError(
                f"{self.folder} is in use: another process ({worker}) works on this run. Wait for it, or end it."
            ) from error
        except OSError as error:
            raise StorageError(f"{self.folder}: the run's folder cannot be written: {error}.") from error

    def finish(self, iterations: int) -> None:
        """Note that it ended by itself."""
        self._finished = iterations
        self._write()

    def rest(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def _write(self) -> None:
        content = {**self.identity.to_dict(), "finished": self._finished}
        content["worker"] = f"process {os.getpid()} on {socket.gethostname()}"
        write_whole(self.folder / IDENTITY, json.dumps(content, indent=2))


def read_identity(folder: Path) -> dict[str, Any] | None:
    """What ``run.json`` of a folder says; ``None`` where it is not there, torn, or says something else."""
    try:
        content: object = json.loads((folder / IDENTITY).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or not {"id", "started", "package", "git", "job", "config"} <= content.keys():
        return None
    return cast(dict[str, Any], content)


def new_folder(root: Path) -> Path:
    """``root/version_N`` with the lowest number above all there are; two processes never get the same.

    Raises:
        StorageError: it cannot be made.
    """
    number = max((number for _, number in numbered(root)), default=-1) + 1
    try:
        root.mkdir(parents=True, exist_ok=True)
        while not _made(root / f"version_{number}"):
            number += 1
    except OSError as error:
        raise StorageError(f"{root}: a run's folder cannot be made in it: {error}.") from error
    return root / f"version_{number}"


def _made(folder: Path) -> bool:
    """Whether this process made the folder, and no other."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def numbered(root: Path) -> Sequence[tuple[Path, int]]:
    """Folders ``version_N`` with their numbers, the latest first."""
    matches = [(path, re.fullmatch(r"version_(\d+)", path.name)) for path in root.glob("version_*")]
    return sorted(((path, int(match[1])) for path, match in matches if match), key=lambda run: -run[1])
