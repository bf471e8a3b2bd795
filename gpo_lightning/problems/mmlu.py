"""MMLU: 14,042 questions of four options in 57 subjects.

question   Find all c in Z_3 such that Z_3[x]/(x^2 + c) is a field.
options    0, 1, 2, 3
answer     1, an index: the option 1, hence the letter B
"""

from collections.abc import Sequence
from functools import cached_property
from string import ascii_uppercase

from gpo_lightning.errors import DataError
from gpo_lightning.problems.files import read_rows
from gpo_lightning.problems.problem import Problem
from gpo_lightning.problems.problem_set import ProblemSet, choose
from gpo_lightning.problems.prompt_styles import Chat, Form, Prompting
from gpo_lightning.problems.question import Question
from gpo_lightning.problems.row import Row
from gpo_lightning.rewards import Choice, Grader, Phrase

_LOCAL_OPTIONS = ("choice0", "choice1", "choice2", "choice3")


class MMLU(ProblemSet):
    """A benchmark; a table's categories are the subjects. The development split gives five examples of a subject.

    The examples say the answer and no more: with shots, a model answers at once; without, it thinks first.

    Args:
        path: hub id, or a local folder with ``test/SUBJECT_test.csv`` and ``dev/SUBJECT_dev.csv``.
        prompting: how questions are put.
        subjects: such as ``abstract_algebra``; ``null`` takes all 57.
        force_training: train on it all the same.
    """

    usual = Form(Phrase(), "the letter of the right option")

    def __init__(
        self,
        path: str = "cais/mmlu",
        prompting: Prompting = Chat(),
        subjects: Sequence[str] | None = None,
        force_training: bool = False,
    ) -> None:
        super().__init__("mmlu", prompting, force_training)
        self.path, self.subjects = path, subjects

    @property
    def grader(self) -> Grader:
        return Choice((self.form.answer,))

    def heldout(self) -> Sequence[Problem]:
        questions = self._questions("test")
        chosen = choose("subjects", self.subjects, sorted({question.category for question in questions}))
        return self.ask(question for question in questions if question.category in chosen)

    def examples(self, category: str) -> Sequence[Question]:
        return [question for question in self._development if question.category == category]

    @cached_property
    def _development(self) -> list[Question]:
        return self._questions("dev")

    def _questions(self, split: str) -> list[Question]:
        rows = read_rows(self.path, split, subset="all")
        return [_question(split, number, row) for number, row in enumerate(rows)]


def _question(split: str, number: int, row: Row) -> Question:
    subject = row.optional("subject") or row.file.removesuffix(f"_{split}")
    options = row.columns.get("choices") or [row.text(column) for column in _LOCAL_OPTIONS]
    index = row.text("answer")
    if index not in ("0", "1", "2", "3"):
        raise DataError(f"{row.place}: the answer {index!r} is no index of an option, 0 to 3.")
    return multiple_choice(
        Question(
            id=f"mmlu/{split}/{subject}/{number}",
            text=row.text("question"),
            answer=ascii_uppercase[int(index)],
            place=row.place,
            category=subject,
            reasoning="" if split == "dev" else None,
            description=f"A multiple choice question about {subject.replace('_', ' ')}." if subject else "",
        ),
        [str(option) for option in options],
    )


def multiple_choice(question: Question, options: Sequence[str]) -> Question:
    """The question with its options under it, a letter each; the grader reads both letters and texts."""
    listed = "\n".join(f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False))
    return Question(
        id=question.id,
        text=f"{question.text.strip()}\n{listed}",
        answer=question.answer,
        place=question.place,
        category=question.category,
        reasoning=question.reasoning,
        description=question.description,
        metadata={**question.metadata, "options": list(options)},
    )
