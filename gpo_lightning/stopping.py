"""Which signals ask the program to stop, how long it may take, and with which status it ends then.

Nothing is imported here that takes time: signals may come in the first second.
"""

import signal

EXIT_CODE = 75
"""``EX_TEMPFAIL`` of sysexits.h: not a failure of the program; try again later."""

INTERRUPTED = 130
"""128 + SIGINT, as shells say it."""

PATIENCE = 25.0
"""Seconds to stop by itself: less than the half minute that clouds and schedulers give before they take the machine."""

_ASKING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT)


def stopping_signals() -> list[signal.Signals]:
    """What schedulers, closed terminals and people send; without SIGHUP where it is ignored, as under ``nohup``."""
    return [name for name in _ASKING if name is not signal.SIGHUP or signal.getsignal(name) is not signal.SIG_IGN]


def status_after(signum: int | None) -> int:
    """Exit status of a program that was asked to stop.

    >>> status_after(signal.SIGTERM), status_after(signal.SIGINT)
    (75, 130)
    """
    return INTERRUPTED if signum == signal.SIGINT else EXIT_CODE
