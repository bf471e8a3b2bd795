"""The ``gpo`` command: what it is asked, and whether that can work, before the seconds that imports take."""

import errno
import gc
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from gpo_lightning import __version__
from gpo_lightning.cli.arguments import prepared
from gpo_lightning.cli.check import check
from gpo_lightning.cli.commands import COMMANDS, CONFIGURED, help_text, keys_of, without_other_commands
from gpo_lightning.cli.files import check_files
from gpo_lightning.cli.functions import check_rewards
from gpo_lightning.cli.others_words import COMMANDS as OTHERS_COMMANDS
from gpo_lightning.cli.others_words import here
from gpo_lightning.cli.ranges import check_ranges
from gpo_lightning.cli.settings import Setting, settings
from gpo_lightning.cli.short_names import spelt_out_setting
from gpo_lightning.cli.words import did_you_mean
from gpo_lightning.errors import ConfigError, GPOError, Interrupted, RankLost, printable

_FAILED = 1
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the ``gpo`` command."""
    # Class paths may name modules beside the configuration, as they could under `python -m`.
    sys.path.append(str(Path.cwd()))
    try:
        _run(args)
    except Interrupted as stop:
        print(f"gpo: {printable(str(stop))}", file=sys.stderr)
        sys.exit(stop.status)
    except RankLost as lost:
        print(f"gpo: {printable(str(lost))}", file=sys.stderr, flush=True)
        # On the way out torch would say goodbye to ranks that are gone, and may wait for them.
        os._exit(_FAILED)
    except GPOError as error:
        sys.exit(f"gpo: {printable(str(error))}")
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        sys.exit(
            f"gpo: {printable(str(error))}. What was finished before is safe. Make room, then give the same command "
            "again; a fit goes on with --ckpt_path last."
        )


def _run(args: Sequence[str] | None) -> None:
    given = list(sys.argv[1:] if args is None else args)
    match given:  # pyright: ignore[reportMatchNotExhaustive]
        case [] | ["-h" | "--help" | "help"]:
            print(help_text(), end="")
        case ["--version" | "-V"]:
            print(f"gpo_lightning {__version__}")
        case ["configs", *rest]:
            from gpo_lightning.cli.listing import configs

            configs(rest)
        case ["new", *rest]:
            from gpo_lightning.cli.new import new

            new(rest)
        case ["report", *rest]:
            from gpo_lightning.cli.report import report

            report(rest)
        case [command, *rest] if command in CONFIGURED:
            _configured(command, rest, as_program=args is None)
        case [command, *_]:
            near = here(OTHERS_COMMANDS, command) or did_you_mean(command, COMMANDS)
            raise ConfigError(f"there is no command {command!r}.{near}\n  Commands: {', '.join(COMMANDS)}.")


def all_set(command: str, arguments: Sequence[str]) -> list[Setting]:
    """What the arguments of a command set, in the forms that the parser takes."""
    found = [spelt_out_setting(each) for each in settings(arguments)]
    return [each if each.key else replace(each, value=without_other_commands(each.value, command)) for each in found]


@contextmanager
def _not_collecting() -> Generator[None]:
    """Within: no garbage is looked for. Parsed source is all kept, and looking through it takes as long as parsing."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _configured(command: str, rest: Sequence[str], as_program: bool) -> None:
    """A command that takes a configuration: what can be told without imports first."""
    arguments = prepared(command, rest)
    foreign: list[str] = []
    if not {"-h", "--help"}.intersection(arguments) and not any(each.endswith(".help") for each in arguments):
        with _not_collecting():
            found = all_set(command, arguments)
            foreign = check(keys_of(command), found)
            check_ranges(keys_of(command), found)
            check_files(command, found)
            check_rewards(found)
    if as_program:
        sys.argv[1:] = [command, *arguments]  # which the other ranks of this machine are started with
    from gpo_lightning.cli.gpo_cli import run

    run(None if as_program else [command, *arguments], foreign)
