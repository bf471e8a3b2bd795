"""Objects as the plain values a configuration names them by: what loggers show and checkpoints bring along."""

import inspect
import sys
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, cast


def plain(value: Any) -> Any:
    """A value in numbers, strings, lists and dicts, as YAML would have it.

    >>> from gpo_lightning.losses import GRPO
    >>> plain(GRPO())["class_path"]
    'gpo_lightning.losses.GRPO'
    >>> from gpo_lightning.engines import Recovery
    >>> plain(Recovery(restarts=1))
    {'restarts': 1, 'patience': 900.0}
    """
    match value:
        case None | bool() | int() | float() | str():
            return value.value if isinstance(value, Enum) else value
        case Path():
            return str(value)
        case set() | frozenset():
            return sorted(map(plain, cast(set[Any], value)), key=str)
        case list() | tuple():
            return [plain(each) for each in cast(list[Any], value)]
        case _ if isinstance(value, Mapping):
            named = ((plain(key) if inspect.isroutine(key) else key, each) for key, each in value.items())  # pyright: ignore
            return {str(key): plain(each) for key, each in named}
        case partial():
            call = cast(partial[Any], value)
            return {"class_path": class_path(call.func), "init_args": plain(call.keywords)}
        case _ if inspect.isclass(value) or inspect.isroutine(value):
            return class_path(value)
        case _:
            return _object(value)


def nameable(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as plain values, without those that no path names, such as a lambda.

    >>> nameable({"seed": 1, "optimizer": lambda weights: None})
    {'seed': 1}
    """
    return {name: plain(value) for name, value in arguments.items() if _can_be_named(value)}


def _can_be_named(value: object) -> bool:
    if isinstance(value, partial):
        call = cast(partial[Any], value)
        return not call.args and _can_be_named(call.func)
    return "<" not in str(getattr(value, "__qualname__", ""))


def own_arguments(what: type, among: Mapping[str, Any], of: type) -> dict[str, Any]:
    """Of named values those that a class is made with; all, where its ``__init__`` is that of another class.

    Args:
        what: the class.
        among: the values.
        of: the other class.
    """
    if what.__init__ is of.__init__:
        return dict(among)
    taken = inspect.signature(what.__init__).parameters
    return {name: value for name, value in among.items() if name in taken or name.startswith("_")}


def class_path(what: Any) -> str:
    """The shortest path that names a class or function: where its package exports it, not where it is written."""
    module, name = str(what.__module__), str(what.__qualname__)
    parts = module.split(".")
    for length in range(1, len(parts)):
        package = ".".join(parts[:length])
        if getattr(sys.modules.get(package), name, None) is what:
            return f"{package}.{name}"
    return f"{module}.{name}"


def _object(value: Any) -> Any:
    kind = cast(type[Any], type(value))
    if is_dataclass(kind):
        arguments = {f.name: plain(getattr(value, f.name)) for f in fields(kind) if f.init and _named(value, f)}
        if kind.__bases__ == (object,):
            return arguments
    else:
        named = [name for name in inspect.signature(kind).parameters if hasattr(value, name)]
        arguments = {name: plain(getattr(value, name)) for name in named}
    return {"class_path": class_path(kind)} | ({"init_args": arguments} if arguments else {})


def _named(value: Any, field: Field[Any]) -> bool:
    """Whether to name an argument; those of other libraries' classes are many, and mostly left at their defaults."""
    if type(value).__module__.startswith("gpo_lightning."):
        return True
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return bool(getattr(value, field.name) != default)


def shortened(value: Any, most: int = 50) -> Any:
    """The same plain value, but for lists of more than ``most`` items, such as data sets, which only say how many.

    >>> shortened({"rows": list(range(1000)), "k": [1, 4]})
    {'rows': '1000 items', 'k': [1, 4]}
    """
    if isinstance(value, dict):
        return {name: shortened(each, most) for name, each in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        items = cast(list[Any], value)
        return f"{len(items)} items" if len(items) > most else [shortened(each, most) for each in items]
    return value
