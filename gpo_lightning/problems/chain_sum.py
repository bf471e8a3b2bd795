"""Sums from reasoning-gym's `basic_arithmetic`, asked barely and solved from left to right, a line a step.

user       4 + 27 - 3 + 12
solution   4 + 27 = 31
           31 - 3 = 28
           28 + 12 = 40
           Answer: 40
"""

from collections.abc import Hashable, Sequence
from random import Random
from typing import Literal

from gpo_lightning.problems.problem import Problem
from gpo_lightning.problems.reasoning_gym import ReasoningGym
from gpo_lightning.problems.step_checked import Step, StepChecked


class ChainSum(ReasoningGym, StepChecked):
    """Sums whose every step can be checked; easy enough for a model of 135 M parameters, hard enough to go wrong.

    Args:
        terms: numbers in a sum.
        digits: most digits of a number.
        operators: signs that occur.
        train_size: training problems, all different.
        heldout_size: held-out problems, all different, disjoint from training ones of any seed or size.
        seed: draws the training problems.
        heldout_seed: draws the held-out problems.
        system: system turn; ``null`` leaves the chat template its own default.
        forgotten_carries: how often a worked solution forgets a carry, and goes on from there as if nothing had
            happened. Above 0 it makes a careless teacher, whose pupil has something to learn from rewards.
    """

    def __init__(
        self,
        terms: int = 4,
        digits: int = 1,
        operators: Sequence[Literal["+", "-"]] = ("+", "-"),
        train_size: int = 4096,
        heldout_size: int = 200,
        seed: int = 0,
        heldout_seed: int = 0,
        system: str | None = None,
        forgotten_carries: float = 0.0,
    ) -> None:
        self.forgotten_carries = forgotten_carries
        options = {"min_terms": terms, "max_terms": terms, "min_digits": 1, "max_digits": digits}
        super().__init__(
            task="basic_arithmetic",
            options={**options, "operators": list(operators), "allow_parentheses": False, "allow_negation": False},
            train_size=train_size,
            heldout_size=heldout_size,
            seed=seed,
            heldout_seed=heldout_seed,
            template="{question}",
            pattern=r"^Calculate (.*)\.$",
            system=system,
        )

    def solution(self, question: str) -> str:
        return worked_sum(question, self.forgotten_carries)

    def steps_of(self, problem: Problem) -> list[Step]:
        """The lines without a forgotten carry, whatever the worked solution forgets."""
        return [Step(line) for line in worked_sum(str(problem.metadata["question"])).split("\n")]

    def state_key(self, problem: Problem, prefix: str) -> Hashable:
        """Lines written, what the last one came to, and the line begun."""
        *lines, begun = prefix.split("\n")
        return (len(lines), lines[-1].rpartition("=")[2].strip() if lines else "", begun)


def worked_sum(expression: str, forgotten_carries: float = 0.0) -> str:
    """The sum from left to right, and the answer line; the same carries are forgotten every time.

    >>> worked_sum("4 + 7 - 3")
    '4 + 7 = 11\\n11 - 3 = 8\\nAnswer: 8'
    >>> worked_sum("27 + 48 + 2", forgotten_carries=1.0)
    '27 + 48 = 65\\n65 + 2 = 67\\nAnswer: 67'
    """
    first, *rest = expression.split()
    value, lines = int(first), list[str]()
    draw = Random(expression)
    for sign, number in zip(rest[::2], rest[1::2], strict=True):
        result = value + int(number) if sign == "+" else value - int(number)
        carried = sign == "+" and value % 10 + int(number) % 10 >= 10
        if carried and draw.random() < forgotten_carries:
            result -= 10
        lines.append(f"{value} {sign} {number} = {result}")
        value = result
    return "\n".join([*lines, f"Answer: {value}"])
