"""``python -m gpo_lightning`` is the ``gpo`` command.

A signal ends whatever it does as a run is ended (:mod:`gpo_lightning.runs.signals`): in the first seconds, which go to
imports, and in commands other than ``fit``, which has its own way to stop.
"""

import os
import signal
import sys
import threading
from types import FrameType

_PATIENCE = 25.0
"""Seconds to end by itself; an engine that hangs may not let it."""


def main() -> None:
    """Entry point of the ``gpo`` command."""
    _handle(_stop)
    from gpo_lightning.cli import main as command

    command()


def _handle(handler: object) -> None:
    for name in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT):
        if name is not signal.SIGHUP or signal.getsignal(name) is not signal.SIG_IGN:  # as under nohup
            signal.signal(name, handler)  # pyright: ignore[reportArgumentType]


def _stop(signum: int, frame: FrameType | None) -> None:
    status = 130 if signum == signal.SIGINT else 75
    _handle(lambda again, _: os._exit(status) if again == signal.SIGINT else None)
    print(f"gpo: Stopped by {signal.Signals(signum).name}. Give the same command again.", file=sys.stderr, flush=True)
    last_resort = threading.Timer(_PATIENCE, os._exit, [status])
    last_resort.daemon = True
    last_resort.start()
    sys.exit(status)


if __name__ == "__main__":
    main()
