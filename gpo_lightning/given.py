"""What people give in Python, refused with advice where it is nothing of the kind that is asked for.

The command line builds arguments from their annotations; in Python nobody does, and what is no engine, say, would only
be noticed when a token is asked of it.
"""

from collections.abc import Callable
from inspect import isclass
from typing import Any, TypeVar

from gpo_lightning.errors import ConfigError

T = TypeVar("T")


def expect(name: str, value: object, kind: type[T], example: str) -> T:
    """The value itself, where it is of a kind.

    >>> expect("temperature", 1.0, float, "0.7")
    1.0

    Args:
        name: of the argument.
        value: that was given.
        kind: of which it must be an instance.
        example: of an argument that would do, as Python.

    Raises:
        ConfigError: it is of another kind.
    """
    if isinstance(value, kind):
        return value
    if isclass(value) and issubclass(value, kind):
        example = f"{value.__name__}()"
    raise ConfigError(f"{name} is {said(value)}. Give an instance of {kind.__name__}, such as {name}={example}.")


def expect_maker(name: str, value: Callable[..., Any], example: str) -> Callable[..., Any]:
    """The value itself, where it is a class or function that is called later on.

    Args:
        name: of the argument.
        value: that was given.
        example: of an argument that would do, as Python.

    Raises:
        ConfigError: it cannot be called.
    """
    if callable(value):
        return value
    raise ConfigError(f"{name} is {said(value)}. Give what makes one, a class or a partial: {name}={example}.")


def said(value: object) -> str:
    """A value in few words.

    >>> said(3), said(int), said([1, 2])
    ('3', 'the class int', 'of type list')
    """
    if isclass(value):
        return f"the class {value.__name__}"
    return f"{value!r:.60}" if isinstance(value, str | int | float | None) else f"of type {type(value).__name__}"
