"""Values that a class refuses, found before anything is imported: out of range, or not to be had together."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from gpo_lightning.cli.guards import UNKNOWN, RefusedError, UnknownError, default_class, make
from gpo_lightning.cli.kinds import Anything, Kind, ListOf, MappingOf, Object, OneOf, Scalar, Union
from gpo_lightning.cli.settings import Setting
from gpo_lightning.cli.short_names import long_name
from gpo_lightning.cli.signatures import NOTHING, signature
from gpo_lightning.errors import ConfigError
from gpo_lightning.trainer_arguments import complaint

_SEEDS = 2**32


@dataclass
class _Group:
    """What was set for an object: its class, where one was named, and its arguments."""

    path: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])


def check_ranges(top: Mapping[str, Kind], settings: Sequence[Setting]) -> None:
    """Refuse values that a class would refuse.

    Args:
        top: what there is to set, by its key.
        settings: all that is set, in order.

    Raises:
        ConfigError: with the class's own words, and the place where it was set.
    """
    whole = _Group()
    for setting in settings:
        _set(whole, setting.key.split(".") if setting.key else [], _grouped(setting.value))
    trainer = whole.arguments.get("trainer")
    given = trainer.arguments if isinstance(trainer, _Group) else {}
    said = {f"trainer.{name}": complaint(name, value) for name, value in given.items()}
    for key, wrong in {"seed_everything": _wrong_seed(whole.arguments.get("seed_everything")), **said}.items():
        if wrong is not None:
            raise ConfigError(_with_place(wrong, [place for at, place in _places(settings) if at == key]))
    for key, kind in top.items():
        if key in ("trainer", "model", "data"):
            _value(key, whole.arguments.get(key, _Group()), kind, settings)


def _wrong_seed(seed: Any) -> str | None:
    """What is wrong with a seed, which numpy takes as well."""
    if isinstance(seed, int) and not 0 <= seed < _SEEDS:
        return f"seed_everything is {seed}, but takes a number from 0 to {_SEEDS - 1}."
    return None


def _grouped(value: Any) -> Any:
    if isinstance(value, list):
        return [_grouped(each) for each in cast(list[Any], value)]
    if not isinstance(value, Mapping):
        return value
    group = _Group()
    for key, each in cast(Mapping[str, Any], value).items():
        _set(group, str(key).split("."), _grouped(each))
    return group


def _set(group: _Group, key: Sequence[str], value: Any) -> None:
    """Set a value below a group, over what was set before."""
    match key:
        case []:
            for name, each in value.arguments.items():
                _set(group, [name], each)
        case ["class_path"]:
            group.path = value
        case ["init_args" | "dict_kwargs", *rest]:
            if rest or isinstance(value, _Group):
                _set(group, rest, value)
        case [name]:
            _put(group, name, value)
        case [name, *rest]:
            before = group.arguments.get(name)
            inner = before if isinstance(before, _Group) else _Group(before if isinstance(before, str) else None)
            group.arguments[name] = inner
            _set(inner, rest, value)
        case _:
            pass


def _put(group: _Group, name: str, value: Any) -> None:
    before = group.arguments.get(name)
    if name.endswith("+"):
        name = name.removesuffix("+")
        before = group.arguments.get(name)
        added = value if isinstance(value, list) else [value]
        group.arguments[name] = [*(cast(list[Any], before) if isinstance(before, list) else []), *cast(Any, added)]
    elif isinstance(value, _Group) and isinstance(before, _Group):
        before.path = value.path or before.path
        for key, each in value.arguments.items():
            _set(before, [key], each)
    elif isinstance(value, str) and isinstance(before, _Group):
        before.path = value
    elif isinstance(value, _Group) and isinstance(before, str) and value.path is None:
        group.arguments[name] = _Group(before, value.arguments)
    else:
        group.arguments[name] = value


def _value(key: str, value: Any, kind: Kind, settings: Sequence[Setting], default: str = "") -> Any:
    """What a value stands for; ``UNKNOWN`` where source does not tell."""
    kinds = kind.kinds if isinstance(kind, Union) else (kind,)
    objects = [each for each in kinds if isinstance(each, Object)]
    if isinstance(value, _Group) and objects:
        return _object(key, value, objects, settings, default)
    if isinstance(value, str) and objects and not any(each == Scalar("str") for each in kinds):
        literal = any(isinstance(each, OneOf) and value in each.values for each in kinds)
        return value if literal else _object(key, _Group(value), objects, settings)
    if isinstance(value, list):
        item = next((each.item for each in kinds if isinstance(each, ListOf)), Anything())
        listed = [_value(f"{key}.{i}", each, item, settings) for i, each in enumerate(cast(list[Any], value))]
        return UNKNOWN if UNKNOWN in listed else listed
    if isinstance(value, _Group):
        inner = next((each.value for each in kinds if isinstance(each, MappingOf)), Anything())
        found = {name: _value(f"{key}.{name}", each, inner, settings) for name, each in value.arguments.items()}
        return UNKNOWN if UNKNOWN in found.values() or value.path else found
    return value


def _object(key: str, group: _Group, objects: Sequence[Object], settings: Sequence[Setting], default: str = "") -> Any:
    path = group.path or default or (objects[0].path if len(objects) == 1 else "")
    path = long_name(key, path, [each.path for each in objects if each.path])
    known = signature(path) if "." in path else None
    if known is None or known == NOTHING:
        return object()  # of which no more is known than that it is there
    arguments = {
        name: _value(f"{key}.{name}", each, known.parameters[name], settings, default_class(path, name))
        for name, each in group.arguments.items()
        if name in known.parameters
    }
    if Object("") in objects:  # called later on, with what comes first: the parameters, the optimizer
        arguments = {next(iter(known.parameters), ""): UNKNOWN} | arguments
    try:
        return make(path, arguments)
    except (UnknownError, RecursionError):
        return object()
    except RefusedError as refused:
        said = str(refused) if refused.by == "ConfigError" else f"{key}: {refused}"
        raise ConfigError(_with_place(said, _meant(key, said, settings))) from None


def _with_place(said: str, places: Sequence[str]) -> str:
    """A message with the last of some places, which is where a value was set that counts."""
    first, stop, rest = said.partition(". ")
    return f"{first.removesuffix('.')} ({places[-1]}).{stop and ' '}{rest}" if places else said


def _meant(key: str, said: str, settings: Sequence[Setting]) -> list[str]:
    """Where what a message speaks of was set; where it names no key, what was set of the object."""
    inside = [(at, place) for at, place in _places(settings) if at.startswith(f"{key}.")]
    named = [(at, place) for at, place in inside if re.search(rf"\b{re.escape(at.rpartition('.')[2])}\b", said)]
    deepest = max((at.count(".") for at, _ in named), default=0)
    return [place for at, place in named if at.count(".") == deepest] or [place for _, place in inside]


def _places(settings: Sequence[Setting]) -> list[tuple[str, str]]:
    """Each key that was set, and where."""
    return [(_plain(at), setting.at(at)) for setting in settings for at in _keys(setting)]


def _plain(key: str) -> str:
    return ".".join(part.removesuffix("+") for part in key.split(".") if part not in ("init_args", "class_path"))


def _keys(setting: Setting) -> Iterator[str]:
    yield from setting.lines if not setting.key else [setting.key]
