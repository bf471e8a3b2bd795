"""How far a phase of rollouts is, told to whoever shows it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a phase is.

    Args:
        phase: ``sample``, ``probe``, ``reset`` or ``evaluation``.
        done: continuations finished.
        asked: continuations asked for so far.
        tokens: tokens generated in this phase.
    """

    phase: str
    done: int
    asked: int
    tokens: int


ProgressListener = Callable[[Progress], None]
