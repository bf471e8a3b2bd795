"""Finds what is wrong with a configuration in a fraction of a second, before anything is imported.

Only what the parser would certainly refuse is refused here, in fewer words; what source cannot tell passes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import yaml
from jsonargparse import get_loader

from gpo_lightning.cli.kinds import Anything, Kind, ListOf, MappingOf, Object, OneOf, Scalar, Union, said
from gpo_lightning.cli.others_words import KEYS, here
from gpo_lightning.cli.settings import Setting
from gpo_lightning.cli.short_names import TORCHS, long_name
from gpo_lightning.cli.signatures import NOTHING, Signature, is_a, is_protocol, signature
from gpo_lightning.cli.sources import Found, Missing, exists, find, qualified, source
from gpo_lightning.cli.words import did_you_mean, listed
from gpo_lightning.errors import ConfigError

_NEEDED = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow", "CometLogger": "comet_ml"}
"""Modules without which a logger of Lightning's cannot be made."""

_SPECIFICATION = {"class_path", "init_args", "dict_kwargs"}
_OURS = "gpo_lightning."
_PARTS_OF_TRAINERS = ("lightning.pytorch.callbacks.", "lightning.pytorch.loggers.")
_KNOWN = (_OURS, "lightning.", "torch.", "peft.", "transformers.", "bitsandbytes.")
_NEARLY_EQUAL = 0.85
_CONFIGURATIONS = (".yaml", ".yml", ".json")


def check(top: Mapping[str, Kind], settings: Sequence[Setting]) -> list[str]:
    """Refuse what cannot be meant.

    Args:
        top: what there is to set, by its key.
        settings: all that is set, in order.

    Returns:
        Class paths that are set and lie in modules of the user's own or of other packages.

    Raises:
        ConfigError: a key that does not exist, a class that does not, a value of the wrong type.
    """
    checker = _Checker(top)
    for setting in settings:
        checker.check(setting)
    return checker.foreign


