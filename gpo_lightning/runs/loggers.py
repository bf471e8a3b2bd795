"""Loggers that write into the run's folder, and go on there without losing or doubling a point."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from gpo_lightning.runs.resume import CHECKPOINTS
from gpo_lightning.runs.run import new_folder

_NAME = "run"
METRICS = "metrics"


def root_or_folder(trainer: Trainer) -> Path:
    """The folder of the folders of runs like this one, or the folder of the one run that the configuration names."""
    logger = _local(trainer)
    if logger is None:
        return Path(trainer.default_root_dir) / "runs" / _NAME
    return Path(logger.root_dir if logger._version is None else logger.log_dir)


def folder_of_run(trainer: Trainer) -> Path:
    """The folder that the configuration names, or a new one."""
    logger = _local(trainer)
    named = logger is not None and logger._version is not None
    return root_or_folder(trainer) if named else new_folder(root_or_folder(trainer))


def point_at(trainer: Trainer, folder: Path) -> None:
    """Have loggers and checkpoints go into the folder, where nothing else was said."""
    for logger in _all_local(trainer):
        if logger._version is None:
            logger._root_dir = logger._save_dir = str(folder.parent.parent)
            logger._name, logger._version = folder.parent.name, folder.name
    for callback in cast(Any, trainer).callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
            callback.dirpath = str(folder / CHECKPOINTS)


def checkpoint_folders(trainer: Trainer) -> list[Path]:
    """Where checkpoints are kept, if the configuration says so."""
    callbacks = cast(Iterable[Any], cast(Any, trainer).callbacks)
    return [Path(each.dirpath) for each in callbacks if isinstance(each, ModelCheckpoint) and each.dirpath is not None]


def go_on_at(trainer: Trainer, folder: Path, step: int) -> None:
    """Forget what was logged from the last optimiser step before a checkpoint on, for it is logged again.

    Lightning logs an iteration's metrics after its checkpoint, at the step before; a kill may have taken them, and the
    iteration's own file has them still. What else is logged at the checkpoint's step is logged by whoever did so.
    """
    for logger in _all_local(trainer):
        if isinstance(logger, TensorBoardLogger):
            cast(Any, logger)._kwargs["purge_step"] = max(0, step - 1)
        else:
            _keep_rows(logger, step - 1)
    for name in sorted((folder / METRICS).glob("iteration-*.json")):
        said = json.loads(name.read_text())
        if said.pop("step") == step:
            for logger in _all_local(trainer):
                logger.log_metrics(said, step=step - 1)


def _keep_rows(logger: Any, step: int) -> None:
    """Lightning's CSV logger deletes the file that it finds."""
    path = Path(logger.log_dir) / "metrics.csv"
    if not path.exists():
        return
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["step"]) < step]
    writer = logger.experiment
    writer.metrics_keys = sorted(rows[0]) if rows else []
    if rows:
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, writer.metrics_keys)
            table.writeheader()
            table.writerows(rows)


def _all_local(trainer: Trainer) -> list[Any]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger | CSVLogger)]


def _local(trainer: Trainer) -> Any:
    return next(iter(_all_local(trainer)), None)
