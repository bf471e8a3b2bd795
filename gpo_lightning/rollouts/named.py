"""Starts before the step that the policy itself names as its first mistake (SRPO, arXiv 2605.25507)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems import Message, Problem
from gpo_lightning.rollouts.starts import Attempts, StartStates
from gpo_lightning.rollouts.tree import Prefix, Sample

_NAMED = re.compile(r"step (\d{1,4})\.?", re.IGNORECASE)
_ASKED = """The answer above is wrong. These are its steps:

{steps}

Which is the first wrong step? Name it by its number alone, on a last line like this: Step 2"""


@dataclass(frozen=True)
class NamedMistake(StartStates):
    """Before the first wrong step of a failure, as the policy names it when it is asked.

    One failure of each problem is shown to the policy, step by step. The tokens of its answer count as probes. The
    failure stays in the group that it was drawn in, whose baseline is that of the base method. Where the last line of
    the answer is not ``Step N``, or there is no such step, the group stays at the prompt (counted as
    ``no_step_named``); where the first step is named, the prompt is the start (``first_step_named``).

    Args:
        max_tokens: of the answer, thoughts included.
    """

    max_tokens: int = 64

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError(f"data.starts (NamedMistake): max_tokens is {self.max_tokens}; at least 1 is needed.")

    @property
    def answer_tokens(self) -> int:
        return self.max_tokens

    def question(self, attempts: Attempts, draw: Random) -> Problem | None:
        failure = self._failure(attempts, draw)
        if failure is None:
            return None
        steps = attempts.steps(failure)
        if len(steps) < 2:
            attempts.counts["no_start_inside"] += 1
            return None
        return asking(attempts.tree.problem, steps)

    def prefixes(self, attempts: Attempts, draw: Random) -> list[Prefix]:
        failure = self._failure(attempts, draw)
        if failure is None or attempts.answer is None:
            return []
        boundaries = attempts.boundaries(failure)
        step = step_named(attempts.answer, len(boundaries) - 1)
        if step is None:
            attempts.counts["no_step_named"] += 1
        elif step == 0:
            attempts.counts["first_step_named"] += 1
        return [failure.tokens[: boundaries[step]]] if step else []

    def _failure(self, attempts: Attempts, draw: Random) -> Sample | None:
        failures = attempts.responses(right=False)
        return draw.choice(failures) if failures else None


def asking(problem: Problem, steps: Sequence[str]) -> Problem:
    """The question for the first wrong step, after the problem and a response to it.

    >>> print(asking(Problem("p", "sums", "4", prompt="2 + 2?"), ("That is\\n", "5.")).prompt)
    2 + 2?
    That is
    5.
    <BLANKLINE>
    The answer above is wrong. These are its steps:
    <BLANKLINE>
    Step 1: That is
    Step 2: 5.
    <BLANKLINE>
    Which is the first wrong step? Name it by its number alone, on a last line like this: Step 2
    <BLANKLINE>

    Args:
        problem: that was asked.
        steps: text of each step of the response.
    """
    listed = "\n".join(f"Step {number}: {text.strip()}" for number, text in enumerate(steps, 1))
    asked, response = _ASKED.format(steps=listed), "".join(steps)
    name = f"{problem.id}/first wrong step"
    if problem.messages:
        turns = (*problem.messages, Message("assistant", response), Message("user", asked))
        return replace(problem, id=name, messages=turns, solution=None)
    return replace(problem, id=name, prompt=f"{problem.prompt}\n{response}\n\n{asked}\n", solution=None)


def step_named(answer: str, steps: int) -> int | None:
    """Index of the step that the last line of an answer names; ``None`` where it names none that exists.

    >>> step_named("The sum is wrong.\\nStep 2", 3), step_named("Step 7", 3), step_named("2", 3)
    (1, None, None)

    Args:
        answer: of the policy.
        steps: how many there are.
    """
    found = _NAMED.fullmatch(answer.strip().rpartition("\n")[2].strip())
    return int(found[1]) - 1 if found and 1 <= int(found[1]) <= steps else None
