"""How far rollouts are, told to whoever shows it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Progress:
    """How far something is.

    Args:
        phase: ``rollouts`` or ``evaluation``; ``engine`` while one starts or takes new weights, ``scoring`` and
            ``learning`` in the trainer.
        done: problems, or batches, finished.
        asked: how many there are; 0 where nobody knows.
        tokens: tokens generated so far.
        in_flight: continuations asked for and not back, by what they are drawn for. Some problems are still sampled
            while the steps of others are valued.
    """

    phase: str
    done: int
    asked: int
    tokens: int
    in_flight: Mapping[str, int] = field(default_factory=dict[str, int])


ProgressListener = Callable[[Progress], None]
