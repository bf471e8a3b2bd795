"""Rows from local files or from the hub, through one option: a path that exists is read, any other is a hub id.

JSON Lines, JSON, CSV and Parquet. Every row knows where it stands, so that an error names file and line. Nothing here
knows what the columns mean.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gpo_lightning.errors import ConfigError, DataError

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its columns, where it stands (``train.jsonl:17``), and the name of its file without suffix."""

    place: str
    columns: Mapping[str, Any]
    file: str = ""

    def text(self, column: str) -> str:
        """A column as text.

        Raises:
            DataError: the row has no such column, or nothing in it.
        """
        value = self.columns.get(column)
        if column not in self.columns:
            there = ", ".join(map(str, self.columns))
            raise DataError(
                f"{self.place}: no column {column!r}; there are: {there}. Check the path, or name the columns."
            )
        if value is None or not str(value).strip():
            raise DataError(f"{self.place}: column {column!r} is empty. Mend the row or take it out.")
        return str(value)


def is_local(path: str) -> bool:
    """A path, rather than the id of a data set on the hub (``owner/name``)."""
    return Path(path).exists() or path.startswith((".", "/", "~")) or Path(path).suffix in SUFFIXES


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
    if file.suffix not in SUFFIXES:
        raise DataError(f"{file}: unknown kind of file; it must end with {', '.join(SUFFIXES)}.")
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet}
    try:
        rows = list(readers[file.suffix](file))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    if not rows:
        raise DataError(f"{file}: no rows.")
    return rows


def _files(path: Path, split: str) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder. Give a local path that exists, or a hub id (owner/name).")
    for folder in (path, path / "data"):
        inside = sorted(file for file in folder.glob("*") if file.suffix in SUFFIXES)
        for found in (
            [file for file in inside if file.stem == split][:1],
            [file for file in inside if file.stem.startswith(f"{split}-")],
        ):
            if found:
                return found
    found = sorted(file for file in (path / split).glob("*") if file.suffix in SUFFIXES)
    if not found:
        raise DataError(
            f"{path}: no {split} split; expected {split}.jsonl (.json, .csv, .parquet) or a folder {split}/."
        )
    return found


def _row(file: Path, line: int, columns: Any) -> Row:
    if not isinstance(columns, dict):
        raise DataError(f"{file}:{line}: not a row of columns but {type(columns).__name__}.")
    return Row(f"{file}:{line}", cast(dict[str, Any], columns), file.stem)


def _jsonl(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8-sig") as lines:  # not splitlines(), which also splits at Unicode's line separators
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _row(file, number, _parsed(file, number, line))


def _json(file: Path) -> Iterator[Row]:
    """An array of rows, or an object with one such array among its values."""
    content = _parsed(file, 1, file.read_text(encoding="utf-8-sig"))
    if isinstance(content, dict):
        lists = [value for value in cast(dict[str, Any], content).values() if isinstance(value, list)]
        content = cast(Any, lists[0]) if len(lists) == 1 else None
    if not isinstance(content, list):
        raise DataError(f"{file}: neither a JSON array of rows nor an object with one.")
    for number, columns in enumerate(cast(list[Any], content), start=1):
        yield _row(file, number, columns)


def _parsed(file: Path, line: int, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        # A line of JSON Lines is given with its own number; its closing line break would count as one more.
        within = error.lineno - 1 if isinstance(error, json.JSONDecodeError) else 0
        at = line + min(within, text.rstrip().count("\n"))
        raise DataError(f"{file}:{at}: not JSON: {error}") from error


def _csv(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
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


def _parquet(file: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(file).to_pylist()
    except pa.ArrowInvalid as error:
        raise DataError(f"{file}: not Parquet: {error}") from error
    yield from (_row(file, number, columns) for number, columns in enumerate(rows, start=1))


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
