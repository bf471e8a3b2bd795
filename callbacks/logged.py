"""The same for every logger: histograms, tables and the configuration, each in the form its logger has for it.

| logger | histograms | tables | configuration |
|---|---|---|---|
| TensorBoard | histograms | text | hparams |
| W&B | histograms | tables | config |
| MLflow | ``histograms/NAME-STEP.json`` | ``tables/NAME-STEP.json`` | params, ``configuration.json`` |
| CSV | ``histograms.csv`` | ``NAME.csv`` | ``hparams.yaml`` |

Other loggers get the configuration, and what else they have a method of Lightning's for.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from gpo_lightning.runs.file_names import file_name

Row = Sequence[str | int | float | None]
_BINS = 20


def log_histograms(trainer: Trainer, values: Mapping[str, Sequence[float]]) -> None:
    """Distributions of this iteration, on the first rank."""
    for logger in _loggers(trainer):
        for name, own in values.items():
            _histogram(logger, name, own, trainer.global_step)


def log_table(trainer: Trainer, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Rows of this iteration, on the first rank."""
    for logger in _loggers(trainer) if rows else ():
        _table(logger, name, columns, rows, trainer.global_step)


def log_configuration(loggers: Iterable[Logger], configuration: Mapping[str, Any]) -> None:
    """The whole configuration, by dotted key."""
    for logger in loggers:
        logger.log_hyperparams(dict(configuration))
        if isinstance(logger, MLFlowLogger):  # whose parameters are cut at 250 characters
            _mlflow(logger).log_dict(logger.run_id, dict(configuration), "configuration.json")


def _loggers(trainer: Trainer) -> list[Logger]:
    return trainer.loggers if trainer.is_global_zero else []


def _histogram(logger: Logger, name: str, values: Sequence[float], step: int) -> None:
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_histogram(name, np.asarray(values), global_step=step)
    elif isinstance(logger, WandbLogger):
        import wandb

        logger.log_metrics({name: cast(Any, wandb).Histogram(list(values))}, step=step)
    elif isinstance(logger, MLFlowLogger):
        counts, edges = np.histogram(values, _BINS)
        content = {"name": name, "step": step, "edges": edges.tolist(), "counts": counts.tolist()}
        _mlflow(logger).log_dict(logger.run_id, content, f"histograms/{_file(name)}-{step:06d}.json")
    elif isinstance(logger, CSVLogger):
        counts, edges = np.histogram(values, _BINS)
        bins = zip(edges.tolist(), edges[1:].tolist(), counts.tolist(), strict=False)
        rows = [(name, step, low, high, count) for low, high, count in bins]
        _append(Path(logger.log_dir) / "histograms.csv", ("name", "step", "low", "high", "count"), rows)


def _table(logger: Logger, name: str, columns: Sequence[str], rows: Sequence[Row], step: int) -> None:
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_text(name, _markdown(columns, rows), global_step=step)
    elif isinstance(logger, WandbLogger):
        logger.log_table(name, columns=list(columns), data=[list(row) for row in rows], step=step)
    elif isinstance(logger, MLFlowLogger):
        content = {"columns": list(columns), "data": [list(row) for row in rows]}
        _mlflow(logger).log_dict(logger.run_id, content, f"tables/{_file(name)}-{step:06d}.json")
    elif isinstance(logger, CSVLogger):
        _append(Path(logger.log_dir) / f"{_file(name)}.csv", ("step", *columns), [(step, *row) for row in rows])


def _markdown(columns: Sequence[str], rows: Sequence[Row]) -> str:
    def line(cells: Sequence[Any]) -> str:
        shown = (f"{cell:.3g}" if isinstance(cell, float) else "" if cell is None else str(cell) for cell in cells)
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", "<br>") for cell in shown) + " |"

    return "\n".join([line(columns), "|---" * len(columns) + "|", *map(line, rows)])


def _append(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([[_plain(cell) for cell in row] for row in ([columns, *rows] if fresh else rows)])


def _plain(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: what a policy wrote would run where the file is opened."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def _file(name: str) -> str:
    return file_name(name.replace("/", "-"))


def _mlflow(logger: MLFlowLogger) -> Any:
    return logger.experiment
