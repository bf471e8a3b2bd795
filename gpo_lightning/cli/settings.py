"""What the user set: values with the file and line, or the option, they come from."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from jsonargparse import get_loader

from gpo_lightning.cli.shipped import configuration
from gpo_lightning.errors import ConfigError

_FLAGS = ("-h", "--help", "--print_config")
_SHORTEST_COMMON = 2
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Setting:
    """A key and what it is set to; of a file, the whole of it under the empty key.

    Args:
        key: dotted.
        value: as YAML has it.
        place: where it was set: ``my.yaml``, or ``--data.seed``.
        lines: line of each dotted key, in a file.
    """

    key: str
    value: Any
    place: str
    lines: Mapping[str, int] = field(default_factory=dict[str, int])

    def at(self, key: str) -> str:
        """Where a key below was set: file and line, or the option."""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return f"{self.place}:{self.lines[key]}" if key in self.lines else self.place


@dataclass(frozen=True)
class Option:
    """One option of a command: ``--name value``."""

    name: str
    value: str
    written: tuple[str, ...]


def options(arguments: Sequence[str]) -> Iterator[Option]:
    """Options and their values; what stands alone has the empty name."""
    rest = list(arguments)
    while rest:
        first = rest.pop(0)
        name, equals, value = first.partition("=")
        if not first.startswith("-") or first.lstrip("-")[:1].isdigit():
            yield Option("", first, (first,))
        elif equals or name in _FLAGS or name.endswith(".help"):
            yield Option(name, value, (first,))
        elif rest and not (rest[0].startswith("--") and len(rest[0]) > _SHORTEST_COMMON):
            value = rest.pop(0)
            yield Option(name, value, (first, value))
        else:
            yield Option(name, "", (first,))


def settings(arguments: Sequence[str]) -> list[Setting]:
    """All that a command's arguments set, in their order.

    Raises:
        ConfigError: a configuration file that is missing or no YAML.
    """
    found: list[Setting] = []
    for option in options(arguments):
        if option.name in ("--config", "-c"):
            found.append(read(option.value))
        elif option.name.startswith("--") and option.name not in _FLAGS and not option.name.endswith(".help"):
            name = option.name.removesuffix("+")
            found.append(Setting(name.removeprefix("--"), value_of(option.value), name))
    return found


def read(given: str) -> Setting:
    """A configuration file, or a configuration written out.

    Raises:
        ConfigError: there is no such file, or it is no YAML; the message names the line.
    """
    inline = given.lstrip().startswith("{") or "\n" in given
    place = "--config" if inline else given
    text = ""
    try:
        text = given if inline else Path(given).read_text(encoding="utf-8")
        value = loaded(text)
        node = yaml.compose(text, Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config: {given} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        if mark is not None and mark.line >= len(text.splitlines()):  # what was opened, and is not closed
            mark = getattr(error, "context_mark", None) or mark
        line = "" if mark is None else f":{mark.line + 1}"
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        if "cannot start any token" in what and "\t" in text:
            what = "a line begins with a tab, where YAML takes spaces only"
        near = "expected key" in what or "not allowed in this context" in what
        hint = (
            " Look at the line before, too: a key is followed by a colon and a space, and keys of one level stand "
            "below each other."
        )
        raise ConfigError(f"{place}{line} is not YAML: {what}.{hint if near else ''}{_shown(text, mark)}") from error
    value = {} if value is None or (isinstance(value, str) and node is None) else value
    if not isinstance(value, Mapping):
        raise ConfigError(f"{place} is no configuration: it holds {value!r:.60}, not keys such as model and data.")
    _refuse_doubles(place, node)
    return Setting("", value, _short(place), {} if inline else dict(_lines(node)))


def loaded(text: str) -> Any:
    """YAML as the parser reads it, but that ``data:`` with nothing below is a key without a value, not a text.

    Raises:
        yaml.YAMLError: it is none.
    """
    value = get_loader("yaml")(text) if text.strip() else {}
    if isinstance(value, str) and isinstance(yaml.compose(text, Loader=_Loader), yaml.MappingNode):
        value = yaml.load(text, Loader=_Loader)
    return value


def value_of(text: str) -> Any:
    """The value of an option; text that is no YAML is what it is."""
    try:
        return get_loader("yaml")(text) if text.strip() else text
    except yaml.YAMLError:
        return text


def expanded(given: str) -> str:
    """The path of a configuration that is named by its file or by its shipped name."""
    inline = given.lstrip().startswith("{") or "\n" in given
    return given if inline else str(configuration(given))


def _shown(text: str, mark: Any) -> str:
    lines = text.splitlines()
    if mark is None or mark.line >= len(lines):
        return ""
    return f"\n  {lines[mark.line]}\n  {' ' * mark.column}^"


def _short(place: str) -> str:
    """A path as people would write it: from where they are, if that is shorter."""
    near = os.path.relpath(place) if place != "--config" and Path(place).is_absolute() else place
    return min(near, place, key=len)


def _lines(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            yield name, key.start_mark.line + 1
            yield from _lines(value, f"{name}.")
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(cast(list[yaml.Node], node.value)):
            name = f"{prefix}{number}"
            yield name, value.start_mark.line + 1
            yield from _lines(value, f"{name}.")


def _refuse_doubles(place: str, node: yaml.Node | None, prefix: str = "") -> None:
    """YAML would take the last of two equal keys in silence.

    Raises:
        ConfigError: a mapping has a key twice.
    """
    if isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(cast(list[yaml.Node], node.value)):
            _refuse_doubles(place, value, f"{prefix}{number}.")
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in seen and name != "<<":
            raise ConfigError(f"{place}:{line}: {prefix}{name} is set twice, the first time in line {seen[name]}.")
        seen[name] = line
        _refuse_doubles(place, value, f"{prefix}{name}.")
