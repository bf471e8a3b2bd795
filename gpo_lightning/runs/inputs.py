"""What a run reads besides its configuration, by digest: files and code that the configuration names.

A file that was changed in its place, or a reward whose code was, makes another run as a changed key does.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

_READ = ("model", "data.problems", "data.saved")
_CODE = ("model", "data")
_ALWAYS_PATHS = ("base", "adapter", "train", "heldout", "path", "saved")
_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz", ".bz2", ".xz", ".txt")
_CLASS_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_PACKAGE = Path(__file__).parents[1]
_WHOLE, _PIECE, _PIECES = 64 << 20, 64 << 10, 16
DIGEST = "sha256"


def inputs(config: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the local files and the user's own modules that a configuration names, by ``KEY.sha256``.

    Of a file above 64 MiB a sample is read: weights of many gigabytes would take minutes.

    Args:
        config: by dotted key.
    """
    found: dict[str, str] = {}
    for key, text in _texts(config):
        if _under(key, _READ) and (path := _path(key, text)) is not None:
            found[f"{key}.{DIGEST}"] = _digest(path)
        elif _under(key, _CODE) and (module := _own_module(text)) is not None:
            found[f"{key}.{DIGEST}"] = _digest(module)
    return found


def _texts(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, str):
            yield key, value
        elif isinstance(value, Mapping):
            yield from _texts(cast(Mapping[str, Any], value), f"{key}.")
        elif isinstance(value, list):
            yield from _texts({str(place): each for place, each in enumerate(cast(list[Any], value))}, f"{key}.")


def _under(key: str, tops: tuple[str, ...]) -> bool:
    return any(key == top or key.startswith(f"{top}.") for top in tops)


def _path(key: str, text: str) -> Path | None:
    """The file or folder that a value names, if it is one that is there."""
    named = key.rpartition(".")[2] in _ALWAYS_PATHS or text.endswith(_SUFFIXES)
    try:
        path = Path(text).expanduser()
        return path if named and text and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # no path at all
        return None


def _own_module(text: str) -> Path | None:
    """The file of the module that a class path names, if it is the user's and no installed package's."""
    if not _CLASS_PATH.fullmatch(text):
        return None
    module = sys.modules.get(text.rpartition(".")[0])
    name = getattr(module, "__file__", None)
    if not isinstance(name, str) or not Path(name).is_file():
        return None
    file = Path(name).resolve()
    installed = (_PACKAGE, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve() / "lib")
    return None if any(file.is_relative_to(place) for place in installed) else file


def _digest(path: Path) -> str:
    digest = sha256()
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path)} {size}\n".encode("utf-8", "surrogateescape"))
        with file.open("rb") as content:
            if size <= _WHOLE:
                digest.update(content.read())
                continue
            for piece in range(_PIECES):
                content.seek((size - _PIECE) * piece // (_PIECES - 1))
                digest.update(content.read(_PIECE))
    return digest.hexdigest()[:16]
