"""One row of a file: columns as text or chat turns, and nothing spelled out that is neither.

{"prompt": [{"role": "user", "content": "17 + 25?"}], "reward_model": {"ground_truth": "42"}}
"""

import ast
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any, cast

from gpo_lightning.errors import DataError
from gpo_lightning.problems.problem import Message

_ROLES = ("system", "developer", "user", "assistant", "tool")


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
        value = self._spelled(column, self._given(column))
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
        value = self._spelled(column, self.get(column))
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

    def _spelled(self, column: str, value: Any) -> Any:
        """The list that a text is, where it is nothing but the spelling of a list of turns: CSV has no lists."""
        if not isinstance(value, str) or not value.lstrip().startswith("[{") or not value.rstrip().endswith("}]"):
            return value
        if '"role"' not in value and "'role'" not in value:
            return value
        for read in (json.loads, ast.literal_eval):
            try:
                return read(value)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
        raise DataError(
            f"{self.place}: column {column!r} holds the spelling of a list of chat turns that cannot be read back. "
            "Write the file as Parquet or JSON Lines, which keep lists."
        )

    def _said(self, column: str, turn: Any, number: int) -> str:
        if calls := [name for name in ("tool_calls", "function_call") if turn.get(name)]:
            raise DataError(
                f"{self.place}: column {column!r}: turn {number} has {calls[0]}, which are not read. Write them into "
                "its content as the model does, or take the row out."
            )
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

    A number may be numpy's.

    >>> written_value(42), written_value("42"), written_value([42]), written_value(True)
    ('42', '42', None, None)
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return None
    return str(value) if math.isfinite(value) else None


def _is_turn(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("role"), str) and "content" in value


def _kind(value: Any) -> str:
    names: dict[type, str] = {list: "a list", dict: "columns of its own", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), f"{value!r}" if isinstance(value, float) else type(value).__name__)
