"""``gpo configs``: the configurations that come with the package, a line each."""

from argparse import ArgumentParser
from collections.abc import Sequence

from gpo_lightning.cli.shipped import described, folder
from gpo_lightning.errors import ConfigError


def configs(arguments: Sequence[str]) -> None:
    """List them.

    Raises:
        ConfigError: none has the word that was asked for.
    """
    parser = ArgumentParser("gpo configs", description="The configurations that come with the package, for --config.")
    parser.add_argument("word", nargs="?", default="", help="only those with this word in name or description")
    word = parser.parse_args(arguments).word
    lines = list(described(word))
    if not lines:
        raise ConfigError(f"no configuration has {word!r} in its name or description. `gpo configs` lists all.")
    print("\n".join(lines))
    print(f"\nGive a name to --config; files in {folder()}")
