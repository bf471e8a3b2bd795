"""Checkpoints as they lie on the disk: which can be read, and which a run can go on from exactly."""

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch

from gpo_lightning.errors import ConfigError
from gpo_lightning.runs.checksum import is_sealed, is_sound
from gpo_lightning.runs.identity import Identity, flat

_MADE_BY = {"_instantiator": "lightning.pytorch.cli.instantiate_module"}


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says of itself.

    Args:
        path: where it lies.
        iterations: finished iterations.
        steps: optimiser steps.
        between: written between two iterations, not in the middle of one.
        sharded: written by processes over which the weights lie spread.
        run: whose it is; ``None`` where it does not say.
        logged: what loggers had written by then; empty where it does not say.
    """

    path: Path
    iterations: int
    steps: int
    between: bool
    sharded: bool
    run: Identity | None = None
    logged: Mapping[str, Any] = field(default_factory=dict[str, Any])


def read_checkpoint(path: Path) -> Checkpoint:
    """Look into a checkpoint.

    Raises:
        ConfigError: the file is missing, truncated, or not a checkpoint of this trainer.
    """
    content = load_checkpoint(path)
    try:
        progress = content["loops"]["fit_loop"]["epoch_progress"]["current"]
        _ = content["state_dict"], content["optimizer_states"], content["RolloutDataModule"]
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"--ckpt_path: {path} is not a whole checkpoint of this trainer: it has no {error}. Training cannot go on "
            "from it."
        ) from error
    between = progress["processed"] == progress["ready"]
    sharded = bool(content.get("sharded", False))
    run = Identity.read(content["run"]) if content.get("run") else None
    return Checkpoint(
        path, int(progress["processed"]), int(content["global_step"]), between, sharded, run, content.get("logged", {})
    )


def load_checkpoint(path: Path) -> Mapping[str, Any]:
    """The tensors and primitives of a checkpoint; nothing in it is run.

    Raises:
        ConfigError: the file is missing, truncated, damaged, or no checkpoint.
    """
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make torch fail in any way it can
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"--ckpt_path: {path} cannot be read, it is truncated or no checkpoint: {first}") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"--ckpt_path: {path} is no checkpoint.")
    found = cast(Mapping[str, Any], content)
    # Rot may have taken the name of the entry as well as the mark, but not both.
    if ("run" in found or is_sealed(path)) and not is_sound(path):
        raise ConfigError(f"--ckpt_path: {path} is damaged: it is not what was written (its checksum says so).")
    return found


def newest_checkpoint(folders: Iterable[Path], run: str | None = None) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint from which a run goes on exactly, and why newer ones were passed over.

    Args:
        folders: where checkpoints lie.
        run: id of the run; checkpoints of others are passed over.
    """
    complaints: list[str] = []
    paths = {path.resolve(): path for folder in folders for path in folder.glob("*.ckpt")}
    for path in sorted(paths.values(), key=_progress, reverse=True):
        try:
            found = read_checkpoint(path)
        except ConfigError as error:
            complaints.append(str(error))
            continue
        if run is not None and found.run is not None and found.run.id != run:
            complaints.append(f"--ckpt_path: {path} is of another run.")
        elif not found.between:
            complaints.append(mid_iteration(path))
        else:
            return found, complaints
    return None, complaints


def _progress(path: Path) -> tuple[float, float, int, str]:
    """How far a run was, by the file's own account; a copy or a clock that was set back changes its time.

    What cannot be read is looked at first, and then complained of.
    """
    order = (path.stat().st_mtime_ns, path.name)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # reads no weights
        return (
            float(content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]),
            content["global_step"],
            *order,
        )
    except Exception:  # damaged bytes make torch fail in any way it can
        return math.inf, math.inf, *order


def mid_iteration(path: Path) -> str:
    return (
        f"--ckpt_path: {path} was written in the middle of an iteration, and the weights that made the iteration's "
        "rollouts are not in it. Go on from a checkpoint of an iteration's end; the journaled rollouts are used again, "
        "so only optimiser steps are repeated."
    )


def check_names(hyperparameters: Mapping[str, Any], given: Iterable[str] = ()) -> None:
    """Refuse a checkpoint that would decide which code runs where nobody configured anything.

    Args:
        hyperparameters: of the checkpoint, from which an object is to be made.
        given: names of those that the caller gives instead.

    Raises:
        ConfigError: it switches the code of foreign models on, or names a module that this program does not use.
    """
    left = {name: value for name, value in hyperparameters.items() if name not in set(given)}
    odd = {name: value for name, value in left.items() if name.startswith("_") and value != _MADE_BY.get(name)}
    if odd:
        raise ConfigError(f"The checkpoint says how an object is made of it, as this trainer never does: {odd!r:.200}.")
    for key, value in flat(left).items():
        top = str(value).partition(".")[0] if isinstance(value, str) and "." in value else ""
        if key.endswith("trust_remote_code") and value:
            raise ConfigError(
                f"The checkpoint asks for {key}, which runs code that comes with its base model. If you trust the "
                "model's authors, say so yourself: load_from_checkpoint(..., policy=PolicyConfig(..., "
                "trust_remote_code=True))."
            )
        if top.isidentifier() and top not in sys.modules and find_spec(top) is not None:
            raise ConfigError(
                f"The checkpoint names {value} as {key}, of a module that this program has not imported. Import it "
                f"first if you trust it, or give {key.partition('.')[0]} yourself."
            )
