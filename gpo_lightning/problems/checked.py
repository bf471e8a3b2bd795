"""Generated problems that are drawn, solved and slipped on line by line: what studies of critical steps are made on.

A source of this kind writes prompts, solves them line by line, and says which lines decide the outcome. The same
solver plays a careless author who slips now and then and goes on from the slip as if nothing had happened: warm starts
learn from such an author, so that a policy can write solutions but makes mistakes at steps one can point to.
"""

import re
from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from copy import copy
from random import Random
from typing import ClassVar, Self

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems.problem import Problem
from gpo_lightning.problems.split import is_heldout
from gpo_lightning.problems.step_checked import Step, StepChecked

_MOST_DRAWS = 200
_NUMBER = re.compile(r"\d+")

Slips = Callable[[], bool]
"""Asked once at every chance of a mistake: is one made here?"""


def never() -> bool:
    """The author who makes no mistake."""
    return False


class Checked(StepChecked):
    """Random problems with exact step checks; the same options give the same problems in the same order.

    Args:
        steps: length of a solution, in the unit of the task.
        train_size: problems to train on, all different.
        heldout_size: problems to evaluate on, all different, and never among the training problems of any seed or size.
        seed: draws the training problems.
        heldout_seed: draws the held-out problems; apart from ``seed``, so that runs compare on the same ones.
    """

    task: ClassVar[str]
    answer_mark: ClassVar[str] = ""
    """What opens the answer line; without one, only the whole solution is an answer."""

    def __init__(
        self, steps: int, train_size: int = 4096, heldout_size: int = 512, seed: int = 0, heldout_seed: int = 0
    ) -> None:
        self.steps, self.train_size, self.heldout_size = steps, train_size, heldout_size
        self.seed, self.heldout_seed = seed, heldout_seed

    @abstractmethod
    def prompt(self, draw: Random) -> str:
        """A random problem's text."""

    @abstractmethod
    def solve(self, prompt: str, slips: Slips = never, draw: Random | None = None) -> list[Step]:
        """The solution, line by line.

        Args:
            prompt: as :meth:`prompt` writes it.
            slips: asked once at every chance of a mistake.
            draw: writes what does not matter; ``None`` writes them the same way every time.
        """

    def resized(self, steps: int) -> Self:
        """The same task with solutions of another length."""
        other = copy(self)
        other.steps = steps
        return other

    def chances(self, prompt: str) -> int:
        """How often a careless author could slip in the solution."""
        asked = 0

        def count() -> bool:
            nonlocal asked
            asked += 1
            return False

        self.solve(prompt, count)
        return asked

    def steps_of(self, problem: Problem) -> list[Step]:
        """The lines of the reference solution."""
        return self.solve(str(problem.prompt))

    def train(self) -> Sequence[Problem]:
        return self._draw(self.train_size, self.seed, heldout=False)

    def heldout(self) -> Sequence[Problem]:
        return self._draw(self.heldout_size, self.heldout_seed, heldout=True)

    def training_prompt(self, draw: Random) -> str:
        """A random prompt that is not held out."""
        return next(prompt for _ in range(_MOST_DRAWS) if not is_heldout(prompt := self.prompt(draw)))

    def problem(self, prompt: str) -> Problem:
        """The problem that a prompt puts, with its solution."""
        solution = "\n".join(step.line for step in self.solve(prompt))
        return Problem(
            id=f"{self.task}/{prompt.strip()}",
            task=self.task,
            answer=solution.rpartition(self.answer_mark)[2] if self.answer_mark else solution,
            prompt=prompt,
            solution=solution,
            metadata={"steps": self.steps},
        )

    def _draw(self, size: int, seed: int, *, heldout: bool) -> list[Problem]:
        draw = Random(f"{seed}/{heldout}/{self.steps}")
        prompts: dict[str, None] = {}
        for _ in range(_MOST_DRAWS * size):
            if len(prompts) == size:
                break
            prompt = self.prompt(draw)
            if is_heldout(prompt) == heldout:
                prompts[prompt] = None
        if len(prompts) < size:
            raise ConfigError(
                f"data.problems: {type(self).__name__} has not {size} different problems of steps={self.steps}; "
                "ask for fewer, or for longer ones."
            )
        return [self.problem(prompt) for prompt in prompts]


def check_range(option: str, value: int, least: int, most: int, why: str) -> None:
    """Refuse an option of a task that is out of range.

    Raises:
        ConfigError: naming the option.
    """
    if not least <= value <= most:
        raise ConfigError(f"data.problems: {option}={value}; it must be {least} to {most}: {why}.")


def value_so_far(prefix: str) -> Hashable:
    """The state of a response that carries a number from line to line: lines written, the number, and the line begun.

    The number is what follows the last ``=`` of a line, or else the first number on it. Two prefixes with the same
    state have the same future, however they came to it, and whether or not it is right.

    >>> value_so_far("a37+5=42\\nb42-8-15\\nc42*") == value_so_far("a40+2=42\\nb42-1-70\\nc42*")
    True
    """
    *lines, begun = prefix.split("\n")
    last = lines[-1] if lines else ""
    number = _NUMBER.search(last.rpartition("=")[2])
    return (len(lines), number[0] if number else last, begun)
