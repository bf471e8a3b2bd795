"""Seconds by phase."""

from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter


class Clock:
    """Adds up the time spent in named phases.

    >>> clock = Clock()
    >>> with clock("sample"):
    ...     pass
    >>> list(clock.seconds)
    ['sample']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Generator[None]:
        begin = perf_counter()
        try:
            yield
        finally:
            self.book(phase, perf_counter() - begin)

    def book(self, phase: str, seconds: float) -> None:
        """Add seconds to a phase."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def add(self, other: "Clock") -> None:
        for phase, seconds in other.seconds.items():
            self.book(phase, seconds)
