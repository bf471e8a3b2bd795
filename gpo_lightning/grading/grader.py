"""The role of a grader: is this response right, wrong, or beyond judging?"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Grade:
    """A verdict.

    Args:
        reward: in [0, 1], or ``None`` where the response cannot be judged; never silently 0.
        reason: a short stable word that is counted in the logs: ``right``, ``wrong``, ``unparsed``, ...
    """

    reward: float | None
    reason: str


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
