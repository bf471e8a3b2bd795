"""The role of a grader: is this response right, wrong, or beyond judging?"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Grade:
    """A verdict.

    Args:
        reward: in [0, 1], or ``None`` where the response cannot be judged; never silently 0.
        reason: a short stable word that is counted in the logs: ``right``, ``wrong``, ``unparsed``, ...
        answer: what the response was taken to answer, in a canonical form: responses that say the same have the same
            one, and majority votes count it. ``None`` where no answer was found.
    """

    reward: float | None
    reason: str
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One response to judge.

    Args:
        response: decoded text of what the policy generated, special tokens removed.
        answer: the gold answer.
        metadata: the problem's own metadata.
    """

    response: str
    answer: str
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Grader(ABC):
    """Judges one response. Must neither raise on any text nor run without bound."""

    @abstractmethod
    def grade(self, response: str, answer: str, metadata: Mapping[str, Any]) -> Grade:
        """Verdict on a response.

        Args:
            response: decoded text of what the policy generated, special tokens removed.
            answer: the gold answer.
            metadata: the problem's own metadata.
        """

    def grade_all(self, cases: Sequence[Case]) -> list[Grade]:
        """Verdicts in the order of ``cases``. Graders with processes of their own judge many at once."""
        return [self.grade(case.response, case.answer, case.metadata) for case in cases]
