"""How far a phase of rollouts is, told to whoever shows it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a phase is.

    Args:
        phase: ``sample``, ``probe``, ``reset``, ``evaluation``; ``engine`` while one starts or takes new weights,
            ``scoring`` and ``learning`` in the trainer.
        done: continuations, or batches, finished.
        asked: those asked for so far; 0 where nobody knows.
        tokens: tokens generated in this phase.
    """

    phase: str
    done: int
    asked: int
    tokens: int


ProgressListener = Callable[[Progress], None]
