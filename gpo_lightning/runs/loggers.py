"""Loggers that write into the run's folder, and go on there without losing or doubling a point."""

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger

from gpo_lightning.errors import ConfigError
from gpo_lightning.runs.run import CHECKPOINTS, new_folder

_NAME = "run"
_ROWS = "metrics.csv"
_MLFLOWS_OWN = "file:./mlruns"
"""Where MLflow writes if nobody says where."""


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


def point_at(trainer: Trainer, folder: Path, run: str | None = None) -> None:
    """Have loggers and checkpoints go into the folder, where nothing else was said.

    Args:
        trainer: whose they are.
        folder: of the run.
        run: id of a run that may be taken up again, under which W&B goes on too.
    """
    for _, logger in _all_local(trainer):
        if logger._version is None:
            logger._root_dir = logger._save_dir = str(folder.parent.parent)
            logger._name, logger._version = folder.parent.name, folder.name
    for logger in cast(list[Any], trainer.loggers):
        if isinstance(logger, WandbLogger):
            _point_wandb(logger, folder, run)
        elif isinstance(logger, MLFlowLogger):
            _point_mlflow(logger, folder)
    for callback in cast(Any, trainer).callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
            callback.dirpath = str(folder / CHECKPOINTS)


def begin_logging(trainer: Trainer) -> None:
    """Have loggers that need a service, or a login, find out now whether they have it.

    Raises:
        ConfigError: one cannot begin; the message is its own.
    """
    for logger in cast(list[Any], trainer.loggers):
        if isinstance(logger, TensorBoardLogger | CSVLogger):
            continue
        try:
            _ = logger.experiment
        except Exception as error:  # whatever a service's library raises
            hint = " Or keep it here: WANDB_MODE=offline." if isinstance(logger, WandbLogger) else ""
            raise ConfigError(f"trainer.logger: {type(logger).__name__} cannot begin: {error}{hint}") from error


def _point_wandb(logger: Any, folder: Path, run: str | None) -> None:
    settings = logger._wandb_init
    if logger._experiment is not None:
        return  # it writes already
    if settings["dir"] in (None, "."):
        settings["dir"] = logger._save_dir = str(folder)
    if settings["id"] is None:
        settings["id"] = logger._id = run


def _point_mlflow(logger: Any, folder: Path) -> None:
    if logger._tracking_uri != _MLFLOWS_OWN:
        return
    from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

    logger._tracking_uri = f"file:{folder.absolute() / 'mlruns'}"
    logger._mlflow_client = MlflowClient(logger._tracking_uri)


def checkpoint_folders(trainer: Trainer) -> list[Path]:
    """Where checkpoints are kept, if the configuration says so."""
    callbacks = cast(Iterable[Any], cast(Any, trainer).callbacks)
    return [Path(each.dirpath) for each in callbacks if isinstance(each, ModelCheckpoint) and each.dirpath is not None]


def written(trainer: Trainer) -> dict[str, Any]:
    """How much loggers that have just saved wrote, and what Lightning has yet to tell them of the iteration.

    Every rank must call it.
    """
    scalars = {name: float(value) for name, value in trainer.logged_metrics.items()}
    files: dict[str, int] = {}
    for place, logger in _all_local(trainer):
        if isinstance(logger, TensorBoardLogger):
            files |= {f"{place}/{path.name}": path.stat().st_size for path in _events(logger)}
        else:
            files[f"{place}/{_ROWS}"] = len(_rows(logger))
    return {"files": files, "scalars": scalars | {"epoch": trainer.current_epoch}}


def go_on_at(trainer: Trainer, step: int, logged: Mapping[str, Any]) -> None:
    """Have loggers know what they knew when a checkpoint was written, for what came after is logged again.

    Lightning logs an iteration's scalars after its checkpoint, at the step before, and not when it goes on from there.

    Args:
        trainer: whose loggers they are.
        step: optimiser steps at the checkpoint.
        logged: what :func:`written` said then.
    """
    for place, logger in _all_local(trainer):
        if isinstance(logger, TensorBoardLogger):
            for path in _events(logger):
                size = logged["files"].get(f"{place}/{path.name}")
                path.unlink() if size is None else os.truncate(path, min(size, path.stat().st_size))
        else:
            _keep_rows(logger, logged["files"].get(f"{place}/{_ROWS}", 0))
        if logged["scalars"]:
            logger.log_metrics(logged["scalars"], step=step - 1)


def _events(logger: TensorBoardLogger) -> list[Path]:
    return sorted(Path(logger.log_dir).glob("events.out.tfevents.*"))


def _rows(logger: CSVLogger) -> list[dict[str, str]]:
    path = Path(logger.log_dir) / _ROWS
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _keep_rows(logger: Any, count: int) -> None:
    """Lightning's CSV logger deletes the file that it finds."""
    rows = _rows(logger)[:count]
    writer = logger.experiment
    writer.metrics_keys = sorted(rows[0]) if rows else []
    if rows:
        with (Path(logger.log_dir) / _ROWS).open("w", newline="") as file:
            table = csv.DictWriter(file, writer.metrics_keys)
            table.writeheader()
            table.writerows(rows)


def _all_local(trainer: Trainer) -> list[tuple[int, Any]]:
    """Loggers that write files here, with their places among all."""
    return [
        (place, logger)
        for place, logger in enumerate(trainer.loggers)
        if isinstance(logger, TensorBoardLogger | CSVLogger)
    ]


def _local(trainer: Trainer) -> Any:
    return next((logger for _, logger in _all_local(trainer)), None)
