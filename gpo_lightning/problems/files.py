"""Rows from local files or from the hub, through one option: a path that exists is read, any other is a hub id.

JSON Lines, JSON, CSV, TSV and Parquet, the first four also compressed (``train.jsonl.gz``). Every row knows where it
stands, so that an error names file and line. Nothing here knows what the columns mean.
"""

import bz2
import csv
import gzip
import json
import lzma
import math
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, cast

from gpo_lightning.errors import ConfigError, DataError
from gpo_lightning.problems.problem import Message

_COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_ROLES = ("system", "developer", "user", "assistant", "tool")
_LONGEST_FIELD = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its columns, where it stands (``train.jsonl:17``), and the name of its file without suffix.

    A column inside another one is named with a dot: ``reward_model.ground_truth``.
    """

    place: str
    columns: Mapping[str, Any]
    file: str = ""

    def get(self, column: str) -> Any:
        """What a column holds; ``None`` where there is none of that name."""
        value = self.columns.get(column)
        if column in self.columns or "." not in column:
            return value
        value = self.columns
        for name in column.split("."):
            value = cast(Any, value).get(name) if isinstance(value, Mapping) else None
        return value

    def text(self, column: str) -> str:
        """A column as text; of a single chat turn, what is said in it.

        Raises:
            DataError: the row has no such column, nothing in it, or something that is neither text nor a number.
        """
        value = self._given(column)
        if isinstance(value, list) and len(cast(list[Any], value)) == 1 and _is_turn(cast(list[Any], value)[0]):
            value = self._said(column, cast(list[Any], value)[0], 1)
        found = written_value(value)
        if found is None:
            raise DataError(
                f"{self.place}: column {column!r} holds {_kind(value)}, which is neither text nor a finite number. "
                "Name a column of text; of a column inside this one, the name is written with a dot."
            )
        if not found.strip():
            raise self._empty(column)
        return found

    def optional(self, column: str) -> str:
        """As :meth:`text`, but nothing where there is nothing."""
        value = self.get(column)
        return "" if value is None or (isinstance(value, str) and not value.strip()) else self.text(column)

    def turns(self, column: str) -> tuple[Message, ...]:
        """A column as the chat turns of a prompt; ``()`` where it holds none.

        Raises:
            DataError: a list that is not of chat turns, or whose last turn is the assistant's.
        """
        value = self.get(column)
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            return ()
        if not all(_is_turn(turn) for turn in cast(Sequence[Any], value)):
            raise DataError(
                f"{self.place}: column {column!r} holds a list, but not of chat turns, each with role and content."
            )
        turns = tuple(
            Message(str(turn["role"]), self._said(column, turn, number))
            for number, turn in enumerate(cast(Sequence[Any], value), start=1)
        )
        if unknown := [turn.role for turn in turns if turn.role not in _ROLES]:
            raise DataError(
                f"{self.place}: column {column!r} has a turn of {unknown[0]!r}; roles are {', '.join(_ROLES)}."
            )
        if turns[-1].role == "assistant":
            raise DataError(
                f"{self.place}: column {column!r} ends with the assistant's turn, but it must end with what the policy "
                "is to answer. Put that turn into a column of its own, and name it as `solution`."
            )
        return turns

    def _said(self, column: str, turn: Any, number: int) -> str:
        content: Any = turn["content"]
        if isinstance(content, list):  # in parts, of which only text can be read
            parts = cast(list[Any], content)
            texts = [part.get("text") for part in parts if isinstance(part, Mapping) and part.get("type") == "text"]
            kept = [text for text in texts if isinstance(text, str)]
            content = "".join(kept) if len(kept) == len(parts) else parts
        if not isinstance(content, str):
            raise DataError(
                f"{self.place}: column {column!r}: the content of turn {number} is {_kind(content)}, not text."
            )
        return content

    def _given(self, column: str) -> Any:
        value = self.get(column)
        if value is None and column.split(".")[0] not in self.columns:
            there = ", ".join(map(str, self.columns))
            raise DataError(
                f"{self.place}: no column {column!r}; there are: {there}. Check the path, or name the columns."
            )
        if value is None:
            raise self._empty(column)
        return value

    def _empty(self, column: str) -> DataError:
        return DataError(f"{self.place}: column {column!r} is empty. Mend the row or take it out.")


def written_value(value: Any) -> str | None:
    """Text, or a finite number as text; ``None`` for anything else.

    >>> written_value(42), written_value("42"), written_value([42]), written_value(True)
    ('42', '42', None, None)
    """
    if isinstance(value, str):
        return value
    number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    return str(value) if number and math.isfinite(value) else None


def _is_turn(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("role"), str) and "content" in value


def _kind(value: Any) -> str:
    names: dict[type, str] = {list: "a list", dict: "columns of its own", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), f"{value!r}" if isinstance(value, float) else type(value).__name__)


def is_local(path: str) -> bool:
    """A path, rather than the id of a data set on the hub (``owner/name``)."""
    return Path(path).exists() or path.startswith((".", "/", "~")) or _format(Path(path)) is not None


def read_rows(path: str, split: str, subset: str | None = None, hub_split: str | None = None) -> list[Row]:
    """Rows of a split.

    Args:
        path: a file, which is read whatever the split; a folder with ``SPLIT.jsonl``, ``SPLIT-*.parquet`` or a folder
            ``SPLIT/`` of files; or a hub id.
        split: ``train``, ``test``, ...
        subset: configuration of the data set on the hub.
        hub_split: name of the split on the hub where it differs.

    Raises:
        DataError: a local path without such files, a file that cannot be read, or no rows.
        ConfigError: the hub does not give the data set.
    """
    if not is_local(path):
        return _hub_rows(path, subset, hub_split or split)
    files = _files(Path(path).expanduser(), split)
    return [row for file in files for row in read_file(file)]


def read_file(file: Path) -> list[Row]:
    """All rows of one file.

    Raises:
        DataError: it is missing, malformed (with the line) or has no rows.
    """
    form = _format(file)
    if form is None:
        known = ", ".join((*_READERS, ".parquet"))
        raise DataError(f"{file}: unknown kind of file; it must end with {known}, or .gz, .bz2 or .xz after that.")
    try:
        rows = list(_parquet(file) if form == ".parquet" else _READERS[form](file))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    if not rows:
        raise DataError(f"{file}: no rows.")
    return rows


def _format(file: Path) -> str | None:
    """The suffix that tells how a file is read, without that of its compression; ``None`` for other files."""
    suffix = Path(file.stem).suffix if file.suffix in _COMPRESSED else file.suffix
    readable = suffix in _READERS or (suffix == ".parquet" and file.suffix == suffix)
    return suffix if readable else None


def _stem(file: Path) -> str:
    return file.name.removesuffix(file.suffix).removesuffix(_format(file) or "")


def _open(file: Path, **how: Any) -> IO[str]:
    """For reading text, uncompressed on the way; a byte order mark at the beginning is passed over."""
    return _COMPRESSED.get(file.suffix, open)(file, "rt", encoding="utf-8-sig", **how)


def _files(path: Path, split: str) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder. Give a local path that exists, or a hub id (owner/name).")
    for folder in (path, path / "data"):
        inside = sorted(file for file in folder.glob("*") if _format(file))
        for found in (
            [file for file in inside if _stem(file) == split][:1],
            [file for file in inside if _stem(file).startswith(f"{split}-")],
        ):
            if found:
                return found
    found = sorted(file for file in (path / split).glob("*") if _format(file))
    if not found:
        raise DataError(
            f"{path}: no {split} split; expected {split}.jsonl (.json, .csv, .tsv, .parquet) or a folder {split}/."
        )
    return found


def _row(file: Path, line: int, columns: Any) -> Row:
    if not isinstance(columns, dict):
        raise DataError(f"{file}:{line}: not a row of columns but {type(columns).__name__}.")
    return Row(f"{file}:{line}", cast(dict[str, Any], columns), _stem(file))


def _jsonl(file: Path) -> Iterator[Row]:
    with _open(file) as lines:  # not splitlines(), which also splits at Unicode's line separators
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _row(file, number, _parsed(file, number, line))


def _json(file: Path) -> Iterator[Row]:
    """An array of rows, an object with one such array among its values, or a row a line."""
    with _open(file) as opened:
        text = opened.read()
    first = text.lstrip().partition("\n")[0]
    if first.startswith("{") and _is_object(first) and text.strip() != first.strip():
        yield from _jsonl(file)
        return
    content = _parsed(file, 1, text)
    if isinstance(content, dict):
        lists = [value for value in cast(dict[str, Any], content).values() if isinstance(value, list)]
        content = cast(Any, lists[0]) if len(lists) == 1 else None
    if not isinstance(content, list):
        raise DataError(f"{file}: neither a JSON array of rows, nor an object with one, nor a row a line.")
    for number, columns in enumerate(cast(list[Any], content), start=1):
        yield _row(file, number, columns)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _parsed(file: Path, line: int, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        # A line of JSON Lines is given with its own number; its closing line break would count as one more.
        within = error.lineno - 1 if isinstance(error, json.JSONDecodeError) else 0
        at = line + min(within, text.rstrip().count("\n"))
        raise DataError(f"{file}:{at}: not JSON: {error}") from error


def _csv(file: Path, delimiter: str = ",") -> Iterator[Row]:
    with _open(file, newline="") as lines, _long_fields():
        reader = csv.DictReader(lines, strict=True, delimiter=delimiter)
        while True:
            begin = reader.line_num + 1
            try:
                columns = next(reader, None)
            except csv.Error as error:
                raise DataError(f"{file}:{begin}: not CSV: {error}") from error
            if columns is None:
                return
            if None in columns or None in columns.values():
                raise DataError(f"{file}:{begin}: not as many columns as the header has.")
            yield _row(file, max(begin, 2), columns)


def _tsv(file: Path) -> Iterator[Row]:
    return _csv(file, "\t")


@contextmanager
def _long_fields() -> Generator[None]:
    """Within, fields may be longer than Python's usual limit of 131,072 characters."""
    usual = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(usual)


def _parquet(file: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(file).to_pylist()
    except pa.ArrowInvalid as error:
        raise DataError(f"{file}: not Parquet: {error}") from error
    yield from (_row(file, number, columns) for number, columns in enumerate(rows, start=1))


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
}


def _hub_rows(path: str, subset: str | None, split: str) -> list[Row]:
    import datasets  # here, for it takes a second and local files do without

    try:
        loaded = cast(Any, datasets).load_dataset(path, subset, split=split)
    except Exception as error:  # of the network, the hub, the data set's own loader: each fails in a way of its own
        raise ConfigError(
            f"data.problems: {path!r} (subset {subset}, split {split}) is no local path, and the hub does not give it: "
            f"{error}. Check the spelling, or give the path of a local copy."
        ) from error
    return [Row(f"{path}[{split}] row {number}", columns) for number, columns in enumerate(loaded)]
