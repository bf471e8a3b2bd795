"""Answers that are one number, however it is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gpo_lightning.errors import ConfigError
from gpo_lightning.rewards.formats import AnswerFormat, Boxed, Marked, Phrase, first_answer, some
from gpo_lightning.rewards.grader import Grade, Grader, question_of
from gpo_lightning.rewards.notation import read_notation
from gpo_lightning.rewards.quantity import read_quantity
from gpo_lightning.rewards.text import GOLD_UNREADABLE, UNPARSED, plain, verdict


@dataclass(frozen=True)
class Number(Grader):
    r"""Compares by value: ``1,204`` = ``$1204.00`` = ``1204 apples``, ``3/4`` = ``\frac{3}{4}`` = ``0.75`` = ``75%``.

    An answer that names no number, or more than one, is wrong. Where only one side has a percent sign or a word such
    as *million*, it may be a unit (the question asked for percent) as well as a factor.

    >>> Number().grade("#### 18 dollars", "18", {})
    Grade(reward=1.0, reason='right', answer='18')
    >>> Number().grade("The answer is 17 or 18.", "18", {}).reason
    'wrong'

    Args:
        formats: where the answer may stand; the one finished first counts.
        tolerance: largest difference that still counts as equal.
    """

    formats: Sequence[AnswerFormat] = (Boxed(), Marked("####"), Phrase())
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "formats", some(self.formats))
        if not 0 <= self.tolerance < float("inf"):
            raise ConfigError(f"tolerance of Number is {self.tolerance}; it must be 0 or a positive number.")

    def grade(self, response: str, answer: str, metadata: Mapping[str, Any]) -> Grade:
        given = first_answer(response, self.formats, question_of(metadata))
        return UNPARSED if given is None else same_number(given, answer, self.tolerance, question_of(metadata))


def same_number(given: str, gold: str, tolerance: float = 0.0, question: str = "") -> Grade:
    """Whether two answers are the same number; a gold answer that is none judges nothing."""
    wanted, read = read_quantity(gold, question, gold), read_quantity(given, question, gold)
    parts = read_notation(gold) if wanted is None else None
    if parts is not None:
        return verdict(parts.equals(read_notation(given)), plain(given))
    if wanted is None:
        return GOLD_UNREADABLE
    if read is None:
        return verdict(False, plain(given))
    right = read.equals(wanted, Fraction(str(tolerance)), question)
    return verdict(right, str(wanted if right else read))
