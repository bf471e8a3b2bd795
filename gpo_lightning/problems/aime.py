"""AIME: the 30 problems of a year's two papers; every answer is a whole number from 0 to 999.

problem    Find the sum of all integer bases $b>9$ for which $17_{b}$ is a divisor of $97_{b}$.
answer     70
"""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

from gpo_lightning.errors import DataError
from gpo_lightning.problems.competition_math import MATH, boxed_once
from gpo_lightning.problems.files import read_rows
from gpo_lightning.problems.problem import Problem
from gpo_lightning.problems.problem_set import ProblemSet
from gpo_lightning.problems.prompt_styles import Chat, Form, Prompting
from gpo_lightning.problems.question import Question
from gpo_lightning.problems.row import Row
from gpo_lightning.rewards import Boxed, Grader, Number

_ON_THE_HUB = {2024: ("HuggingFaceH4/aime_2024", "train"), 2025: ("math-ai/aime25", "test")}


class AIME(ProblemSet):
    """A benchmark; the texts are copyright MAA.

    Args:
        year: of the papers.
        path: hub id, or a local folder with ``test.jsonl``; ``null`` takes the year's data set on the hub.
        prompting: how questions are put.
        examples_path: MATH, whose training split gives the worked examples; a hub id or a local folder.
        force_training: train on it all the same.
    """

    usual = Form(Boxed(), "the final answer, a whole number from 0 to 999,")

    def __init__(
        self,
        year: Literal[2024, 2025] = 2025,
        path: str | None = None,
        prompting: Prompting = Chat(),
        examples_path: str = "DigitalLearningGmbH/MATH-lighteval",
        force_training: bool = False,
    ) -> None:
        super().__init__(f"aime{year}", prompting, force_training)
        self.year, self.path, self.examples_path = year, path, examples_path

    @property
    def grader(self) -> Grader:
        return Number((self.form.answer,))

    def heldout(self) -> Sequence[Problem]:
        path, split = _ON_THE_HUB[self.year]
        rows = read_rows(self.path or path, "test", hub_split=split)
        return self.ask(self._question(number, row) for number, row in enumerate(rows))

    def examples(self, category: str) -> Sequence[Question]:
        return self._math.worked

    @cached_property
    def _math(self) -> MATH:
        return MATH(self.examples_path)

    def _question(self, number: int, row: Row) -> Question:
        text = row.text("problem" if "problem" in row.columns else "question")
        solution, answer = row.optional("solution").strip(), _whole_number(row)
        return Question(
            id=f"{self.task}/{row.columns.get('id', number)}",
            text=text.strip(),
            answer=answer,
            place=row.place,
            category=self.task,
            # Some copies repeat the answer there; others box it in brackets.
            reasoning=boxed_once(solution, answer) if len(solution) > len("999") else None,
        )


def _whole_number(row: Row) -> str:
    """``025`` is 25, and one copy has ``336^\\circ``."""
    match = re.fullmatch(r"0*(\d{1,3})(?:\^\{?\\circ\}?)?", row.text("answer").strip().strip("$"))
    if match is None:
        raise DataError(f"{row.place}: the answer {row.text('answer')!r} is no whole number from 0 to 999.")
    return match[1]
