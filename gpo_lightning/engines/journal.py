"""Finished continuations on disk, so that a killed run need not make them again.

The journal is a folder with a file for each version of the weights and rank. A line is one :meth:`Engine.poll`:

    5d0c1f7a {"finished": [{"key": "9c1e", "tokens": [17, 2], "logprobs": [-0.1, -0.7], "truncated": false, ...}]}

The number in front is the CRC-32 of the rest. A line is written whole or does not count, so that a kill or a full disk
in the middle of one loses that line and nothing else.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from time import monotonic
from zlib import crc32

from gpo_lightning.errors import StorageError

_FORCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A finished continuation, and what was asked.

    Args:
        key: digest of the request and of the weights that answered it.
        tokens: generated ids.
        logprobs: log-probability of each.
        truncated: ended by the token limit.
        cached: prefix tokens whose computation a cache saved.
    """

    key: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    truncated: bool
    cached: int


class CompletionJournal:
    """Finished continuations of one rank, a file for each version of the weights.

    Args:
        directory: where the files lie; made when the first line is written.
        rank: of this process; each has files of its own.
        ranks: how many processes there are; there may have been more before.
    """

    def __init__(self, directory: Path, rank: int = 0, ranks: int = 1) -> None:
        self.directory, self.rank, self.ranks = directory, rank, ranks
        self._path: Path | None = None
        self._forced = 0.0

    def path_of(self, version: int) -> Path:
        return self.directory / f"version-{version:06d}-rank{self.rank}.journal"

    def turn_to(self, version: int) -> list[tuple[JournalEntry, ...]] | None:
        """Write to the journal of ``version`` from now on.

        Returns:
            what is there from a run before this one, one entry a poll: of this process, then of the others, whose
            searches may fall to this one now; ``None`` where the journal was open already.
        """
        path = self.path_of(version)
        if path == self._path:
            return None
        self.close()
        self._path = path
        others = sorted(set(self._journals(version)) - {path})
        lines, whole = _read(path) if path.exists() else ([], 0)
        if path.exists() and whole < path.stat().st_size:
            # What follows a torn line could not be told from it.
            os.truncate(path, whole)
        return lines + [line for other in others for line in _read(other)[0]]

    def _journals(self, version: int) -> Iterator[Path]:
        return self.directory.glob(f"version-{version:06d}-rank*.journal")

    def append(self, finished: Sequence[JournalEntry]) -> None:
        """Add one poll.

        Raises:
            StorageError: there is no room for it.
        """
        if self._path is None:
            raise StorageError("A journal was written to before it was turned to a version.")
        body = json.dumps({"finished": [asdict(one) for one in finished]}).encode()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                self._write(file, b"%08x %s\n" % (crc32(body), body))
        except OSError as error:
            raise StorageError(
                f"{self._path}: finished rollouts cannot be written: {error}. Those written before are safe. "
                "Make room, then go on with --ckpt_path last."
            ) from error

    def _write(self, file: FileIO, line: bytes) -> None:
        begin = file.seek(0, os.SEEK_END)
        try:
            # A full disk takes part of a line first, and refuses the rest.
            written = 0
            while written < len(line):
                written += file.write(line[written:])
        except OSError:
            file.truncate(begin)
            raise
        # A killed process loses nothing that was written; only a machine that stops loses what was not forced out.
        if monotonic() - self._forced > _FORCE_SECONDS:
            os.fsync(file.fileno())
            self._forced = monotonic()

    def discard(self, before: int) -> None:
        """Remove all ranks' journals of versions under ``before``, which every rank must be done with."""
        for path in self.directory.glob("version-*-rank*.journal"):
            if path.name.split("-rank")[0] < f"version-{before:06d}" and path != self._path:
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove this rank's journals, and its share of vanished ranks': the run has ended, nobody will ask again."""
        self.close()
        for path in self.directory.glob("version-*-rank*.journal"):
            if int(path.stem.partition("-rank")[2]) % self.ranks == self.rank:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        self._path = None


def _read(path: Path) -> tuple[list[tuple[JournalEntry, ...]], int]:
    """The whole lines of a journal, and the bytes they take."""
    lines: list[tuple[JournalEntry, ...]] = []
    whole = 0
    for line in _lines(path):
        parsed = _parse(line)
        if parsed is None:
            break
        lines.append(parsed)
        whole += len(line)
    return lines, whole


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise StorageError(f"{path}: journaled rollouts cannot be read: {error}") from error


def _parse(line: bytes) -> tuple[JournalEntry, ...] | None:
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % crc32(body):
        return None
    return tuple(
        JournalEntry(one["key"], tuple(one["tokens"]), tuple(one["logprobs"]), one["truncated"], one["cached"])
        for one in json.loads(body)["finished"]
    )
