"""A ledger of which few lines count: long solutions that a handful of steps decide.

A prompt gives an opening balance and named lines; a letter with an operation is an entry, a letter alone is a note. The
solution has a line for each, which carries the balance on; after that a note says what it likes. Four lines, two of
them entries, modulus 97:

    prompt     37a*5bc-12d?\\n
    solution   a37*5=88\\nb88-61-8\\nc88-12=76\\nd76-4-90\\n#76
    answer     76

A group of responses that differ in every note tells little of which entry went wrong: outcome rewards credit all lines.
"""

import re
from collections.abc import Hashable
from random import Random
from string import ascii_lowercase

from gpo_lightning.problems.checked import Checked, Slips, check_range, never, value_so_far
from gpo_lightning.problems.modular_chains import ANSWER_MARK, Operation
from gpo_lightning.problems.problem import Problem
from gpo_lightning.problems.step_checked import Step
from gpo_lightning.rewards import Grader, MarkedAnswer

_PROMPT = re.compile(r"(\d+)((?:[a-z](?:[-*]\d+)?)+)\?\n")
_LINE = re.compile(r"([a-z])(?:([-*])(\d+))?")
_OPERATIONS = [Operation("-", n) for n in range(1, 10)] + [Operation("*", n) for n in range(2, 6)]


class Ledger(Checked):
    """Ledgers of which few lines count.

    Args:
        steps: lines, 1 to 26.
        entries: lines that count; the others are notes.
        late: put all entries at the end, so that everything is decided after a long stretch that does not matter.
        train_size: problems to train on, all different.
        heldout_size: problems to evaluate on, all different, disjoint from training ones of any seed or size.
        seed: draws the training problems.
        heldout_seed: draws the held-out problems.
        modulus: balances live in 0..modulus-1. The embedded policy knows numbers up to 96.
    """

    task = "ledger"
    answer_mark = ANSWER_MARK

    def __init__(
        self,
        steps: int = 16,
        entries: int = 3,
        late: bool = False,
        train_size: int = 4096,
        heldout_size: int = 512,
        seed: int = 0,
        heldout_seed: int = 0,
        modulus: int = 97,
    ) -> None:
        check_range("steps", steps, 1, len(ascii_lowercase), "a ledger names each line with a letter")
        check_range("entries", entries, 1, steps, "entries are lines of the ledger")
        super().__init__(steps, train_size, heldout_size, seed, heldout_seed)
        self.entries, self.late, self.modulus = entries, late, modulus

    @property
    def grader(self) -> Grader:
        return MarkedAnswer(ANSWER_MARK)

    def state_key(self, problem: Problem, prefix: str) -> Hashable:
        return value_so_far(prefix)

    def prompt(self, draw: Random) -> str:
        first = self.steps - self.entries
        counting = range(first, self.steps) if self.late else draw.sample(range(self.steps), self.entries)
        operations = {line: draw.choice(_OPERATIONS) for line in sorted(counting)}
        lines = (
            f"{name}{op.symbol}{op.operand}" if (op := operations.get(line)) else name
            for line, name in enumerate(ascii_lowercase[: self.steps])
        )
        return f"{draw.randrange(self.modulus)}{''.join(lines)}?\n"

    def solve(self, prompt: str, slips: Slips = never, draw: Random | None = None) -> list[Step]:
        """The author's slip is to add where an entry subtracts or multiplies."""
        match = _PROMPT.fullmatch(prompt)
        if match is None:
            raise ValueError(f"not a ledger: {prompt!r}; expected the form '37a*5bc-12d?\\n'")
        draw = draw or Random(prompt)
        balance, steps = int(match[1]), list[Step]()
        for name, symbol, operand in _LINE.findall(match[2]):
            if symbol:
                operation = Operation("+" if slips() else symbol, int(operand))
                result = operation.apply(balance, self.modulus)
                steps.append(Step(f"{name}{balance}{operation.symbol}{operand}={result}"))
                balance = result
            else:
                steps.append(Step(f"{name}{balance}", f"-{draw.randrange(97)}-{draw.randrange(97)}"))
        return [*steps, Step(f"{ANSWER_MARK}{balance}")]
