"""Your own problems from Python: a list of dicts, a ``datasets.Dataset``, or the path of a file.

[{"prompt": "What is 17 + 25?", "answer": "42", "topic": "sums"}]
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from gpo_lightning.errors import ConfigError, DataError
from gpo_lightning.problems.files import read_rows
from gpo_lightning.problems.problem import Problem, ProblemSource
from gpo_lightning.problems.prompt_styles import Chat, Form, Prompting
from gpo_lightning.problems.question import Question, solution
from gpo_lightning.problems.row import Row
from gpo_lightning.problems.split import is_heldout
from gpo_lightning.problems.table import Columns
from gpo_lightning.rewards import Boxed, Grader, Maths, Number, Text

_FORMS = (
    "Give a list of dicts, a datasets.Dataset, the path of a .jsonl, .json, .csv or .parquet file, a hub id, or a "
    "problem source such as gpo_lightning.problems.GSM8K()"
)


class Rows(ProblemSource):
    r"""Problems of rows: each has a ``prompt``, put to the policy as it is, or a ``question``, asked in the usual way.

    A ``prompt`` is plain text or a list of chat messages; a ``question`` becomes a chat turn that asks for the answer
    in ``\boxed{}``. Every column of a row reaches the reward functions by name.

    >>> source = Rows([{"prompt": f"{n} + 1 = ?", "answer": str(n + 1)} for n in range(40)])
    >>> source.train()[0].prompt, source.train()[0].answer
    ('0 + 1 = ?', '1')
    >>> len(source.train()) + len(source.heldout())
    40

    Args:
        train: rows to learn from; a ``DatasetDict`` brings its ``test`` split along.
        heldout: rows to evaluate on; ``None`` holds out one in ten of ``train``, by its text.
        columns: which column holds what; an ``answer`` is not needed where reward functions judge.
        kind: of the answers, which chooses the grader where no rewards are given.
        task: name under which results are grouped.
        prompting: how questions are put.
    """

    def __init__(
        self,
        train: object,
        heldout: object = None,
        columns: Columns = Columns(),
        kind: Literal["maths", "number", "text"] = "maths",
        task: str = "rows",
        prompting: Prompting = Chat(),
    ) -> None:
        self.columns, self.kind, self.task, self.prompting = columns, kind, task, prompting
        if isinstance(train, Mapping) and "train" in train:
            splits = cast(Mapping[str, Any], train)
            train, heldout = splits["train"], splits.get("test") if heldout is None else heldout
        self._train = _rows(train, "problems", "train")
        self._heldout = None if heldout is None else _rows(heldout, "heldout", "test")
        self._check_columns()

    def _check_columns(self) -> None:
        """A column that was named, and is in no row, would be taken for one that is empty.

        Raises:
            ConfigError: there is one.
        """
        for what, column in (("answer", self.columns.answer), ("solution", self.columns.solution)):
            if column is None or column == getattr(Columns(), what):
                continue
            if all(row.get(column) is None for row in self._train):
                raise ConfigError(
                    f"data.problems.columns.{what} is {column!r}, but no row has such a column. There are: "
                    f"{', '.join(self.column_names)}."
                )

    @property
    def form(self) -> Form:
        """Answer format of questions."""
        return self.prompting.form(Form(Boxed()))

    @property
    def grader(self) -> Grader:
        graders = {"maths": Maths, "number": Number, "text": Text}
        return graders[self.kind]()

    @property
    def has_answers(self) -> bool:
        """Whether every row to learn from has a gold answer."""
        return all(row.optional(self.columns.answer) for row in self._train)

    @property
    def column_names(self) -> list[str]:
        """Columns of the first row to learn from."""
        return [str(name) for name in self._train[0].columns]

    def train(self) -> Sequence[Problem]:
        problems = self._problems["train"]
        if self._heldout is not None:
            return problems
        return [problem for problem in problems if not is_heldout(_text(problem))]

    def heldout(self) -> Sequence[Problem]:
        if self._heldout is not None:
            return self._problems["heldout"]
        return [problem for problem in self._problems["train"] if is_heldout(_text(problem))]

    @cached_property
    def _problems(self) -> dict[str, list[Problem]]:
        splits = {"train": self._train, "heldout": self._heldout or []}
        return {split: list(self._named(split, rows)) for split, rows in splits.items()}

    def _named(self, split: str, rows: Sequence[Row]) -> Iterator[Problem]:
        places: dict[str, str] = {}
        for number, row in enumerate(rows):
            problem = replace(self._problem(f"{self.task}/{split}/{number}", row), place=row.place)
            if problem.id in places:
                raise DataError(f"{row.place}: id {problem.id!r} stands already in {places[problem.id]}.")
            places[problem.id] = row.place
            yield problem

    def _problem(self, id: str, row: Row) -> Problem:
        names = self.columns
        id = row.text(names.id) if names.id else id
        answer = row.optional(names.answer).strip()
        category = row.text(names.category) if names.category else self.task
        worked = row.optional(names.solution).strip() if names.solution else ""
        metadata = _plain({**row.columns, "category": category})
        if "prompt" in row.columns:
            return Problem(id, self.task, answer, solution=worked or None, metadata=metadata, **_asked(row, "prompt"))
        if row.turns(names.question):
            asked = _asked(row, names.question)
            return Problem(id, self.task, answer, solution=worked or None, metadata=metadata, **asked)
        if row.get(names.question) is None and names.question not in row.columns:
            there = ", ".join(map(str, row.columns))
            raise DataError(
                f"{row.place}: no column 'prompt' and none {names.question!r}; there are: {there}. Rename one, or name "
                "it: data.problems.columns.question (in Python Rows(rows, columns=Columns(question=...)))."
            )
        question = Question(id, row.text(names.question).strip(), answer, row.place, category, worked or None)
        put = self.prompting.problem(question, (), Form(Boxed()), self.task)
        return Problem(
            id,
            self.task,
            answer,
            put.prompt,
            put.messages,
            solution(question, self.form.answer),
            {**metadata, **put.metadata},
            put.template_options,
        )


def problem_source(problems: object) -> ProblemSource:
    """The source itself, or one made of rows, a data set, a path or a hub id.

    >>> type(problem_source([{"prompt": "1 + 1 = ?", "answer": "2"}])).__name__
    'Rows'

    Raises:
        ConfigError: it is none of these.
    """
    return problems if isinstance(problems, ProblemSource) else Rows(problems)


def _rows(given: object, argument: str, split: str) -> list[Row]:
    """Rows with their places.

    Raises:
        ConfigError: there are none in what was given.
        DataError: one of them is no row.
    """
    if isinstance(given, str | Path):
        return read_rows(str(given), split)
    if isinstance(given, type):
        raise ConfigError(f"{argument} is the class {given.__name__}; write {given.__name__}(...). {_FORMS}.")
    if isinstance(given, Mapping) or not isinstance(given, Iterable) or hasattr(given, "to_records"):
        hint = " For a DataFrame: problems=frame.to_dict('records')." if hasattr(given, "to_records") else ""
        raise ConfigError(f"{argument} is of type {type(given).__name__}.{hint} {_FORMS}.")
    rows: list[Row] = []
    for number, columns in enumerate(cast(Iterable[Any], given)):
        if not isinstance(columns, Mapping):
            raise DataError(f"{argument}[{number}] is {columns!r:.60}, not a dict of columns. {_FORMS}.")
        own = {name: _native(value) for name, value in cast(Mapping[str, Any], columns).items()}
        rows.append(Row(f"{argument}[{number}]", own))
    if not rows:
        raise ConfigError(f"{argument} has no rows. {_FORMS}.")
    return rows


def _native(value: Any) -> Any:
    """What numpy and torch hold as Python's own; a narrow float is the shortest number that rounds to it."""
    if isinstance(value, np.floating):
        return float(str(value))
    return value.tolist() if hasattr(value, "tolist") else value


def _asked(row: Row, column: str) -> dict[str, Any]:
    """The fields of a problem that hold what is asked, as it is.

    Raises:
        DataError: it is neither a text nor chat turns.
    """
    if turns := row.turns(column):
        return {"messages": turns}
    if not isinstance(row.get(column), str):
        raise DataError(
            f"{row.place}: {column} is {row.get(column)!r:.80}; it must be a text, or a list of chat messages "
            '{"role": "user", "content": ...}.'
        )
    return {"prompt": row.text(column)}


def _plain(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Columns as rollouts can be written with: what JSON has no words for (dates, images) becomes text."""
    return json.loads(json.dumps(columns, default=_written))


def _written(value: Any) -> Any:
    native = _native(value)
    return str(value) if native is value else native


def _text(problem: Problem) -> str:
    return problem.prompt or "\n".join(turn.content for turn in problem.messages)
