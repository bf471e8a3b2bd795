"""The next iteration's rollouts, made in a thread while this iteration is learnt from (``data.overlap``)."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpo_lightning.engines import Engine, Ledger, RestartingEngine
from gpo_lightning.errors import EngineDied
from gpo_lightning.rollouts import Rollouts
from gpo_lightning.runs.kept_rollouts import KeptRollouts

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 0.1
_MANY = 999_999
"""Later than any iteration."""


class _GivenUpError(Exception):
    """Nobody waits for the rollouts any more."""


@dataclass(frozen=True)
class _Made:
    """Rollouts that wait for their iteration; ``None`` where the engine died."""

    iteration: int
    rollouts: Rollouts | None
    spent: Ledger


class RolloutsAhead:
    """Makes one iteration's rollouts at a time, and has them until that iteration begins.

    What they cost is booked when they are taken, so that every iteration counts what it learns from. A checkpoint waits
    for them and has them kept beside it, for the weights that made them are gone when it is read. An engine that dies
    meanwhile is not started again, for the policy's weights have moved on: its rollouts are made anew when due.

    Args:
        engine: that makes them, and calls :meth:`check` between polls.
        restarting: the part of it that would start it again.
        kept: where rollouts are kept.
    """

    def __init__(self, engine: Engine, restarting: RestartingEngine, kept: KeptRollouts) -> None:
        self._engine, self._restarting, self._kept = engine, restarting, kept
        self.lost = 0
        """How often the engine died meanwhile."""
        self._thread: threading.Thread | None = None
        self._given_up = False
        self._made: tuple[int, Rollouts | None] | None = None
        self._failed: BaseException | None = None
        self._ready: _Made | None = None

    def begin(self, iteration: int, make: Callable[[], Rollouts]) -> None:
        """Make an iteration's rollouts from now on; nobody else may use the engine until :meth:`wait`."""

        def run() -> None:
            try:
                self._made = (iteration, make())
            except EngineDied as died:
                _LOG.warning("The engine died beside the training; its rollouts are made anew when due: %s", died)
                self._made = (iteration, None)
            except BaseException as failed:  # told to whoever waits
                self._failed = failed

        self._given_up, self._restarting.revives = False, False
        self._engine.ledger.put_aside()
        self._thread = threading.Thread(target=run, name="gpo-rollouts-ahead", daemon=True)
        self._thread.start()

    def check(self) -> bool:
        """Whether the caller is the thread that makes rollouts; it ends here once it is given up."""
        inside = threading.current_thread() is self._thread
        if inside and self._given_up:
            raise _GivenUpError
        return inside

    def wait(self, look: Callable[[], None]) -> None:
        """Until the engine is free; what failed there fails here.

        Args:
            look: called meanwhile; may raise to stop waiting.
        """
        if self._thread is None:
            return
        while self._thread.is_alive():
            self._thread.join(_LOOK_SECONDS)
            look()
        spent, made, failed = self._end(), self._made, self._failed
        self._made = self._failed = None
        if failed is not None:
            raise failed
        if made is not None:
            self._ready = _Made(*made, spent)

    def take(self, iteration: int, look: Callable[[], None]) -> Rollouts | None:
        """The rollouts of an iteration that begins; ``None`` where there are none, and they must be made now."""
        self.wait(look)
        ready, self._ready = self._ready, None
        if ready is None or ready.iteration != iteration:
            return None
        self._engine.ledger.add(ready.spent)
        if ready.rollouts is None:
            self.lost += 1
            self._engine.shutdown()
        return ready.rollouts

    def give_up(self) -> None:
        """End what is under way, and forget it."""
        self._given_up = True
        if self._thread is not None:
            self._thread.join()
            self._end()
        self._made = self._failed = self._ready = None

    def tidy(self) -> None:
        """Remove what is kept of iterations that have begun: the run has ended."""
        self._kept.discard(_MANY if self._ready is None else self._ready.iteration)

    def _end(self) -> Ledger:
        self._thread, self._restarting.revives = None, True
        return self._engine.ledger.take_aside()

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint, after :meth:`wait`; the rollouts themselves are kept beside it."""
        ready = self._ready
        if ready is None or ready.rollouts is None:
            return {}
        self._kept.write(ready.iteration, ready.rollouts)
        return {"iteration": ready.iteration, "tokens": ready.spent.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave, and the rollouts that were kept."""
        if state and (rollouts := self._kept.read(state["iteration"])) is not None:
            spent = Ledger()
            spent.load_state_dict(state["tokens"])
            self._ready = _Made(state["iteration"], rollouts, spent)
