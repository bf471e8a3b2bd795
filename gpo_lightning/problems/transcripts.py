"""Responses that somebody has already: the policy's own, another model's, an API's. Nothing is known of their steps.

{"question": "What is 17 * 24?", "response": "17 * 24 = 17 * 20 + 17 * 4\n= 340 + 68\n= \\boxed{408}", "answer": "408"}
{"messages": [{"role": "user", "content": "17 * 24?"}, {"role": "assistant", "content": "..."}], "answer": "408"}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from gpo_lightning.errors import DataError
from gpo_lightning.problems.files import read_rows
from gpo_lightning.problems.labelled import LabelledSource, LabelledTrajectory
from gpo_lightning.problems.problem import Problem, ProblemSource
from gpo_lightning.problems.row import Row
from gpo_lightning.problems.rows import Rows
from gpo_lightning.problems.table import Columns

AnswerKind = Literal["maths", "number", "text"]


@dataclass(frozen=True)
class TranscriptColumns:
    """Which column holds what; a column inside another one is named with a dot.

    Args:
        question: the question, or the whole prompt as text or chat turns.
        response: the text of the response.
        messages: question and response as one list of chat turns, the last one the assistant's; for rows that have no
            response.
        answer: the gold answer.
        steps: the response as a list of steps; where there is none, every line is a step.
        id: unique name of a row.
    """

    question: str = "question"
    response: str = "response"
    messages: str = "messages"
    answer: str = "answer"
    steps: str = "steps"
    id: str | None = None


class Transcripts(LabelledSource):
    """Responses of a file, whose steps the policy's continuations value.

    Args:
        path: a JSON Lines, JSON, CSV or Parquet file, or a hub id.
        columns: which column holds what.
        kind: of the answers, which chooses the grader.
    """

    def __init__(
        self,
        path: str,
        columns: TranscriptColumns = TranscriptColumns(),
        kind: AnswerKind = "maths",
    ) -> None:
        self.path, self.columns = path, columns
        self.kind: AnswerKind = kind

    @property
    def problems(self) -> ProblemSource:
        return self._source

    def trajectories(self) -> Sequence[LabelledTrajectory]:
        return [self._trajectory(row, problem) for row, problem in zip(self._rows, self._source.heldout(), strict=True)]

    @cached_property
    def _rows(self) -> list[Row]:
        return read_rows(self.path, "train")

    @cached_property
    def _source(self) -> Rows:
        asked = [self._asked(row) for row in self._rows]
        columns = Columns(question=self.columns.question, answer=self.columns.answer, id=self.columns.id)
        return Rows(asked, heldout=asked, columns=columns, kind=self.kind, task=Path(self.path).stem)

    def _asked(self, row: Row) -> Mapping[str, Any]:
        """The row's columns with what was asked as ``prompt`` or as the column of questions."""
        names = self.columns
        row.text(names.answer)
        if self._turns(row) is not None:
            turns = cast(list[Any], row.get(names.messages))
            return {**row.columns, "prompt": turns[:-1]}
        asked = row.get("prompt") if row.get(names.question) is None else row.get(names.question)
        return {**row.columns, "prompt": asked} if isinstance(asked, list) else row.columns

    def _turns(self, row: Row) -> list[Any] | None:
        """Chat turns that end with the response, where the row has no column of responses."""
        names = self.columns
        turns = row.get(names.messages)
        if row.get(names.response) is not None or not isinstance(turns, list):
            return None
        given = cast(list[Any], turns)
        last: Any = given[-1] if given else {}
        if not isinstance(last, Mapping) or cast(Mapping[str, Any], last).get("role") != "assistant" or len(given) == 1:
            raise DataError(
                f"{row.place}: {names.messages!r} must end with the assistant's turn, after what was asked."
            )
        return given

    def _trajectory(self, row: Row, problem: Problem) -> LabelledTrajectory:
        steps = self._steps(row)
        grade = self.problems.grade(problem, "".join(steps))
        return LabelledTrajectory(problem, tuple(steps), grade.success or 0.0, error=None)

    def _steps(self, row: Row) -> list[str]:
        given = row.get(self.columns.steps)
        if isinstance(given, list):
            return [str(step) for step in cast(list[Any], given)]
        turns = self._turns(row)
        return lines(row.text(self.columns.response) if turns is None else str(turns[-1]["content"]))


def lines(text: str) -> list[str]:
    """Lines of a text with their ends; blank ones belong to the line before them.

    >>> lines("one\\n\\ntwo\\nthree")
    ['one\\n\\n', 'two\\n', 'three']
    """
    found: list[str] = []
    for line in text.splitlines(keepends=True):
        if found and not line.strip():
            found[-1] += line
        else:
            found.append(line)
    return found
