"""Responses whose first wrong step is known: what a search for critical steps is measured with."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems.modular_chains import ModularChains, parse_prompt, solution_lines, worked_chain
from gpo_lightning.problems.problem import Problem, ProblemSource


@dataclass(frozen=True, slots=True)
class LabelledTrajectory:
    """A response that somebody gave, cut into steps, with its first mistake.

    Args:
        problem: what it answers.
        steps: its text in pieces; joined, they are the response.
        outcome: its reward.
        error: index of the first wrong step; ``None`` where all are right.
    """

    problem: Problem
    steps: tuple[str, ...]
    outcome: float
    error: int | None


class LabelledSource(ABC):
    """A set of labelled responses, and the problem source that grades the policy's continuations of them."""

    @property
    @abstractmethod
    def problems(self) -> ProblemSource:
        """Whose grader judges."""

    @abstractmethod
    def trajectories(self) -> Sequence[LabelledTrajectory]:
        """The responses."""


def seeded_part(trajectories: Sequence[LabelledTrajectory], count: int | None, seed: int) -> list[LabelledTrajectory]:
    """``count`` of them in their own order, drawn by the seed; all where there are no more."""
    if count is None or count >= len(trajectories):
        return list(trajectories)
    return [trajectories[i] for i in sorted(Random(seed).sample(range(len(trajectories)), count))]


class PlantedErrors(LabelledSource):
    """Modular chains solved rightly but for one step, drawn at random; the steps after it follow from its result.

    Args:
        steps: operations in a chain.
        count: responses.
        seed: draws problems and mistakes.
        modulus: of the chains; mistakes are other numbers below it.
        sound: share of the responses that are left without a mistake.
    """

    def __init__(self, steps: int = 8, count: int = 100, seed: int = 0, modulus: int = 97, sound: float = 0.0) -> None:
        self.steps, self.count, self.seed, self.modulus, self.sound = steps, count, seed, modulus, sound
        if not 0 <= sound <= 1:
            raise ConfigError(f"PlantedErrors.sound is {sound}; it is a share and must lie in [0, 1].")

    @property
    def problems(self) -> ProblemSource:
        return ModularChains(self.steps, heldout_size=self.count, heldout_seed=self.seed, modulus=self.modulus)

    def trajectories(self) -> Sequence[LabelledTrajectory]:
        draw = Random(self.seed)
        return [self._spoilt(problem, draw) for problem in self.problems.heldout()]

    def _spoilt(self, problem: Problem, draw: Random) -> LabelledTrajectory:
        lines = solution_lines(problem.prompt or "", self.modulus)
        if self.sound and draw.random() < self.sound:
            return LabelledTrajectory(problem, (*(line + "\n" for line in lines[:-1]), lines[-1]), 1.0, None)
        error = draw.randrange(self.steps)
        right = int(lines[error].split("=")[1])
        wrong = (right + draw.randrange(1, self.modulus)) % self.modulus
        _, operations = parse_prompt(problem.prompt or "")
        rest = worked_chain(wrong, operations[error + 1 :], error + 1, self.modulus)
        spoilt = [*lines[:error], lines[error].split("=")[0] + f"={wrong}", *rest]
        outcome = self.problems.grade(problem, "\n".join(spoilt)).success or 0.0
        texts = (*(line + "\n" for line in spoilt[:-1]), spoilt[-1])
        return LabelledTrajectory(problem, texts, outcome, error)
