"""Addition by columns: every column must be right, and the slip is a forgotten carry.

A prompt names the columns of two numbers from the left; the solution adds them from the right, carry last:

    prompt     a3+7b9+2c4+8?\\n
    solution   c4+8+0=12\\nb9+2+1=12\\na3+7+1=11

Every right solution is right in every step: a control, where outcome rewards credit well.
"""

import re
from random import Random
from string import ascii_lowercase

from gpo_lightning.problems.checked import Checked, Slips, check_range, never
from gpo_lightning.problems.step_checked import Step
from gpo_lightning.rewards import Grader, Verbatim

_PROMPT = re.compile(r"((?:[a-z]\d\+\d)+)\?\n")
_COLUMN = re.compile(r"([a-z])(\d)\+(\d)")


class CarryAddition(Checked):
    """Sums of two numbers, a column a line.

    Args:
        steps: columns, 1 to 26.
        train_size: problems to train on, all different.
        heldout_size: problems to evaluate on, all different, disjoint from training ones of any seed or size.
        seed: draws the training problems.
        heldout_seed: draws the held-out problems.
    """

    task = "carry_addition"

    def __init__(
        self, steps: int = 10, train_size: int = 4096, heldout_size: int = 512, seed: int = 0, heldout_seed: int = 0
    ) -> None:
        check_range("steps", steps, 1, len(ascii_lowercase), "each column is named with a letter")
        super().__init__(steps, train_size, heldout_size, seed, heldout_seed)

    @property
    def grader(self) -> Grader:
        return Verbatim()

    def prompt(self, draw: Random) -> str:
        names = ascii_lowercase[: self.steps]
        return "".join(f"{name}{draw.randrange(10)}+{draw.randrange(10)}" for name in names) + "?\n"

    def solve(self, prompt: str, slips: Slips = never, draw: Random | None = None) -> list[Step]:
        """The author's slip is to forget a carry."""
        match = _PROMPT.fullmatch(prompt)
        if match is None:
            raise ValueError(f"not a sum by columns: {prompt!r}; expected the form 'a3+7b9+2?\\n'")
        carry, steps = 0, list[Step]()
        for name, one, other in reversed(_COLUMN.findall(match[1])):
            if carry and slips():
                carry = 0
            total = int(one) + int(other) + carry
            steps.append(Step(f"{name}{one}+{other}+{carry}={total}"))
            carry = total // 10
        return steps
