"""Problems whose one right solution is known, line by line: success needs no sampling, mistakes need no model."""

from abc import abstractmethod
from dataclasses import dataclass

from gpo_lightning.problems.problem import Problem, ProblemSource


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a solution.

    Args:
        text: what the outcome depends on, without the newline.
        remark: what follows it on the line and does not matter; where there is one, any other will do.
    """

    text: str
    remark: str = ""

    @property
    def line(self) -> str:
        return self.text + self.remark

    def accepts(self, line: str) -> bool:
        """Whether a line takes this step rightly."""
        if not self.remark:
            return line == self.text
        # "b4" must not pass for "b42": the remark begins with a sign of its own.
        return line.startswith(self.text + self.remark[0])


class StepChecked(ProblemSource):
    """Says which line of a response is the first wrong one.

    Exact success (:func:`.exact_success`), oracles and :class:`.FirstMistake` are made for sources of this kind.
    """

    @abstractmethod
    def steps_of(self, problem: Problem) -> list[Step]:
        """The lines of the right solution."""

    def first_wrong(self, problem: Problem, response: str) -> int | None:
        """Index of the first line that is wrong, missing or superfluous; ``None`` when all are right."""
        expected, written = self.steps_of(problem), response.split("\n")
        for index, step in enumerate(expected):
            if index >= len(written) or not step.accepts(written[index]):
                return index
        return None if len(written) == len(expected) else len(expected)
