"""Lists of what the package offers, taken from the package, so that no test forgets what is new."""

import inspect
from types import ModuleType
from typing import TypeVar

Role = TypeVar("Role")


def offered(room: ModuleType, role: type[Role]) -> list[type[Role]]:
    """The concrete classes of a role that a room exports, by name.

    >>> from gpo_lightning import critical
    >>> offered(critical, critical.Selector)[0].__name__
    'MaxAbsAdvantage'
    """
    exported = (getattr(room, name) for name in sorted(room.__all__))
    return [
        part for part in exported if inspect.isclass(part) and issubclass(part, role) and not inspect.isabstract(part)
    ]
