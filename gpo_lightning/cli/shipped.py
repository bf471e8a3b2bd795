"""Configurations that come with the package, by name: ``loss/dpo`` is ``configs/loss/dpo.yaml``."""

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from gpo_lightning.cli.words import did_you_mean
from gpo_lightning.errors import ConfigError

_NO_NAME = "configs/"
_SENTENCE_ENDS = re.compile(r"(?<=[a-z0-9)]{2}\.) (?=[A-Z`])")


def folder() -> Path:
    """Where they lie in the installed package."""
    return Path(str(files("gpo_lightning").joinpath("configs")))


def names() -> list[str]:
    """All names, those of whole runs first."""
    found = [path.relative_to(folder()).with_suffix("").as_posix() for path in folder().rglob("*.yaml")]
    return sorted(found, key=lambda name: ("/" in name, name))


def configuration(given: str) -> Path:
    """The file meant by ``--config``: one that exists, else the shipped one of that name.

    Raises:
        ConfigError: there is neither.
    """
    if not given:
        raise ConfigError("--config needs a file, or the name of a configuration that comes with the package.")
    path = Path(given)
    if path.is_file():
        return path
    name = given.removeprefix("./").removeprefix(_NO_NAME).removesuffix(".yaml").removesuffix(".yml")
    if name in names():
        return folder() / f"{name}.yaml"
    if (path / "config.yaml").is_file():
        return path / "config.yaml"
    if path.is_dir():
        raise ConfigError(f"--config: {given} is a folder without a config.yaml. Name a file.")
    raise ConfigError(
        f"--config: there is no file {given}, and no configuration of that name comes with the package."
        f"{did_you_mean(name, names())} `gpo configs` lists them."
    )


def described(wanted: str = "") -> Iterator[str]:
    """A line for each: its name and what it is for.

    Args:
        wanted: only those with this in name or description.
    """
    rows = [(name, _description(folder() / f"{name}.yaml")) for name in names()]
    rows = [row for row in rows if wanted.lower() in f"{row[0]} {row[1]}".lower()]
    width = max((len(name) for name, _ in rows), default=0)
    yield from (f"{name:<{width}}  {said}" for name, said in rows)


def _description(file: Path) -> str:
    """The comment at the beginning, as far as its first sentence goes."""
    comment: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# ") or line.startswith("#  "):
            break
        comment.append(line.removeprefix("# ").strip())
        if line.rstrip().endswith((".", ":")):
            break
    return _SENTENCE_ENDS.split(" ".join(comment))[0]
