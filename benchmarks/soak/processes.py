"""What a run has going, and what it leaves over: processes, temporary files."""

import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path


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


def processes_in(folder: Path) -> list[int]:
    """Processes that work in a folder, whoever is their parent by now."""
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append(int(process.name))
    return found


def children_of(pid: int) -> list[int]:
    """Processes that a process started and that are still there."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return found
