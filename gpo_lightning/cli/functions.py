"""Reward functions that a configuration names, looked for in source before anything is imported."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from gpo_lightning.cli.files import last_value
from gpo_lightning.cli.settings import Setting
from gpo_lightning.cli.sources import Missing, find, source
from gpo_lightning.cli.words import did_you_mean, listed
from gpo_lightning.errors import ConfigError


def check_rewards(settings: Sequence[Setting]) -> None:
    """Refuse to start for rewards that are not there.

    Raises:
        ConfigError: a name that is no dotted path, a module or a function that does not exist.
    """
    given = last_value(settings, "data.rewards.functions") or last_value(settings, "data.rewards")
    if isinstance(given, Mapping) and "class_path" in given:
        return
    for name in [given] if isinstance(given, str) else cast(Sequence[Any], given or ()):
        if isinstance(name, str) and "/" not in name and not Path(name).is_dir():
            _check(name)


def _check(name: str) -> None:
    module, _, function = name.replace(".py:", ":").removesuffix(".py").rpartition(":")
    if ":" in name or name.endswith(".py"):
        path = f"{module}.{function}" if module else f"{function}.NAME"
        raise ConfigError(f"data.rewards is {name!r}, but takes the dotted path of a function: {path}.")
    if "." not in name:
        raise ConfigError(f"data.rewards is {name!r}, but takes module.function: for {name}.py, {name}.NAME.")
    missing = find(name)
    if not isinstance(missing, Missing):
        return
    home = source(missing.where) if missing.where else None
    if home is None:
        beside = sorted(path.stem for path in Path.cwd().glob("*.py"))
        there = did_you_mean(missing.what, beside) or (
            f" It has: {listed(f'{b}.py' for b in beside)}." if beside else ""
        )
        raise ConfigError(
            f"data.rewards: there is no {name}. No module {missing.what} is installed, and {Path.cwd()} has no "
            f"{missing.what}.py.{there}"
        )
    names = sorted(home.names())
    near = did_you_mean(missing.what, names).replace("mean ", f"mean {missing.where}.")
    there = f"\n  {missing.where} has: {listed(names)}." if names else ""
    raise ConfigError(f"data.rewards: {missing.where} has no {missing.what!r}.{near}{there}")
