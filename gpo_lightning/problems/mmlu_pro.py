"""MMLU-Pro: 12,032 questions of up to ten options in 14 categories; five worked examples of each.

question   The symmetric group $S_n$ has $n!$ elements, ... Find the characteristic of the ring 2Z.
options    0, 30, 3, 10, 12, 50, 2, 100, 20, 5
answer     A
"""

from collections.abc import Sequence
from functools import cached_property
from string import ascii_uppercase

from gpo_lightning.errors import DataError
from gpo_lightning.problems.files import read_rows
from gpo_lightning.problems.mmlu import multiple_choice
from gpo_lightning.problems.problem import Problem
from gpo_lightning.problems.problem_set import ProblemSet, choose
from gpo_lightning.problems.prompt_styles import Chat, Form, Prompting
from gpo_lightning.problems.question import Question
from gpo_lightning.problems.row import Row
from gpo_lightning.rewards import Choice, Grader, Phrase

_CUE = "A: Let's think step by step."


class MMLUPro(ProblemSet):
    """A benchmark. The validation split gives five worked examples of a category.

    Args:
        path: hub id, or a local folder with ``test-*.parquet`` and ``validation-*.parquet``.
        prompting: how questions are put; five worked examples unless it says otherwise.
        categories: such as ``physics``; ``null`` takes all 14.
        force_training: train on it all the same.
    """

    usual = Form(Phrase(), "the letter of the right option", shots=5)

    def __init__(
        self,
        path: str = "TIGER-Lab/MMLU-Pro",
        prompting: Prompting = Chat(),
        categories: Sequence[str] | None = None,
        force_training: bool = False,
    ) -> None:
        super().__init__("mmlu_pro", prompting, force_training)
        self.path, self.categories = path, categories

    @property
    def grader(self) -> Grader:
        return Choice((self.form.answer,))

    def heldout(self) -> Sequence[Problem]:
        questions = self._questions("test")
        chosen = choose("categories", self.categories, sorted({question.category for question in questions}))
        return self.ask(question for question in questions if question.category in chosen)

    def examples(self, category: str) -> Sequence[Question]:
        return [question for question in self._validation if question.category == category]

    @cached_property
    def _validation(self) -> list[Question]:
        return self._questions("validation")

    def _questions(self, split: str) -> list[Question]:
        return [_question(split, row) for row in read_rows(self.path, split)]


def _question(split: str, row: Row) -> Question:
    options, answer = list(row.columns.get("options") or ()), row.text("answer")
    # One official row gives an index that does not fit its letter; the letter is the answer.
    if answer not in ascii_uppercase[: len(options)]:
        raise DataError(f"{row.place}: the answer {answer!r} is no letter of the {len(options)} options.")
    category = row.text("category")
    reasoning = row.optional("cot_content").removeprefix(_CUE).strip()
    return multiple_choice(
        Question(
            id=f"mmlu_pro/{split}/{row.text('question_id')}",
            text=row.text("question"),
            answer=answer,
            place=row.place,
            category=category,
            reasoning=reasoning or None,
            description=f"A multiple choice question about {category}.",
        ),
        [str(option) for option in options],
    )
