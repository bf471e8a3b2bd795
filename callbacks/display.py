"""How far a run is, shown to people: one line that lives on a terminal, and plain lines where there is none."""

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from threading import Event, Thread
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from gpo_lightning.rollouts import Progress

_SAID = {
    "engine": "engine starting",
    "rollouts": "rollouts",
    "scoring": "scoring",
    "learning": "learning",
    "evaluation": "evaluating",
}
_UNITS = {"rollouts": " problems", "evaluation": " problems"}
_IN_FLIGHT = {"sample": "sampling", "probe": "valuing", "reset": "resetting", "evaluation": "in flight"}


def figures(progress: Progress, seconds: float) -> str:
    """Done of wanted, what is in flight, speed, and what is left, as far as they are known.

    Problems overlap: some are done while others are sampled. So problems are counted, and beside them the
    continuations that the engine has not finished.

    >>> figures(Progress("rollouts", 16, 32, 4096, {"sample": 120, "probe": 8}), 8.0)
    '16 of 32 problems, 120 sampling, 8 valuing, 512 tokens/s, 8 s left'
    >>> figures(Progress("learning", 1, 3, 0), 8.0), figures(Progress("engine", 0, 0, 0), 8.0)
    ('1 of 3, 16 s left', '')
    """
    parts: list[str] = []
    if progress.asked:
        parts.append(f"{progress.done:,} of {progress.asked:,}{_UNITS.get(progress.phase, '')}")
    parts += [f"{count:,} {_IN_FLIGHT.get(purpose, purpose)}" for purpose, count in progress.in_flight.items()]
    if progress.tokens and seconds > 0:
        parts.append(f"{progress.tokens / seconds:,.0f} tokens/s")
    if progress.done and progress.asked > progress.done:
        parts.append(f"{(progress.asked - progress.done) * seconds / progress.done:,.0f} s left")
    return ", ".join(parts)


class Display(ABC):
    """Shows the present phase until it is closed; it may be shown something again after that.

    Args:
        console: where to.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._now = Progress("", 0, 0, 0)
        self._begun = perf_counter()

    def show(self, progress: Progress) -> None:
        """How far the present phase is; one that has done less than before has begun anew."""
        if progress.phase != self._now.phase or progress.done < self._now.done:
            self._begun = perf_counter()
        self._now = progress
        self._draw()

    @property
    def phase(self) -> str:
        """What is being done, in words."""
        return _SAID.get(self._now.phase, self._now.phase)

    @property
    def seconds(self) -> float:
        """Since the phase began."""
        return perf_counter() - self._begun

    @abstractmethod
    def _draw(self) -> None:
        """Show what is new."""

    @abstractmethod
    def close(self) -> None:
        """Show nothing more. Idempotent."""


class PlainLines(Display):
    """A line every few seconds, whether or not anything has finished.

    Args:
        console: where to.
        every_seconds: time between lines.
    """

    def __init__(self, console: Console, every_seconds: float) -> None:
        super().__init__(console)
        self._every = every_seconds
        self._stop: Event | None = None

    def _draw(self) -> None:
        if self._stop is None:
            self._stop = Event()
            Thread(target=self._tick, args=(self._stop,), name="progress", daemon=True).start()

    def _tick(self, stop: Event) -> None:
        while not stop.wait(self._every):
            seconds = self.seconds
            if seconds >= self._every:
                said = figures(self._now, seconds) or "working"
                self.console.print(f"  {self.phase}: {said}, {seconds:,.0f} s so far", highlight=False)

    def close(self) -> None:
        if self._stop is not None:
            self._stop.set()
            self._stop = None


class LiveBar(Display):
    """One bar at the bottom of the terminal. What others print, or log, appears above it."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        said = TextColumn("{task.fields[said]}")
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(24),
            said,
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, said="")
        self._drawn, self._running = "", False
        self._moved: list[tuple[logging.StreamHandler[Any], Any]] = []

    def _draw(self) -> None:
        if not self._running:
            self._start()
        if self.phase != self._drawn:
            # How a phase ended is seen, however short it was.
            self._bar.refresh()
            self._drawn = self.phase
            self._bar.reset(self._task, description=self.phase)
        said = figures(self._now, self.seconds)
        self._bar.update(self._task, completed=self._now.done, total=self._now.asked or None, said=said)

    def _start(self) -> None:
        before = (sys.stdout, sys.stderr)
        self._bar.start()
        self._running = True
        # rich takes what is printed; handlers that hold the streams themselves would write into the bar.
        for handler in _stream_handlers():
            if handler.stream in before:
                self._moved.append((handler, handler.setStream(sys.stderr)))

    def close(self) -> None:
        if not self._running:
            return
        self._running = False
        for handler, stream in self._moved:
            handler.setStream(stream)
        self._moved.clear()
        self._bar.stop()


def _stream_handlers() -> Iterator[logging.StreamHandler[Any]]:
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    for logger in loggers:
        yield from (handler for handler in logger.handlers if isinstance(handler, logging.StreamHandler))
