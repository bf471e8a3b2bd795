"""Errors that speak to the user: what was wrong, where, and what to do."""

import unicodedata

_BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class GPOError(Exception):
    """Root of every error this package raises on purpose."""


class ConfigError(GPOError):
    """A configuration that cannot work; the message names the key and the mend."""


class EngineError(GPOError):
    """The generation engine failed or was asked for something it cannot do."""


class EngineDied(EngineError):  # noqa: N818  (says what happened; the engine can be started again)
    """The engine's process is gone or does not answer."""


class DataError(GPOError):
    """A data file or row that cannot be read; the message names file and line."""


class TrainingError(GPOError):
    """Training cannot go on: what the policy computes is not a number any more."""


class StorageError(GPOError):
    """Something could not be written or read back; the message says what is safe and what to do."""


class RankLost(GPOError):  # noqa: N818  (says what happened; the run can go on from where it was)
    """Another process of the run is gone; the message says which, and how to go on."""


class Interrupted(GPOError):  # noqa: N818  (to stop as asked is no error)
    """The run was asked to stop (a signal), and has; the message says how to go on.

    Args:
        message: for the user.
        status: of the process: 75 (``EX_TEMPFAIL``), or 130 after Ctrl-C.
    """

    def __init__(self, message: str, status: int = 75) -> None:
        super().__init__(message)
        self.status = status


def printable(text: str) -> str:
    r"""Text of others' as a terminal may show it: what would move its cursor, or turn its letters round, is spelt out.

    >>> printable("red \x1b[31m, \u202etxt.exe") == r"red \x1b[31m, \u202etxt.exe"
    True
    """
    return "".join(char.encode("unicode_escape").decode() if _commands(char) else char for char in text)


def _commands(char: str) -> bool:
    return char in _BIDI or (char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cs"))
