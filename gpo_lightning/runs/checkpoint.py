"""Checkpoints as they lie on the disk: which can be read, and which a run can go on from exactly."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpo_lightning.errors import ConfigError


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says of itself.

    Args:
        path: where it lies.
        iterations: finished iterations.
        steps: optimiser steps.
        between: written between two iterations, not in the middle of one.
        sharded: written by processes over which the weights lie spread.
    """

    path: Path
    iterations: int
    steps: int
    between: bool
    sharded: bool


def read_checkpoint(path: Path) -> Checkpoint:
    """Look into a checkpoint.

    Raises:
        ConfigError: the file is missing, truncated, or not a checkpoint of this trainer.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        progress = content["loops"]["fit_loop"]["epoch_progress"]["current"]
        _ = content["state_dict"], content["optimizer_states"], content["RolloutDataModule"]
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"--ckpt_path: {path} cannot be read, it is truncated or no checkpoint: {first}") from error
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"--ckpt_path: {path} is not a whole checkpoint of this trainer: it has no {error}. Training cannot go on "
            "from it."
        ) from error
    between = progress["processed"] == progress["ready"]
    sharded = bool(content.get("sharded", False))
    return Checkpoint(path, int(progress["processed"]), int(content["global_step"]), between, sharded)


def newest_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint of a folder from which a run goes on exactly, and why newer ones were passed over."""
    complaints: list[str] = []
    newest_first = sorted(folder.glob("*.ckpt"), key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
    for path in newest_first:
        try:
            found = read_checkpoint(path)
        except ConfigError as error:
            complaints.append(str(error))
            continue
        if found.between:
            return found, complaints
        complaints.append(mid_iteration(path))
    return None, complaints


def mid_iteration(path: Path) -> str:
    return (
        f"--ckpt_path: {path} was written in the middle of an iteration, and the weights that made the iteration's "
        "rollouts are not in it. Go on from a checkpoint of an iteration's end; the journaled rollouts are used again, "
        "so only optimiser steps are repeated."
    )
