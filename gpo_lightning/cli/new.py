"""``gpo new my_project``: a folder with a configuration, a reward and data, which runs as it is."""

from argparse import ArgumentParser
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from gpo_lightning.errors import ConfigError, StorageError

_SUFFIX = ".txt"
"""Templates have it so that they are never taken for code or data of the package."""


def new(arguments: Sequence[str]) -> None:
    """Make the folder.

    Raises:
        ConfigError: there is one already with something in it.
        StorageError: it cannot be written.
    """
    if not arguments:
        raise ConfigError("gpo new needs the name of a folder to make: gpo new my_project.")
    parser = ArgumentParser("gpo new", description="Make a project that runs as it is.")
    parser.add_argument("folder", type=Path, help="to make")
    folder = parser.parse_args(arguments).folder
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already. Give the name of a folder to make.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for template in files("gpo_lightning").joinpath("cli", "project").iterdir():
            if template.name.endswith(_SUFFIX):
                text = template.read_text(encoding="utf-8")
                (folder / template.name.removesuffix(_SUFFIX)).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error}.") from error
    print(f"Made {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}. What to do next:\n")
    print(f"  cd {folder}\n  gpo fit --config config.yaml")