class _Checker:
    """Goes through settings one by one and remembers which class a key was given."""

    def __init__(self, top: Mapping[str, Kind]) -> None:
        self._top = Signature(top)
        self._classes: dict[str, str] = {}
        self.foreign: list[str] = []

    def check(self, setting: Setting) -> None:
        if not setting.key:
            self._keys("", setting.value, self._top, setting, "")
            return
        first, *rest = setting.key.split(".")
        if first not in self._top.parameters:
            raise self._no_key("", first, setting.key, self._top, setting)
        self._follow(first, rest, self._top.parameters[first], setting)

    def _follow(self, key: str, rest: list[str], kind: Kind, setting: Setting) -> None:
        """Down a dotted key as far as it goes, then to its value."""
        if not rest:
            self._value(key, setting.value, kind, setting, "")
            return
        name = rest[0]
        if name in _SPECIFICATION:
            if name == "class_path":
                self._value(key, setting.value, kind, setting, "")
            elif name == "init_args" and len(rest) > 1:
                self._follow(key, rest[1:], kind, setting)
            return
        classes = self._signatures(key, kind)
        if classes is None:
            return
        for each in classes:
            if name in each.parameters:
                self._follow(f"{key}.{name}", rest[1:], each.parameters[name], setting)
                return
        if not any(each.more for each in classes):
            raise self._no_key(key, name, setting.key, _joined(classes), setting)

    def _signatures(self, key: str, kind: Kind) -> list[Signature] | None:
        """Of the class that a key was given, else of the classes it takes; ``None`` where one is unknown."""
        kinds = kind.kinds if isinstance(kind, Union) else (kind,)
        if key in self._classes:
            known = signature(self._classes[key])
            if known is not None and Object("") in kinds:  # the caller gives what comes first: parameters, optimiser
                known = Signature(dict(list(known.parameters.items())[1:]), known.more)
            return None if known is None else [known]
        if any(isinstance(each, Anything | MappingOf | ListOf) for each in kinds):
            return None
        objects = [each for each in kinds if isinstance(each, Object)]
        found = [signature(each.path) if each.path else None for each in objects]
        if any(each is None for each in found) or any(self._has_subclasses(each) for each in objects):
            return None
        return [each for each in found if each is not None]

    @staticmethod
    def _has_subclasses(kind: Object) -> bool:
        """Whether the class is one of several that may be meant, so that its own parameters say little."""
        known = signature(kind.path)
        return known is None or known == NOTHING or is_protocol(kind.path) or bool(_room(kind.path))

    def _keys(self, key: str, value: Mapping[str, Any], of: Signature, setting: Setting, inside: str) -> None:
        """Each key of a mapping is one of the signature's."""
        for name, each in value.items():
            first, *rest = str(name).removesuffix("+").split(".")  # `callbacks+` adds to a list
            at = f"{inside}{name}"
            if first not in of.parameters:
                if not of.more:
                    raise self._no_key(key, first, at, of, setting)
            elif rest:
                self._follow(_joint(key, first), rest, of.parameters[first], Setting("", each, setting.at(at)))
            else:
                self._value(_joint(key, first), each, of.parameters[first], setting, at)

    def _value(self, key: str, value: Any, kind: Kind, setting: Setting, at: str) -> None:
        """A value is of a kind; ``at`` is where it stands in its file."""
        kinds = kind.kinds if isinstance(kind, Union) else (kind,)
        objects = [each for each in kinds if isinstance(each, Object)]
        if any(isinstance(each, Anything) for each in kinds) or any(_fits(value, each) for each in kinds):
            return
        if value is None and objects:
            return  # which the parser takes for a group that sets nothing
        if isinstance(value, Mapping) and objects:
            self._object(key, cast(Mapping[str, Any], value), objects, setting, at)
        elif isinstance(value, str) and objects and _names_a_class(value):
            self._classes[key] = self._class(key, value, objects, setting, at)
        elif isinstance(value, list) and (lists := [each for each in kinds if isinstance(each, ListOf)]):
            for number, item in enumerate(cast(list[Any], value)):
                self._classes.pop(f"{key}.{number}", None)
                self._value(f"{key}.{number}", item, lists[0].item, setting, f"{at}.{number}" if at else "")
        elif not _may_be_read(value, kinds):
            if value == "" and setting.key:
                raise ConfigError(f"{setting.place} needs a value: {key} takes {said(kind)}.")
            shown = json.dumps(value) if isinstance(value, bool | None) else repr(value)
            only = all(isinstance(each, Object | OneOf) for each in kinds)
            wanted = _wanted(objects) if objects and (only or isinstance(value, list)) else said(kind)
            raise ConfigError(f"{key} is {shown:.80}, but takes {wanted} ({setting.at(at)}).{_hint(value, kinds)}")

    def _object(self, key: str, value: Mapping[str, Any], objects: Sequence[Object], setting: Setting, at: str) -> None:
        path = value.get("class_path")
        if path is not None:
            if not isinstance(path, str):
                raise ConfigError(f"{key}.class_path is {path!r:.80}, but takes a class path ({setting.at(at)}).")
            for name in value:
                if name not in _SPECIFICATION:
                    near = did_you_mean(str(name), _SPECIFICATION) or " The class's own settings go under init_args."
                    where = setting.at(_joint(at, str(name)) if at else "")
                    raise ConfigError(f"{key} has a class_path, and no key {name!r} beside it ({where}).{near}")
            self._classes[key] = self._class(key, path, objects, setting, _joint(at, "class_path") if at else "")
        else:
            capital = [name for name in map(str, value) if name[:1].isupper()]
            if named := [name for name in capital if any(name in _room(each.path) for each in objects if each.path)]:
                where = setting.at(_joint(at, named[0]) if at else "")
                write = f"{{class_path: {named[0]}, init_args: {{...}}}}"
                raise ConfigError(f"{key} has the name of a class as a key, {named[0]} ({where}). Write {write}.")
        for name in map(str, value):
            if name not in _SPECIFICATION and (near := get_close_matches(name, _SPECIFICATION, cutoff=_NEARLY_EQUAL)):
                where = setting.at(_joint(at, name) if at else "")
                raise ConfigError(f"{_joint(key, name)}: there is no such key ({where}). Did you mean {near[0]}?")
        arguments: Any = value if _SPECIFICATION.isdisjoint(value) else value.get("init_args") or {}
        signatures = self._signatures(key, objects[0] if len(objects) == 1 else Union(tuple(objects)))
        if not isinstance(arguments, Mapping):
            raise ConfigError(f"{key}.init_args is {arguments!r:.80}, but takes a mapping ({setting.at(at)}).")
        if signatures is None or len(signatures) != 1:
            return
        inside = f"{at}." if at else ""
        if not _SPECIFICATION.isdisjoint(value) and at:
            inside += "init_args."
        self._keys(key, cast(Mapping[str, Any], arguments), signatures[0], setting, inside)

    def _class(self, key: str, path: str, objects: Sequence[Object], setting: Setting, at: str) -> str:
        """The full path of a class that is there and of the right kind."""
        bases = [each.path for each in objects if each.path]
        path = long_name(key, path, bases)
        where = setting.at(at)
        if "." not in path:
            names = _names(TORCHS[key]) if key in TORCHS else [name for base in bases for name in _room(base)]
            # Only importing tells what short names other packages and the user's own modules bring along.
            if not names and bases and all(base.startswith(_OURS) for base in bases) and not Path(path).exists():
                raise ConfigError(f"{key} is {path!r}, but takes {_wanted(objects)} ({where}).")
            if self.foreign or not names:
                return path
            raise ConfigError(
                f"{key}: there is no class {path!r} ({where}).{did_you_mean(path, names)}"
                f"\n  There are: {listed(names)}."
            )
        found = find(path)
        if isinstance(found, Missing):
            raise ConfigError(f"{key}: there is no {path} ({where}). {_missing(found, path)}")
        if not path.startswith(_KNOWN):
            self.foreign.append(path)
        else:
            _check_installed(key, path, where)
        known = [is_a(path, base) for base in bases]
        certain = isinstance(found, Found) and bases and len(bases) == len(objects)
        if certain and not any(is_protocol(base) for base in bases) and all(each is False for each in known):
            wanted = " or ".join(base.rpartition(".")[2] for base in bases)
            names = [name for base in bases for name in _room(base)]
            there = f"\n  There are: {listed(names)}." if names else ""
            raise ConfigError(f"{key}: {path} is no {wanted} ({where}).{there}")
        return path

    def _no_key(self, group: str, name: str, key: str, of: Signature, setting: Setting) -> ConfigError:
        """A key that does not exist, with the one that was probably meant."""
        place = setting.at(key)
        if place.startswith("--"):
            place = place.partition("=")[0]
            head = f"{place}: {group or 'gpo'} has no key {name!r}."
        else:
            head = f"{_joint(group, name)}: there is no such key ({place})."
        # What others call so is meant more likely than what is spelt alike.
        theirs = "" if KEYS.get(name) == _joint(group, name) else here(KEYS, name)
        near = theirs or did_you_mean(name, of.parameters)
        elsewhere = "" if near else self._elsewhere(name)
        there = f"\n  Keys of {group}: " if group else "\n  Keys: "
        return ConfigError(f"{head}{near}{elsewhere}{there}{listed(sorted(of.parameters))}.")

    def _elsewhere(self, name: str) -> str:
        places = [key for key in _all_keys(self._top.parameters) if key.rpartition(".")[2] == name]
        return f" Did you mean {' or '.join(places[:3])}?" if places else ""


