"""MATH: 12,500 competition problems in seven subjects and five levels; MATH-500 is a part of its test split.

problem    If $A=2+i$, $O=-4$, $P=-i$, and $S=2+4i$, find $A-O+P+S$.
level      Level 3
type       Algebra
solution   Adding real parts and imaginary parts separately, we have ... $\\boxed{8+4i}$.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain, zip_longest

from gpo_lightning.errors import ConfigError, DataError
from gpo_lightning.problems.files import read_rows
from gpo_lightning.problems.problem import Problem
from gpo_lightning.problems.problem_set import ProblemSet, choose
from gpo_lightning.problems.prompt_styles import Chat, Form, Prompting
from gpo_lightning.problems.question import Question, written
from gpo_lightning.problems.row import Row
from gpo_lightning.rewards import Boxed, Grader, Maths

SUBJECTS = (
    "Algebra",
    "Counting & Probability",
    "Geometry",
    "Intermediate Algebra",
    "Number Theory",
    "Prealgebra",
    "Precalculus",
)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_LONGEST_EXAMPLE = 500
"""Characters of a worked solution that is shown as an example."""


class MATH(ProblemSet):
    """Learns from the training split (7,500), holds the test split (5,000) out.

    Args:
        path: hub id, or a local folder with ``train.jsonl`` and ``test.jsonl``.
        prompting: how questions are put; examples come from the training split, a subject after the other.
        levels: 1 to 5; ``null`` takes all, and the two problems without a level.
        subjects: such as ``Number Theory``; ``null`` takes all seven.
    """

    usual = Form(Boxed())

    def __init__(
        self,
        path: str = "DigitalLearningGmbH/MATH-lighteval",
        prompting: Prompting = Chat(),
        levels: Sequence[int] | None = None,
        subjects: Sequence[str] | None = None,
    ) -> None:
        super().__init__("math", prompting)
        self.path, self.levels, self.subjects = path, levels, choose("subjects", subjects, SUBJECTS)
        if levels is not None and not set(levels) <= {1, 2, 3, 4, 5}:
            raise ConfigError(f"data.problems.levels is {list(levels)}; the levels of MATH are 1 to 5.")

    @property
    def grader(self) -> Grader:
        return Maths((self.form.answer,))

    def train(self) -> Sequence[Problem]:
        return self.ask(filter(self._is_chosen, self._questions("train")))

    def heldout(self) -> Sequence[Problem]:
        return self.ask(filter(self._is_chosen, self._questions("test")))

    def examples(self, category: str) -> Sequence[Question]:
        return self.worked

    @cached_property
    def worked(self) -> list[Question]:
        """Examples of all subjects, by turns."""
        return worked_examples(self._questions("train"))

    def _is_chosen(self, question: Question) -> bool:
        level = question.metadata["level"]
        return question.category in self.subjects and (self.levels is None or level in self.levels)

    def _questions(self, split: str) -> list[Question]:
        rows = read_rows(self.path, split)
        return [_question(str(row.columns.get("path") or f"{split}/{i}"), row, "type") for i, row in enumerate(rows)]


class MATH500(ProblemSet):
    """500 problems of MATH's test split; a benchmark.

    Args:
        path: hub id, or a local folder with ``test.jsonl``.
        prompting: how questions are put.
        examples_path: MATH, whose training split gives the worked examples; a hub id or a local folder.
        force_training: train on it all the same.
    """

    usual = Form(Boxed())

    def __init__(
        self,
        path: str = "HuggingFaceH4/MATH-500",
        prompting: Prompting = Chat(),
        examples_path: str = "DigitalLearningGmbH/MATH-lighteval",
        force_training: bool = False,
    ) -> None:
        super().__init__("math500", prompting, force_training)
        self.path, self.examples_path = path, examples_path

    @property
    def grader(self) -> Grader:
        return Maths((self.form.answer,))

    def heldout(self) -> Sequence[Problem]:
        rows = read_rows(self.path, "test")
        return self.ask(_question(row.text("unique_id"), row, "subject") for row in rows)

    def examples(self, category: str) -> Sequence[Question]:
        return self._math.worked

    @cached_property
    def _math(self) -> MATH:
        return MATH(self.examples_path)


def worked_examples(questions: Sequence[Question]) -> list[Question]:
    """Short ones without drawings, the subjects by turns."""
    short = [each for each in questions if len(each.reasoning or "") <= _LONGEST_EXAMPLE and "[asy]" not in each.text]
    subjects = [[each for each in short if each.category == subject] for subject in SUBJECTS]
    return [each for each in chain.from_iterable(zip_longest(*subjects)) if each is not None]


def _question(id: str, row: Row, subject: str) -> Question:
    reasoning = row.text("solution")
    found = list(_boxes(reasoning))
    if not found:
        raise DataError(f"{row.place}: the solution has no \\boxed{{...}}, which holds the answer.")
    level = re.search(r"[1-5]", row.text("level"))
    return Question(
        id=f"math/{id}",
        text=row.text("problem").strip(),
        answer=(row.optional("answer") or found[-1][2]).strip(),
        place=row.place,
        category=row.text(subject),
        reasoning=boxed_once(reasoning),
        metadata={"level": int(level[0]) if level else None},
    )


def boxed_once(text: str, answer: str | None = None) -> str:
    """Only the last box remains, which holds MATH's answer; a grader counts the first.

    With ``answer``, the last box is made to hold that.

    >>> boxed_once(r"Either \\boxed{1}, or rather \\boxed 2.")
    'Either 1, or rather \\\\boxed{2}.'
    """
    parts, position, found = list[str](), 0, list(_boxes(text))
    for index, (begin, end, content) in enumerate(found):
        last = index == len(found) - 1
        parts += [text[position:begin], written(Boxed(), answer or content) if last else content]
        position = end
    return "".join(parts) + text[position:]


def _boxes(text: str) -> Iterator[tuple[int, int, str]]:
    """Where each box begins and ends, and what is in it; a box without braces holds one character."""
    position = 0
    while match := _BOX.search(text, position):
        begin = position = match.end()
        if text[begin : begin + 1] != "{":
            position = begin + 1
            yield match.start(), position, text[begin:position]
            continue
        depth = 0
        for position in range(begin, len(text)):
            depth += {"{": 1, "}": -1}.get(text[position], 0) if text[position - 1] != "\\" else 0
            if depth == 0:
                break
        position += 1
        yield match.start(), position, text[begin + 1 : position - 1].strip()
