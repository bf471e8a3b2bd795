"""Answers that are the whole response, to the letter."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpo_lightning.rewards.grader import Grade, Grader

_LONGEST_VOTE = 200


@dataclass(frozen=True)
class Verbatim(Grader):
    """Right is the gold text alone, so that success is the probability of one text and can be calculated.

    >>> Verbatim().grade("a1\\nb0", "a1\\nb0", {}).reason, Verbatim().grade("a1\\nb0\\n", "a1\\nb0", {}).reason
    ('right', 'wrong')
    """

    def grade(self, response: str, answer: str, metadata: Mapping[str, Any]) -> Grade:
        right = response == answer
        return Grade(float(right), "right" if right else "wrong", response[:_LONGEST_VOTE])
