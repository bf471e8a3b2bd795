"""``python -m gpo_lightning`` is the ``gpo`` command.

A signal ends whatever it does as a run is ended (:mod:`gpo_lightning.runs.signals`): in the first seconds, which go to
imports, and in commands other than ``fit``, which has its own way to stop.
"""

import os
import signal
import sys
import threading
from types import FrameType

from gpo_lightning.stopping import PATIENCE, status_after, stopping_signals


def main() -> None:
    """Entry point of the ``gpo`` command."""
    _handle(_stop)
    from gpo_lightning.cli import main as command

    command()


def _handle(handler: object) -> None:
    for name in stopping_signals():
        signal.signal(name, handler)  # pyright: ignore[reportArgumentType]


def _stop(signum: int, frame: FrameType | None) -> None:
    status = status_after(signum)
    _handle(lambda again, _: os._exit(status) if again == signal.SIGINT else None)
    print(f"gpo: Stopped by {signal.Signals(signum).name}. Give the same command again.", file=sys.stderr, flush=True)
    last_resort = threading.Timer(PATIENCE, os._exit, [status])
    last_resort.daemon = True
    last_resort.start()
    sys.exit(status)


if __name__ == "__main__":
    main()
