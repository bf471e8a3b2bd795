"""Rollout trees on disk: one Parquet row a tree, nothing lost.

The file's metadata names the version of its format. Version 2 has the text of responses and steps beside their tokens,
so that a file can be read without a tokenizer; files of version 1, without them, are read as well.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from gpo_lightning.engines import Purpose
from gpo_lightning.errors import DataError
from gpo_lightning.problems import Message, Problem
from gpo_lightning.rollouts.tree import RolloutTree, Sample, ValueCurve

VERSION = 2
"""Of the format; raised whenever a column is added."""
GROUP = 1024
"""Samples that are written together: a row group of the file."""
_VERSION_KEY = b"gpo_lightning.rollouts"
_TOKENS = pa.list_(pa.int32())
_SCHEMA = pa.schema(
    {
        "problem_id": pa.string(),
        "task": pa.string(),
        "problem": pa.string(),
        "prompt": _TOKENS,
        "samples": pa.list_(
            pa.struct(
                {
                    "tokens": _TOKENS,
                    "start": pa.int32(),
                    "logprobs": pa.list_(pa.float64()),
                    "reward": pa.float64(),
                    "reason": pa.string(),
                    "truncated": pa.bool_(),
                    "purpose": pa.string(),
                    "version": pa.int32(),
                    "answer": pa.string(),
                    "success": pa.float64(),
                    "parts": pa.map_(pa.string(), pa.float64()),
                    "text": pa.string(),
                    "states": pa.list_(pa.struct({"offset": pa.int32(), "state": pa.string()})),
                }
            )
        ),
        "curves": pa.list_(
            pa.struct(
                {
                    "tokens": _TOKENS,
                    "boundaries": _TOKENS,
                    "values": pa.list_(pa.float64()),
                    "critical": pa.int32(),
                    "trials": _TOKENS,
                    "steps": pa.list_(pa.string()),
                }
            )
        ),
    },
    metadata={_VERSION_KEY: str(VERSION)},
)


class TreeWriter:
    """Writes trees as they come, some at a time; the file is there, and whole, once the last is written.

    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "rollouts.parquet"
    >>> with TreeWriter(path) as writer:
    ...     writer.add(RolloutTree(Problem("p", "sums", "4", prompt="2 + 2 = "), (5, 6)))
    >>> len(list(read_trees(path)))
    1

    Args:
        path: where the file will be; until then a hidden one beside it grows, which an exception removes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._rows: list[dict[str, Any]] = []
        self._samples = 0

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = pq.ParquetWriter(self._partial, _SCHEMA, write_page_checksum=True)
        return self

    def add(self, tree: RolloutTree) -> None:
        """Append a tree."""
        self._rows.append(_row(tree))
        self._samples += len(tree.samples)
        if self._samples >= GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, schema=_SCHEMA))
        self._rows, self._samples = [], 0

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self._flush()
            self._file.close()
            if kind is None:
                self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)


def write_trees(path: Path, trees: Iterable[RolloutTree]) -> None:
    """Write atomically: the file is whole or absent."""
    with TreeWriter(path) as writer:
        for tree in trees:
            writer.add(tree)


def read_trees(path: Path) -> list[RolloutTree]:
    """The trees of a file that :func:`write_trees` or :class:`TreeWriter` wrote.

    Raises:
        DataError: the file is missing, not such a file, or of a later format.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            version = int((file.schema_arrow.metadata or {}).get(_VERSION_KEY, b"1"))
            if version <= VERSION:
                groups = range(file.num_row_groups)
                return [_tree(row) for group in groups for row in file.read_row_group(group).to_pylist()]
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a rollout file written by this package: {error}") from error
    raise DataError(
        f"{path}: rollouts in format {version}; this version of gpo_lightning reads formats up to {VERSION}. Upgrade "
        "gpo_lightning, or write the file anew."
    )


def _row(tree: RolloutTree) -> dict[str, Any]:
    return {
        "problem_id": tree.problem.id,
        "task": tree.problem.task,
        "problem": json.dumps(asdict(tree.problem), sort_keys=True),
        "prompt": tree.prompt,
        "samples": [
            asdict(sample) | {"parts": list(sample.parts.items()), "states": _named(sample)} for sample in tree.samples
        ],
        "curves": [asdict(curve) for curve in tree.curves],
    }


def _tree(row: dict[str, Any]) -> RolloutTree:
    problem = json.loads(row["problem"])
    problem["messages"] = tuple(Message(**message) for message in problem["messages"])
    tree = RolloutTree(Problem(**problem), tuple(row["prompt"]))
    for sample in row["samples"]:
        states = tuple((state["offset"], state["state"]) for state in sample["states"] or ())
        fields: dict[str, Any] = _tuples(sample) | {"purpose": Purpose(sample["purpose"]), "states": states}
        fields["parts"] = dict(sample["parts"] or ())
        tree.add(Sample(**fields))
    tree.curves = [ValueCurve(**_tuples(curve)) for curve in row["curves"]]
    return tree


def _named(sample: Sample) -> list[dict[str, Any]]:
    return [{"offset": offset, "state": state} for offset, state in sample.states]


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: tuple[Any, ...](value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        for name, value in row.items()
    }