def _all_keys(parameters: Mapping[str, Kind], prefix: str = "", depth: int = 3) -> Iterator[str]:
    for name, kind in parameters.items():
        yield f"{prefix}{name}"
        for each in kind.kinds if isinstance(kind, Union) else (kind,):
            if isinstance(each, Object) and each.path and depth > 1 and not is_protocol(each.path):
                inner = signature(each.path)
                yield from _all_keys(inner.parameters if inner else {}, f"{prefix}{name}.", depth - 1)


def _fits(value: Any, kind: Kind) -> bool:
    """Whether a plain value needs no further look."""
    match kind:
        case OneOf():
            return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in kind.values)
        case Scalar("bool"):
            return isinstance(value, bool)
        case Scalar("int"):
            return isinstance(value, int) and not isinstance(value, bool)
        case Scalar("float"):
            return isinstance(value, int | float) and not isinstance(value, bool)
        case Scalar():
            return isinstance(value, str | int | float)
        case MappingOf():
            return isinstance(value, Mapping)
        case _:
            return False


def _may_be_read(value: Any, kinds: Sequence[Kind]) -> bool:
    """Whether the parser may make more of a value than it seems: it reads text once more, and mappings from files."""
    if isinstance(value, str) and all(isinstance(each, Object | OneOf) for each in kinds):
        return value.endswith(_CONFIGURATIONS) or Path(value).is_file()
    if isinstance(value, str) and any(isinstance(each, Object | ListOf | MappingOf) for each in kinds):
        return not _names_a_class(value) or not any(isinstance(each, Object) for each in kinds)
    if not isinstance(value, str):
        plain = isinstance(value, bool | int | float | list | None)
        return not plain and not all(isinstance(each, Scalar | OneOf) for each in kinds)
    try:
        again = get_loader("yaml")(value) if value.strip() else value
    except yaml.YAMLError:
        return False
    if isinstance(again, float) and again.is_integer() and Scalar("int") in kinds:
        return True
    return any(_fits(again, each) for each in kinds)


