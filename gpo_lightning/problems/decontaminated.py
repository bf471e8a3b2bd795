"""Training problems without those that occur in a benchmark."""

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property

from gpo_lightning.problems.problem import Problem, ProblemSource
from gpo_lightning.rewards import Grade, Grader

_LATEX_SPACE = re.compile(r"\\(?:[,;:!> ]|q?quad\b|left\b|right\b|displaystyle\b)")
_NOISE = re.compile(r"[\s$~{}'\"`;:!?]|[.,](?!\d)")


class Decontaminated(ProblemSource):
    """Drops training problems whose question is also one of a benchmark's, and counts them.

    Held-out problems of the same source that are among the training problems left are dropped too (MATH has one).

    Questions are compared as text without regard to case, blanks, punctuation and the spacing of LaTeX.

    Args:
        problems: what is to be learnt from.
        benchmarks: what is to be measured by; their held-out problems are looked for.
    """

    def __init__(self, problems: ProblemSource, benchmarks: Sequence[ProblemSource]) -> None:
        self.problems, self.benchmarks = problems, benchmarks

    @property
    def grader(self) -> Grader:
        return self.problems.grader

    @property
    def counts(self) -> Mapping[str, int]:
        _, dropped = self._divided
        learnt = len(self._heldout[1])
        return Counter(
            {**self.problems.counts, "in_a_benchmark": len(dropped), **({"in_train": learnt} if learnt else {})}
        )

    @property
    def dropped(self) -> Sequence[Problem]:
        """The training problems that occur in a benchmark."""
        return self._divided[1]

    def train(self) -> Sequence[Problem]:
        return self._divided[0]

    def heldout(self) -> Sequence[Problem]:
        return self._heldout[0]

    def grade_all(self, responses: Sequence[tuple[Problem, str]]) -> list[Grade]:
        return self.problems.grade_all(responses)

    def state_key(self, problem: Problem, prefix: str) -> Hashable | None:
        return self.problems.state_key(problem, prefix)

    def tells_states(self, problem: Problem) -> bool:
        return self.problems.tells_states(problem)

    @cached_property
    def _heldout(self) -> tuple[list[Problem], list[Problem]]:
        learnt = set(map(same_text, self.train()))
        parts: tuple[list[Problem], list[Problem]] = ([], [])
        for problem in self.problems.heldout():
            parts[same_text(problem) in learnt].append(problem)
        return parts

    @cached_property
    def _divided(self) -> tuple[list[Problem], list[Problem]]:
        known = {same_text(problem) for source in self.benchmarks for problem in source.heldout()}
        parts: tuple[list[Problem], list[Problem]] = ([], [])
        for problem in self.problems.train():
            parts[same_text(problem) in known].append(problem)
        return parts


def same_text(problem: Problem) -> str:
    """What two problems have in common that ask the same: the bare question, normalised."""
    last = problem.messages[-1].content if problem.messages else problem.prompt or ""
    return normalised(str(problem.metadata.get("question", last)))


def normalised(text: str) -> str:
    """Text without what differs between copies of a question; signs and decimal points stay, for they are its sense.

    >>> normalised("Find $x^{2} + 1$,  if\\\\, x = 3.5?") == normalised("find x^2+1 if x=3.5")
    True
    >>> normalised("What is 2 + 3?") == normalised("What is 2 - 3?")
    False
    """
    return (
        _NOISE.sub("", _LATEX_SPACE.sub(" ", text)).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").casefold()
    )
