"""Answers that stand after a marker at the start of a line, such as ``Answer: 42`` or ``#42``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gpo_lightning.rewards.formats import marked_answer
from gpo_lightning.rewards.grader import Grade, Grader

__all__ = ["MarkedAnswer", "marked_answer"]

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
_LONGEST_ANSWER = 200


@dataclass(frozen=True)
class MarkedAnswer(Grader):
    """Reads the rest of the first line that begins with ``marker`` and compares it with the gold answer.

    Only the first such line counts: a response cannot be right by trying several answers, nor by quoting
    the gold answer elsewhere. Numbers compare by value (``1,204`` = ``1204.0``), other answers as text
    without regard to case, outer blanks and one closing full stop. Stricter than :class:`Number` with
    :class:`Marked`: no units, and no thought is cut off, for the tasks that use it know neither.

    >>> MarkedAnswer().grade("6 * 7 = 42\\nAnswer: 42\\nAnswer: 43", "42", {})
    Grade(reward=1.0, reason='right', answer='42')
    >>> MarkedAnswer().grade("Answer: 41 or 42", "42", {}).reason
    'wrong'
    >>> MarkedAnswer().grade("It is 42.", "42", {}).reason
    'unparsed'

    Args:
        marker: the literal text that opens the answer line.
    """

    marker: str = "Answer:"

    def grade(self, response: str, answer: str, metadata: Mapping[str, Any]) -> Grade:
        given = marked_answer(response, self.marker)
        if given is None:
            return Grade(0.0, "unparsed")
        read = _canonical(given)
        right = read == _canonical(answer)
        return Grade(1.0, "right", str(read)) if right else Grade(0.0, "wrong", str(read))


def _canonical(answer: str) -> Fraction | str:
    """A number where the whole text is one (currency sign and full stop aside), else folded text."""
    text = answer.strip()[:_LONGEST_ANSWER].removesuffix(".").removeprefix("$").strip()
    if _NUMBER.fullmatch(text):
        return Fraction(text.replace(",", ""))
    return text.casefold()