def _names_a_class(value: str) -> bool:
    return all(part.isidentifier() for part in value.split(".")) and not value.endswith(_CONFIGURATIONS)


def _wanted(objects: Sequence[Object]) -> str:
    """What one writes for an object."""
    if names := [name for each in objects if each.path for name in _room(each.path)]:
        return f"a class, such as {' or '.join(names[:3])}"
    parameters = _joined([known for each in objects if each.path and (known := signature(each.path))]).parameters
    return f"a mapping with some of {listed(parameters)}" if parameters else "a class path"


def _room(base: str) -> list[str]:
    """Names of the classes of one of our kinds that its package exports."""
    if not base.startswith((_OURS, *_PARTS_OF_TRAINERS)):
        return []
    own = base.startswith(_OURS)
    packages = [".".join(base.split(".")[: 2 if own else 3]), *([] if own else ["gpo_lightning.callbacks"])]
    found = [(package, name) for package in packages for name in _names(package)]
    return [name for package, name in found if name != base.rpartition(".")[2] and is_a(f"{package}.{name}", base)]


def _names(package: str) -> list[str]:
    """Of what a package exports, its own: what it imports from others would be parsed for nothing."""
    home, top = source(package), package.partition(".")[0]
    there = sorted(name for name in home.names() if name[0].isupper()) if home is not None else []
    return [name for name in there if home is not None and qualified(name, home).startswith(f"{top}.")]


def _missing(missing: Missing, path: str) -> str:
    if not missing.where:
        folder = Path.cwd()
        return f"There is no module {missing.what}: it is not installed, and {folder} has no {missing.what}.py."
    near = did_you_mean(missing.what, missing.there).removesuffix("?").strip()
    if near:
        whole = path.split(".")
        word = near.rpartition(" ")[2]
        whole[len(missing.where.split("."))] = word
        return f"Did you mean {'.'.join(whole)}?\n  {missing.where} has: {listed(missing.there)}."
    return f"{missing.where} has no {missing.what}." + (
        f"\n  It has: {listed(missing.there)}." if missing.there else ""
    )


def _check_installed(key: str, path: str, where: str) -> None:
    """Refuse a class whose library is not there.

    Raises:
        ConfigError: it is not; the message says how it comes there.
    """
    name = path.rpartition(".")[2]
    module = _NEEDED.get(name)
    if module is not None and exists(module) is False:
        command = f"pip install {module}" if module == "comet_ml" else f"pip install 'gpo-lightning[{module}]'"
        raise ConfigError(f"{key}: {name} needs {module}, which is not installed: {command} ({where}).")


def _hint(value: Any, kinds: Sequence[Kind]) -> str:
    words = [str(each) for kind in kinds if isinstance(kind, OneOf) for each in kind.values if isinstance(each, str)]
    return did_you_mean(value, words) if isinstance(value, str) and words else ""


def _joined(signatures: Sequence[Signature]) -> Signature:
    parameters: dict[str, Kind] = {}
    for each in signatures:
        parameters |= each.parameters
    return Signature(parameters)


def _joint(group: str, name: str) -> str:
    return f"{group}.{name}" if group else name
