"""Your own problems from a file, or from a data set on the hub, with the names of the columns given in YAML.

{"question": "What is 17 + 25?", "answer": "42", "solution": "17 + 25 = 42", "topic": "sums"}
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from gpo_lightning.errors import ConfigError, DataError
from gpo_lightning.problems.files import read_rows
from gpo_lightning.problems.mmlu import multiple_choice
from gpo_lightning.problems.problem import Problem
from gpo_lightning.problems.problem_set import ProblemSet
from gpo_lightning.problems.prompt_styles import Chat, Form, Prompting
from gpo_lightning.problems.question import Question, written
from gpo_lightning.problems.row import Row, written_value
from gpo_lightning.problems.split import is_heldout
from gpo_lightning.rewards import Boxed, Case, Choice, Grader, Maths, Number, Phrase, Text

_log = logging.getLogger(__name__)
_MOST_NAMED = 5


@dataclass(frozen=True)
class Columns:
    """Which column holds what; a column inside another one is named with a dot, ``reward_model.ground_truth``.

    Args:
        question: the question, or the whole prompt as a list of chat turns with role and content.
        answer: the gold answer; for ``kind: choice``, a letter.
        solution: worked solution; ``null`` where there is none.
        id: unique name of a row; ``null`` numbers the rows.
        category: what tables of results group by; ``null`` where there is none.
        options: list of options, for ``kind: choice``.
    """

    question: str = "question"
    answer: str = "answer"
    solution: str | None = None
    id: str | None = None
    category: str | None = None
    options: str | None = None


class Table(ProblemSet):
    """Problems of a JSON Lines, JSON, CSV, TSV or Parquet file, of a folder of them, or of a data set on the hub.

    A row whose gold answer the grader cannot read or does not find right when it is given as the answer, is left out
    and counted.

    Args:
        train: file, folder or hub id of the problems to learn from; ``null`` for a benchmark.
        heldout: of the problems to evaluate on; ``null`` holds out one problem in ten of ``train``, by its text.
        columns: which column holds what.
        kind: of the answers, which chooses the grader.
        task: name under which results are grouped.
        prompting: how questions are put; examples are the training rows that have a solution.
    """

    def __init__(
        self,
        train: str | None = None,
        heldout: str | None = None,
        columns: Columns = Columns(),
        kind: Literal["maths", "number", "text", "choice"] = "maths",
        task: str = "table",
        prompting: Prompting = Chat(),
    ) -> None:
        super().__init__(task, prompting)
        self.paths: dict[str, str | None] = {"train": train, "test": heldout}
        self.columns, self.kind = columns, kind
        self._unreadable: dict[str, int] = {}
        if train is None and heldout is None:
            raise ConfigError("data.problems: Table needs a file; set train, heldout or both.")
        if (kind == "choice") != (columns.options is not None):
            raise ConfigError("data.problems.columns.options is given for kind=choice, and for no other kind.")

    @property
    def usual(self) -> Form:  # pyright: ignore[reportIncompatibleVariableOverride]  # depends on the kind of answer
        choice = self.kind == "choice"
        return Form(Phrase(), "the letter of the right option") if choice else Form(Boxed())

    @property
    def grader(self) -> Grader:
        graders = {"maths": Maths, "number": Number, "text": Text, "choice": Choice}
        return graders[self.kind]((self.form.answer,))

    @property
    def counts(self) -> Mapping[str, int]:
        return Counter(unreadable_gold=sum(self._unreadable.values()))

    def train(self) -> Sequence[Problem]:
        if self.paths["train"] is None:
            raise ConfigError("data.problems.train is null: there is nothing to learn from. Name a file.")
        questions = self._questions("train")
        if self.paths["test"] is None:
            questions = [question for question in questions if not is_heldout(question.text)]
        return self._readable("train", questions)

    def heldout(self) -> Sequence[Problem]:
        if self.paths["test"] is not None:
            return self._readable("test", self._questions("test"))
        questions = [question for question in self._questions("train") if is_heldout(question.text)]
        if not questions:
            raise DataError(
                f"{self.paths['train']}: too few rows to hold one in ten out; name a file in data.problems.heldout."
            )
        return self._readable("test", questions)

    def examples(self, category: str) -> Sequence[Question]:
        return self._worked

    @cached_property
    def _worked(self) -> list[Question]:
        if self.paths["train"] is None:
            return []
        held = self.paths["test"] is None
        questions = [each for each in self._questions("train") if each.reasoning is not None]
        return [each for each in questions if not (held and is_heldout(each.text))]

    def _questions(self, split: str) -> list[Question]:
        rows = read_rows(str(self.paths[split]), split)
        return [self._question(split, number, row) for number, row in enumerate(rows)]

    def _question(self, split: str, number: int, row: Row) -> Question:
        names = self.columns
        turns = row.turns(names.question)
        question = Question(
            id=row.text(names.id) if names.id else f"{self.task}/{split}/{number}",
            text=turns[-1].content.strip() if turns else row.text(names.question).strip(),
            answer=row.text(names.answer).strip(),
            place=row.place,
            category=row.text(names.category) if names.category else self.task,
            reasoning=row.optional(names.solution).strip() or None if names.solution else None,
            turns=turns,
        )
        if names.options is None:
            return question
        options = row.get(names.options)
        texts = [written_value(option) for option in options] if isinstance(options, list) else []
        if not texts or None in texts:
            raise DataError(f"{row.place}: column {names.options!r} is no list of options, each a text or a number.")
        return multiple_choice(question, [str(text) for text in texts])

    def _readable(self, split: str, questions: Sequence[Question]) -> list[Problem]:
        problems = self.ask(questions)
        answer = self.form.answer
        cases = [Case(written(answer, each.answer), each.answer, each.metadata) for each in problems]
        right = [grade.success == 1.0 for grade in self.grader.grade_all(cases)]
        bad = [question for question, fine in zip(questions, right, strict=True) if not fine]
        for question in bad[:_MOST_NAMED]:
            _log.warning("%s: left out: the grader cannot read the gold answer %r.", question.place, question.answer)
        self._unreadable[split] = len(bad)
        if len(bad) == len(problems):
            raise DataError(f"{bad[0].place}: the grader for kind={self.kind} can read no gold answer of this file.")
        return [problem for problem, fine in zip(problems, right, strict=True) if fine]
