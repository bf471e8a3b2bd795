"""A checksum that a checkpoint carries: bytes that rotted on a disk are not taken for weights.

torch writes a zip archive, and zip archives may end with a comment. Ours is the SHA-256 of everything before it.
"""

from hashlib import sha256
from io import BufferedIOBase
from pathlib import Path

_MARK = b"sha256 "
_LENGTH = len(_MARK) + 64
_PIECE = 1 << 20


def seal(file: BufferedIOBase) -> None:
    """Add the checksum to an archive just written to a file that is open for reading and writing."""
    file.seek(-2, 2)
    file.write(_LENGTH.to_bytes(2, "little"))  # the last thing in an archive says how long its comment is
    file.write(_MARK + _digest(file, file.tell()))


def is_sealed(path: Path) -> bool:
    """Whether a file says that it was sealed, whatever became of it since."""
    with path.open("rb") as file:
        file.seek(-min(_LENGTH, path.stat().st_size), 2)
        return file.read(len(_MARK)) == _MARK


def is_sound(path: Path) -> bool:
    """Whether a file is, to the bit, what was sealed."""
    size = path.stat().st_size - _LENGTH
    if size <= 0:
        return False
    with path.open("rb") as file:
        digest = _digest(file, size)
        return file.read() == _MARK + digest


def _digest(file: BufferedIOBase, size: int) -> bytes:
    """Of the first ``size`` bytes, after which the file stands."""
    digest = sha256()
    file.seek(0)
    while size > 0 and (piece := file.read(min(_PIECE, size))):
        digest.update(piece)
        size -= len(piece)
    return digest.hexdigest().encode()
