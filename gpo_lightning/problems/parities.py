"""Running parities: every step is a toss of a coin until the rule is learnt, so that success is 2^-length.

A prompt names numbers; each line of the solution says whether the sum so far is odd:

    prompt     a37b5c12?\\n
    solution   a1\\nb0\\nc0

Only a solution whose every line is right counts, since the last line alone is right every other time.
"""

import re
from random import Random
from string import ascii_lowercase

from gpo_lightning.problems.checked import Checked, Slips, check_range, never
from gpo_lightning.problems.step_checked import Step
from gpo_lightning.rewards import Grader, Verbatim

_PROMPT = re.compile(r"((?:[a-z]\d+)+)\?\n")
_NUMBER = re.compile(r"([a-z])(\d+)")


class Parities(Checked):
    """Running parities of named numbers.

    Args:
        steps: numbers, 1 to 26.
        train_size: problems to train on, all different.
        heldout_size: problems to evaluate on, all different, disjoint from training ones of any seed or size.
        seed: draws the training problems.
        heldout_seed: draws the held-out problems.
        largest: numbers are 0 to this; the embedded policy knows numbers up to 96, and learns the parity of each apart.
    """

    task = "parities"

    def __init__(
        self,
        steps: int = 8,
        train_size: int = 4096,
        heldout_size: int = 512,
        seed: int = 0,
        heldout_seed: int = 0,
        largest: int = 9,
    ) -> None:
        check_range("steps", steps, 1, len(ascii_lowercase), "each number is named with a letter")
        super().__init__(steps, train_size, heldout_size, seed, heldout_seed)
        self.largest = largest

    @property
    def grader(self) -> Grader:
        return Verbatim()

    def prompt(self, draw: Random) -> str:
        names = ascii_lowercase[: self.steps]
        return "".join(f"{name}{draw.randrange(self.largest + 1)}" for name in names) + "?\n"

    def solve(self, prompt: str, slips: Slips = never, draw: Random | None = None) -> list[Step]:
        """The author's slip is to write the other parity."""
        match = _PROMPT.fullmatch(prompt)
        if match is None:
            raise ValueError(f"not a chain of parities: {prompt!r}; expected the form 'a37b5?\\n'")
        parity, steps = 0, list[Step]()
        for name, number in _NUMBER.findall(match[1]):
            parity = (parity + int(number) + slips()) % 2
            steps.append(Step(f"{name}{parity}"))
        return steps
