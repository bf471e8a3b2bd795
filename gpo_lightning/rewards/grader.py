"""The role of a grader: what is this response worth, and is it right?"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


def success_of(reward: float | None, success: float | None = None) -> float | None:
    """What counts as success: what was said to, else the reward where it lies in [0, 1].

    >>> success_of(0.25), success_of(2.5), success_of(2.5, success=1.0), success_of(None, success=1.0)
    (0.25, None, 1.0, None)
    """
    if reward is None:
        return None
    return reward if success is None and 0 <= reward <= 1 else success


@dataclass(frozen=True, slots=True)
class Grade:
    """A verdict.

    Advantages are made of the *reward*, which is any finite number. Values of steps, critical steps, accuracy and
    pass@k are made of the *success*, which lies between 0 (wrong) and 1 (right).

    Args:
        reward: any finite number, or ``None`` where the response cannot be judged; never silently 0.
        reason: a short stable word that is counted in the logs: ``right``, ``wrong``, ``unparsed``, ...
        answer: what the response was taken to answer, in a canonical form: responses that say the same have the same
            one, and majority votes count it. ``None`` where no answer was found.
        success: in [0, 1]; where it is not given, the reward if that lies in [0, 1].
        parts: what each of several reward functions gave; ``None`` where one did not apply.
    """

    reward: float | None
    reason: str
    answer: str | None = None
    success: float | None = field(default=None, repr=False)
    parts: Mapping[str, float | None] = field(default_factory=dict[str, float | None], repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "success", success_of(self.reward, self.success))


@dataclass(frozen=True, slots=True)
class Case:
    """One response to judge.

    Args:
        response: decoded text of what the policy generated, special tokens removed.
        answer: the gold answer.
        metadata: the problem's own metadata: every column of its row.
        prompt: text, or chat messages as dicts.
        tokens: token ids of the response.
        id: of the problem.
        said: what the response says after its thought, empty where that has no end; ``None`` where nobody told.
    """

    response: str
    answer: str
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    prompt: str | Sequence[Mapping[str, str]] = ""
    tokens: Sequence[int] = ()
    id: str = ""
    said: str | None = None

    @property
    def known(self) -> Mapping[str, Any]:
        """The metadata, with the last turn of a chat as the question where they have none."""
        if "question" in self.metadata or isinstance(self.prompt, str) or not self.prompt:
            return self.metadata
        return {**self.metadata, "question": self.prompt[-1].get("content") or ""}

    @property
    def judged(self) -> str:
        """What is searched for the answer: the response without its thought, as far as that is known."""
        return self.response if self.said is None else self.said


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
        return [self.grade(case.judged, case.answer, case.known) for case in cases]


def question_of(metadata: Mapping[str, Any]) -> str:
    """The question that was asked, where a problem's metadata tell it; graders read its boxes, variables and words."""
    return str(metadata.get("question") or "")
