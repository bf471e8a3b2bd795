"""Rows from local files or from the hub, through one option: a path that exists is read, any other is a hub id.

JSON Lines, JSON, CSV, TSV and Parquet, the first four also compressed (``train.jsonl.gz``), and what
``Dataset.save_to_disk`` wrote. Every row knows where it stands, so that an error names file and line. Nothing here
knows what the columns mean.
"""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from gpo_lightning.errors import ConfigError, DataError
from gpo_lightning.problems.row import Row

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_LONGEST_FIELD = 2**31 - 1


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
    folder = Path(path).expanduser()
    if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return _saved_rows(folder, split)
    files = _files(folder, split)
    return [row for file in files for row in read_file(file)]


def read_file(file: Path) -> list[Row]:
    """All rows of one file.

    Raises:
        DataError: it is missing, malformed (with the line) or has no rows.
    """
    form = _format(file)
    if form is None:
        known = ", ".join((*_READERS, ".parquet"))
        raise DataError(
            f"{file}: unknown kind of file; it must end with {known}, or {', '.join(_COMPRESSED)} after that."
        )
    try:
        rows = list(_parquet(file) if form == ".parquet" else _READERS[form](file))
    except UnicodeDecodeError as error:
        raise _not_text(file) from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    if not rows:
        raise DataError(f"{file}: no rows.")
    return rows


def _format(file: Path) -> str | None:
    """The suffix that tells how a file is read, without that of its compression; ``None`` for other files."""
    packed = file.suffix.lower() in _COMPRESSED
    suffix = (Path(file.stem).suffix if packed else file.suffix).lower()
    return suffix if suffix in _READERS or (suffix == ".parquet" and not packed) else None


def _stem(file: Path) -> str:
    name = file.stem if file.suffix.lower() in _COMPRESSED else file.name
    return Path(name).stem if _format(file) else name


def _bytes(file: Path) -> BinaryIO:
    """For reading, uncompressed on the way."""
    match file.suffix.lower():
        case ".gz":
            return cast(BinaryIO, gzip.open(file))
        case ".bz2":
            return cast(BinaryIO, bz2.open(file))
        case ".xz":
            return cast(BinaryIO, lzma.open(file))
        case ".zst":
            import pyarrow as pa

            return cast(BinaryIO, pa.input_stream(str(file), compression="zstd"))
        case _:
            return file.open("rb")


def _open(file: Path, newline: str | None = None) -> IO[str]:
    """For reading text; a byte order mark at the beginning tells the encoding, and is passed over."""
    with _bytes(file) as opened:
        wide = opened.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return io.TextIOWrapper(_bytes(file), "utf-16" if wide else "utf-8-sig", newline=newline)


def _not_text(file: Path) -> DataError:
    with _bytes(file) as opened:
        for number, line in enumerate(opened, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return DataError(
                    f"{file}:{number}: not UTF-8, at byte {error.start + 1} of the line. Write the file anew in UTF-8: "
                    f"`iconv -f WINDOWS-1252 -t UTF-8 {file.name}`, if that is what it is in."
                )
    return DataError(f"{file}: not text in the encoding that its byte order mark names.")


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
        header = lines.readline()
        if delimiter == "," not in header:  # as spreadsheets write where the comma is in numbers
            delimiter = next((other for other in ";\t" if other in header), delimiter)
        reader = csv.DictReader(chain([header] if header else [], lines), strict=True, delimiter=delimiter)
        reader.fieldnames = _header(file, reader)
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


def _header(file: Path, reader: "csv.DictReader[str]") -> list[str]:
    try:
        names = [name.strip() for name in reader.fieldnames or ()]
    except csv.Error as error:
        raise DataError(f"{file}:1: not CSV: {error}") from error
    if twice := [name for name, count in Counter(names).items() if count > 1 and name]:
        raise DataError(f"{file}:1: two columns are named {twice[0]!r}. Rename one.")
    return names


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
        table = pq.read_table(file)
    except pa.ArrowInvalid as error:
        raise DataError(f"{file}: not Parquet: {error}") from error
    yield from (_row(file, number, columns) for number, columns in enumerate(_listed(table), start=1))


def _listed(table: Any) -> list[dict[str, Any]]:
    """The rows of an Arrow table. Its narrow floats are the shortest numbers that round to them: .1 stays .1."""
    import pyarrow as pa

    narrow = [field.name for field in table.schema if field.type in (pa.float16(), pa.float32())]
    for name in narrow:
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, table[name].cast(pa.float32()).cast(pa.string()).cast(pa.float64()))
    return table.to_pylist()


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
}


def _saved_rows(folder: Path, split: str) -> list[Row]:
    import datasets

    try:
        loaded = cast(Any, datasets).load_from_disk(str(folder))
    except Exception as error:  # of Arrow, or of a folder that was cut short
        raise DataError(f"{folder}: not a data set that `save_to_disk` wrote: {error}") from error
    if isinstance(loaded, Mapping):
        if split not in loaded:
            raise DataError(f"{folder}: no {split} split; there are: {', '.join(map(str, loaded))}.")
        loaded = cast(Any, loaded[split])
    rows = _listed(loaded.with_format("arrow")[:])
    return [Row(f"{folder}[{number}]", columns, folder.name) for number, columns in enumerate(rows)]


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
