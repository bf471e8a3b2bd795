"""``python -m gpo_lightning`` is the ``gpo`` command.

The first seconds go to imports. A signal that comes in them ends the process as one that comes later does.
"""

import signal
import sys
from types import FrameType


def main() -> None:
    """Entry point of the ``gpo`` command."""
    for name in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(name, _stop)
    from gpo_lightning.cli import main as command

    command()


def _stop(signum: int, frame: FrameType | None) -> None:
    name = signal.Signals(signum).name
    print(f"gpo: Stopped by {name} before anything was made. Give the same command again.", file=sys.stderr, flush=True)
    sys.exit(130 if signum == signal.SIGINT else 75)


if __name__ == "__main__":
    main()
