"""Legs of a list of animals, from reasoning-gym's `leg_counting`, solved an animal a line.

user       3 ducks, 2 spiders, 1 leech
solution   3 ducks: 6, so 6
           2 spiders: 16, so 22
           1 leech: 0, so 22
           Answer: 22
"""

from collections.abc import Hashable

from gpo_lightning.problems.problem import Problem
from gpo_lightning.problems.reasoning_gym import ReasoningGym
from gpo_lightning.problems.step_checked import Step, StepChecked


class LegCounting(ReasoningGym, StepChecked):
    """Knowledge and arithmetic in every step: how many legs has it, times how many, added to what was there.

    Args:
        animals: kinds of animals in a problem.
        most: most animals of a kind.
        train_size: training problems, all different.
        heldout_size: held-out problems, all different, disjoint from training ones of any seed or size.
        seed: draws the training problems.
        heldout_seed: draws the held-out problems.
        system: system turn; ``null`` leaves the chat template its own default.
    """

    def __init__(
        self,
        animals: int = 4,
        most: int = 5,
        train_size: int = 4096,
        heldout_size: int = 200,
        seed: int = 0,
        heldout_seed: int = 0,
        system: str | None = None,
    ) -> None:
        super().__init__(
            task="leg_counting",
            options={"min_animals": animals, "max_animals": animals, "min_instances": 1, "max_instances": most},
            train_size=train_size,
            heldout_size=heldout_size,
            seed=seed,
            heldout_seed=heldout_seed,
            template="{question}",
            pattern=r"if you have (.*)\?",
            system=system,
        )

    def solution(self, question: str) -> str:
        from reasoning_gym.arithmetic.leg_counting import ANIMALS  # with reasoning_gym itself, which takes seconds

        total, lines = 0, list[str]()
        for item in question.split(", "):
            count, name = item.split(" ", 1)
            legs = int(count) * ANIMALS[name if name in ANIMALS else name.removesuffix("s")]
            total += legs
            lines.append(f"{item}: {legs}, so {total}")
        return "\n".join([*lines, f"Answer: {total}"])

    def steps_of(self, problem: Problem) -> list[Step]:
        return [Step(line) for line in self.solution(str(problem.metadata["question"])).split("\n")]

    def state_key(self, problem: Problem, prefix: str) -> Hashable:
        """Animals counted, the legs so far, and the line begun."""
        *lines, begun = prefix.split("\n")
        return (len(lines), lines[-1].rpartition("so ")[2] if lines else "", begun)
