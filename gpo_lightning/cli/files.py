"""Files that a configuration names, looked for before a model is loaded for them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from zipfile import is_zipfile

from gpo_lightning.cli.settings import Setting
from gpo_lightning.errors import ConfigError

_ABSENT = object()
_ROLLOUTS = {"problem_id", "prompt", "samples", "curves"}


def check_files(command: str, settings: Sequence[Setting]) -> None:
    """Refuse to start without what the configuration names.

    Raises:
        ConfigError: a key that must be set is not; a file is missing, or cannot be what it should be.
    """
    needed = [key for key in ("data.problems", "model.loss") if last_value(settings, key) is None]
    if needed:
        asked = " Or ask one question: --question ... --answer ..." if command == "explore" else ""
        raise ConfigError(
            f"gpo {command} needs {' and '.join(needed)}.{asked} Begin with a configuration, such as --config "
            "quickstart (`gpo configs` lists those that come with the package), or with a project of your own: gpo new "
            "my_project."
        )
    _check_checkpoint(command, settings)
    _check_saved(settings)
    _check_paths(settings)


def _check_checkpoint(command: str, settings: Sequence[Setting]) -> None:
    path = last_value(settings, "ckpt_path")
    if path in ("best", "last") and command != "fit":
        raise ConfigError(
            f"--ckpt_path {path} is of a run, and none was named. Name it: gpo {command} RUN --ckpt_path {path}."
        )
    if path == "best":
        raise ConfigError("--ckpt_path best: a run goes on from its last checkpoint, --ckpt_path last.")
    if not isinstance(path, str) or ":" in path or path in ("last", "hpc"):
        return
    if not Path(path).exists():
        advice = " To go on with the latest run: --ckpt_path last." if command == "fit" else ""
        raise ConfigError(f"--ckpt_path: there is no {path}.{advice}")
    if Path(path).is_file() and not is_zipfile(path):
        raise ConfigError(f"--ckpt_path: {path} cannot be read, it is truncated or no checkpoint.")


def _check_saved(settings: Sequence[Setting]) -> None:
    path = last_value(settings, "data.saved")
    if not isinstance(path, str):
        return
    if not Path(path).is_file():
        raise ConfigError(
            f"data.saved: there is no file {path}. `gpo explore` writes one, rollouts.parquet in its --output."
        )
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = set(cast(Any, pq).read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(
            f"data.saved: {path} is no Parquet file. `gpo explore` writes one, rollouts.parquet in its --output."
        ) from error
    if absent := sorted(_ROLLOUTS - columns):
        raise ConfigError(
            f"data.saved: {path} holds no rollouts: it has no column {absent[0]}. `gpo explore` writes a file that "
            "does, rollouts.parquet in its --output."
        )


def _check_paths(settings: Sequence[Setting]) -> None:
    run = last_value(settings, "run")
    if isinstance(run, str) and not Path(run).is_dir():
        raise ConfigError(f"--run: there is no folder {run}.")
    makes = last_value(settings, "warm_start.makes")
    for key in ("model.policy.base", "model.policy.adapter"):
        path = last_value(settings, key)
        if isinstance(path, str) and path != makes and _is_path(path) and not Path(path).expanduser().exists():
            raise ConfigError(f"{key}: there is no {path}. Give a directory that exists, or a hub id (owner/name).")
    for name in ("train", "heldout", "path"):
        path = last_value(settings, f"data.problems.{name}")
        if isinstance(path, str) and _is_path(path) and not Path(path).expanduser().exists():
            raise ConfigError(
                f"data.problems.{name}: there is no {path}. Give a path that exists, or a hub id (owner/name)."
            )


def _is_path(text: str) -> bool:
    return text.startswith(("/", "./", "../", "~")) or Path(text).suffix in (".jsonl", ".json", ".csv", ".parquet")


def last_value(settings: Sequence[Setting], key: str) -> Any:
    """What a key was set to last; ``None`` where it was not."""
    found: Any = None
    for setting in settings:
        value = _within(setting, key)
        found = found if value is _ABSENT else value
    return found


def _within(setting: Setting, key: str) -> Any:
    names = [name for name in setting.key.split(".") if name and name != "init_args"]
    wanted = key.split(".")
    if names[: len(wanted)] == wanted:
        return setting.value if names == wanted else {}
    if wanted[: len(names)] != names:
        return _ABSENT
    value = setting.value
    for name in wanted[len(names) :]:
        if not isinstance(value, Mapping):
            return _ABSENT
        members = cast(Mapping[str, Any], value)
        if name not in members and isinstance(members.get("init_args"), Mapping):
            members = members["init_args"]
        if name not in members:
            return _ABSENT
        value = members[name]
    return value
