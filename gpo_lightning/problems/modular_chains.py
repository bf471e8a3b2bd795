"""Chained modular arithmetic: the built-in task whose every step can be checked without a model.

A problem lists a start value and `steps` operations, applied from left to right; nothing binds tighter.
A letter names each operation, and the worked solution opens each line with it. Three steps, modulus 97:

    prompt     37a+5b*3c-12?\\n
    solution   a37+5=42\\nb42*3=29\\nc29-12=17\\n#17
    answer     17

An answer guessed blindly is right once in 97. This file knows nothing of tokens or of who answers.
"""

import random
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems.checked import Checked, Slips, never, value_so_far
from gpo_lightning.problems.problem import Problem
from gpo_lightning.problems.step_checked import Step
from gpo_lightning.rewards import Grader, MarkedAnswer

ANSWER_MARK = "#"
_OPERATION = re.compile(r"[a-z]([-+*])(\d+)")
_PROMPT = re.compile(r"(\d+)((?:[a-z][-+*]\d+)+)\?\n")


@dataclass(frozen=True, slots=True)
class Operation:
    """One link of a chain, such as `*3`."""

    symbol: str
    operand: int

    def apply(self, value: int, modulus: int) -> int:
        match self.symbol:
            case "+":
                return (value + self.operand) % modulus
            case "-":
                return (value - self.operand) % modulus
            case "*":
                return (value * self.operand) % modulus
            case _:
                raise ValueError(f"unknown operation {self.symbol!r}; a chain is made of +, - and *")


def chain_prompt(start: int, operations: Sequence[Operation]) -> str:
    """`37` with +5, *3, -12 becomes `37a+5b*3c-12?\\n`."""
    links = (f"{name}{op.symbol}{op.operand}" for name, op in zip(ascii_lowercase, operations, strict=False))
    return f"{start}{''.join(links)}?\n"


def parse_prompt(prompt: str) -> tuple[int, list[Operation]]:
    """The inverse of `chain_prompt`."""
    match = _PROMPT.fullmatch(prompt)
    if match is None:
        raise ValueError(f"not a modular chain: {prompt!r}; expected the form '37a+5b*3?\\n'")
    return int(match[1]), [Operation(symbol, int(operand)) for symbol, operand in _OPERATION.findall(match[2])]


def solution_lines(prompt: str, modulus: int = 97) -> list[str]:
    """One line a step, then the answer line: `['a37+5=42', 'b42*3=29', 'c29-12=17', '#17']`."""
    start, operations = parse_prompt(prompt)
    return worked_chain(start, operations, 0, modulus)


def worked_chain(value: int, operations: Sequence[Operation], first: int, modulus: int) -> list[str]:
    """The lines that apply ``operations`` to ``value``, named from the ``first`` letter on, and the answer line."""
    lines: list[str] = []
    for name, op in zip(ascii_lowercase[first:], operations, strict=False):
        result = op.apply(value, modulus)
        lines.append(f"{name}{value}{op.symbol}{op.operand}={result}")
        value = result
    return [*lines, f"{ANSWER_MARK}{value}"]


def worked_solution(prompt: str, modulus: int = 97) -> str:
    """The only correct response.

    >>> worked_solution("37a+5b*3?\\n")
    'a37+5=42\\nb42*3=29\\n#29'
    """
    return "\n".join(solution_lines(prompt, modulus))


def check_steps(prompt: str, response: str, modulus: int = 97) -> int | None:
    """Index of the first line of `response` that is wrong, missing or superfluous; `None` when all are right.

    The answer line counts as the last step: a chain of k operations has the steps 0 to k.

    >>> check_steps("37a+5b*3?\\n", "a37+5=42\\nb42*3=30\\n#30")
    1
    """
    expected, written = solution_lines(prompt, modulus), response.split("\n")
    for index, line in enumerate(expected):
        if index >= len(written) or written[index] != line:
            return index
    return None if len(written) == len(expected) else len(expected)


class ModularChains(Checked):
    """Random chains; the same options give the same problems in the same order.

    Args:
        steps: Operations in a chain, 1 to 26.
        train_size: Problems to train on, all different.
        heldout_size: Problems to evaluate on, all different, and never among the training problems of any seed or size.
        seed: Draws the training problems.
        heldout_seed: Draws the held-out problems; apart from `seed`, so that runs compare on the same ones.
        modulus: All values live in 0..modulus-1. The embedded policy knows numbers up to 96.
        largest_addend: `+` and `-` take operands from 1 to this.
        largest_factor: `*` takes operands from 2 to this.
    """

    task = "modular_chains"
    answer_mark = ANSWER_MARK

    def __init__(
        self,
        steps: int = 8,
        train_size: int = 4096,
        heldout_size: int = 512,
        seed: int = 0,
        heldout_seed: int = 0,
        modulus: int = 97,
        largest_addend: int = 9,
        largest_factor: int = 5,
    ) -> None:
        if not 1 <= steps <= len(ascii_lowercase):
            raise ConfigError(f"steps={steps}: a chain has 1 to {len(ascii_lowercase)} operations, one letter each")
        super().__init__(steps, train_size, heldout_size, seed, heldout_seed)
        self.modulus = modulus
        self._operations = [Operation(symbol, n) for symbol in "+-" for n in range(1, largest_addend + 1)]
        self._factors = [Operation("*", n) for n in range(2, largest_factor + 1)]

    @property
    def grader(self) -> Grader:
        return MarkedAnswer(ANSWER_MARK)

    def state_key(self, problem: Problem, prefix: str) -> Hashable:
        return value_so_far(prefix)

    def prompt(self, draw: random.Random) -> str:
        kinds = (self._operations, self._factors)
        operations = [draw.choice(draw.choices(kinds, weights=(2, 1))[0]) for _ in range(self.steps)]
        return chain_prompt(draw.randrange(self.modulus), operations)

    def solve(self, prompt: str, slips: Slips = never, draw: random.Random | None = None) -> list[Step]:
        """The author's slip is to add where the chain subtracts or multiplies."""
        start, operations = parse_prompt(prompt)
        read = [Operation("+", op.operand) if op.symbol != "+" and slips() else op for op in operations]
        return [Step(line) for line in worked_chain(start, read, 0, self.modulus)]
