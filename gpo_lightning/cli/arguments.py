"""A command's arguments in full: run folders, configurations' names and short forms give way to what they stand for."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpo_lightning.cli.settings import Option, expanded, options, value_of
from gpo_lightning.cli.shipped import folder, names
from gpo_lightning.cli.short_names import spelt_out_value
from gpo_lightning.errors import ConfigError

_CONFIG = ("--config", "-c")
_SHORT = ("-c", "-h")
_MODEL = ("--model", "--model.policy", "--model.policy.base")
_ASKED = ("--question", "--prompt", "--answer", "--transcripts")
_COLUMNS = "--columns."
_KEPT = ("last", "best")
_TRANSCRIPTS = "gpo_lightning.problems.Transcripts"
_ROWS = "gpo_lightning.problems.Rows"


def prepared(command: str, arguments: Sequence[str]) -> list[str]:
    """Arguments that the parser takes.

    Args:
        command: such as ``explore``.
        arguments: what follows it.

    Raises:
        ConfigError: a folder that holds no run, a configuration that does not exist, options that need others.
    """
    given = list(options(arguments))
    folders = [option.value for option in given if not option.name]
    named = [option for option in given if option.name]
    if len(folders) > 1:
        raise ConfigError(f"gpo {command} takes one run folder, and options with two dashes: {' '.join(folders)}?")
    before, after = _of_run(command, folders[0], named) if folders else _of_run_option(command, named)
    if short := [option.name for option in named if option.name[:2] != "--" and option.name not in _SHORT]:
        raise ConfigError(f"{short[0]}: options have two dashes: -{short[0]}.")
    asked = [option for option in named if _is_asked(option)]
    if asked and command != "explore":
        raise ConfigError(f"{asked[0].name} is an option of gpo explore, not of gpo {command}.")
    if asked:
        named = [option for option in named if option not in asked]
        begin, end = _asked(asked, named, bool(folders))
        before, after = [*begin, *before], [*after, *end]
    if folders and command != "fit":
        named = [option for option in named if option.name != "--ckpt_path" or option.value not in _KEPT]
    return [*before, *after, *(word for option in named for word in _spelt_out(option))]


def latest_checkpoint(run: Path) -> Path | None:
    """The checkpoint with a run's latest weights."""
    found = sorted((run / "checkpoints").glob("*.ckpt"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    return found[-1] if found else None


def _there_are(run: Path) -> str:
    names = sorted(path.name for path in (run / "checkpoints").glob("*.ckpt"))
    return f" There are: {', '.join(names)}." if names else " There are none."


def run_folder(given: str) -> Path:
    """A run's folder; of a folder of runs, the latest one's.

    Raises:
        ConfigError: there is no run.
    """
    path = Path(given)
    if (path / "config.yaml").is_file():
        return path
    # Beside runs lie the folders of what was measured of them, which have no identity.
    runs = [
        run for run in path.glob("version_*") if all((run / name).is_file() for name in ("config.yaml", "run.json"))
    ]
    if runs:
        return max(runs, key=lambda run: int(re.sub(r"\D", "", run.name) or 0))
    if not path.exists():
        key, equals, value = given.partition("=")
        meant = f" Did you mean --{key} {value}?" if equals and "." in key else ""
        meant = f" Did you mean --config {given}?" if given in names() else meant
        raise ConfigError(
            f"there is no {given}.{meant} Give a run's folder, or options with two dashes (--config ...)."
        )
    if path.is_file():
        raise ConfigError(
            f"{given} is a file, and a run is a folder. A configuration goes behind --config: --config {given}."
        )
    raise ConfigError(f"{given} is no run's folder: there is no config.yaml in it.")


def _of_run(command: str, given: str, named: Sequence[Option]) -> tuple[list[str], list[str]]:
    """What a run's folder stands for: arguments to put before and after the user's configurations."""
    run = run_folder(given)
    configuration = ["--config", str(run / "config.yaml")]
    if command == "fit":
        return configuration, ["--run", str(run)]
    after: list[str] = []
    names = {option.name: option.value for option in named}
    if (word := names.get("--ckpt_path")) in _KEPT:
        kept = run / "checkpoints" / f"{word}.ckpt"
        if not kept.is_file():
            why = " Nothing was evaluated." if word == "best" else ""
            raise ConfigError(f"--ckpt_path {word}: there is no {kept}.{why}{_there_are(run)}")
        after += ["--ckpt_path", str(kept)]
    elif word is None:
        checkpoint = latest_checkpoint(run)
        if checkpoint is None:
            raise ConfigError(
                f"{run} has no checkpoint (checkpoints/*.ckpt), so it has no trained weights. For its configuration "
                f"with the weights it began with: gpo {command} --config {run / 'config.yaml'}."
            )
        after += ["--ckpt_path", str(checkpoint)]
    if command in ("explore", "export") and "--output" not in names:
        after += ["--output", str(run / command)]
    return configuration, after


def _of_run_option(command: str, named: Sequence[Option]) -> tuple[list[str], list[str]]:
    """``gpo fit --run FOLDER`` alone goes on with the configuration that the run has."""
    runs = [option.value for option in named if option.name == "--run"]
    if command != "fit" or not runs or any(option.name in _CONFIG for option in named):
        return [], []
    configuration = Path(runs[-1]) / "config.yaml"
    return (["--config", str(configuration)] if configuration.is_file() else []), []


def _is_asked(option: Option) -> bool:
    return option.name in _ASKED or option.name.startswith(_COLUMNS)


def _asked(asked: Sequence[Option], named: Sequence[Option], of_run: bool) -> tuple[list[str], list[str]]:
    """What a question, or a file of transcripts, on the command line stands for."""
    values = {option.name: option.value for option in asked}
    if not of_run and not any(option.name in (*_CONFIG, *_MODEL) for option in named):
        raise ConfigError("whose steps? Name a model, gpo explore --model NAME (a hub id or a directory), or a run.")
    what = [name for name in ("--question", "--prompt", "--transcripts") if name in values]
    if len(what) > 1:
        raise ConfigError(f"give one of {' and '.join(what)}, not both.")
    columns = {option.name.removeprefix(_COLUMNS): option.value for option in asked if option.name.startswith(_COLUMNS)}
    end: list[str] = []
    if "--transcripts" in values:
        path = values["--transcripts"]
        if not Path(path).is_file():
            raise ConfigError(f"--transcripts: there is no file {path}.")
        end += _option("--labelled", {"class_path": _TRANSCRIPTS, "init_args": {"path": path, "columns": columns}})
        # Every engine and plan belongs to a data module, which has problems; here they are those of the transcripts.
        rows = {"class_path": _ROWS, "init_args": {"train": [{"prompt": "-", "answer": "-"}]}}
        end += _option("--data.problems", rows)
    elif what and "--answer" in values:
        if columns:
            raise ConfigError("--columns names the columns of --transcripts.")
        row = {what[0].removeprefix("--"): values[what[0]], "answer": values["--answer"]}
        # Held out as well, that it is not held out from what is explored.
        end += _option("--data.problems", {"class_path": _ROWS, "init_args": {"train": [row], "heldout": [row]}})
    else:
        raise ConfigError(
            "give --question (or --prompt, put as it is) with --answer, by which responses are graded; or a file of "
            "responses, --transcripts FILE."
        )
    name = "transcripts" if "--transcripts" in values else "question"
    return (["--config", str(folder() / "explore" / f"{name}.yaml")], end)


def _spelt_out(option: Option) -> tuple[str, ...]:
    if option.name in _CONFIG:
        return ("--config", expanded(option.value))
    name = "--model.policy" if option.name == "--model" and _is_name(option.value) else option.name
    key = name.removeprefix("--")
    value = value_of(option.value)
    spelt = spelt_out_value(key, value)
    if spelt is value:
        return option.written if name == option.name else (name, option.value)
    return tuple(_option(name, spelt)) if not isinstance(spelt, str) else (name, spelt)


def _is_name(value: str) -> bool:
    return not value.lstrip().startswith("{") and Path(value).suffix not in (".yaml", ".yml")


def _option(name: str, value: Any) -> list[str]:
    return [name, json.dumps(value)]
