"""What ``--ckpt_path last`` means: the latest run in the logger's folder, and the newest checkpoint in it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lightning import Trainer

from gpo_lightning.runs.checkpoint import Checkpoint, newest_checkpoint

JOURNAL = "journal"


@dataclass(frozen=True)
class LastRun:
    """A run to go on with.

    Args:
        directory: its folder.
        version: the logger's number for it; ``None`` where there is no logger.
        checkpoint: to go on from; ``None`` where there is none yet.
        complaints: why newer checkpoints were passed over.
    """

    directory: Path
    version: int | None
    checkpoint: Checkpoint | None
    complaints: tuple[str, ...]


def find_last_run(trainer: Trainer) -> LastRun | None:
    """The latest run that left a checkpoint or journaled rollouts behind."""
    for directory, version in _runs(trainer):
        checkpoint, complaints = newest_checkpoint(directory / "checkpoints")
        if checkpoint is not None or complaints or any((directory / JOURNAL).glob("*")):
            return LastRun(directory, version, checkpoint, tuple(complaints))
    return None


def go_on_in(trainer: Trainer, version: int) -> None:
    """Have the loggers write where they wrote before."""
    for logger in _numbered(trainer):
        logger._version = version


def _runs(trainer: Trainer) -> Sequence[tuple[Path, int | None]]:
    """Folders of runs, the latest first."""
    loggers = _numbered(trainer)
    if not loggers:
        return [(Path(trainer.default_root_dir), None)]
    root = Path(cast(str, loggers[0].root_dir))
    numbered = [(path, re.fullmatch(r"version_(\d+)", path.name)) for path in root.glob("version_*")]
    found = [(path, int(match[1])) for path, match in numbered if match]
    return sorted(found, key=lambda run: run[1], reverse=True)


def _numbered(trainer: Trainer) -> list[Any]:
    """Loggers that would number their folder."""
    loggers = cast(Iterable[Any], trainer.loggers)
    return [logger for logger in loggers if getattr(logger, "_version", 0) is None and hasattr(logger, "root_dir")]
