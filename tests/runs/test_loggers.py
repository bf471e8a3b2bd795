"""Loggers write into the run's folder unless they were told where."""

from pathlib import Path
from typing import Any

import pytest
from lightning import Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger

from gpo_lightning.errors import ConfigError
from gpo_lightning.runs.loggers import begin_logging, point_at


def test_wandb_writes_into_the_runs_folder_and_goes_on_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", True)
    loggers = [WandbLogger(), WandbLogger(save_dir="mine", id="my-id")]
    point_at(Trainer(logger=loggers, accelerator="cpu"), tmp_path, "run-id")
    told = [(logger._wandb_init["dir"], logger.save_dir, logger._wandb_init["id"]) for logger in loggers]
    assert told == [(str(tmp_path), str(tmp_path), "run-id"), ("mine", "mine", "my-id")]
    assert all(logger._wandb_init["resume"] == "allow" for logger in loggers)


def test_mlflow_writes_into_the_runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    loggers = [MLFlowLogger(tracking_uri=None), MLFlowLogger(tracking_uri=f"file:{tmp_path / 'mine'}")]
    point_at(Trainer(logger=loggers, accelerator="cpu"), Path("runs/x"))
    assert [logger.save_dir for logger in loggers] == [str(tmp_path / "runs/x/mlruns"), str(tmp_path / "mine")]


class LoggedOut(Logger):
    """Of a service that one must be logged in to."""

    @property
    def name(self) -> str:
        return "logged out"

    @property
    def version(self) -> str:
        return "0"

    @property
    def experiment(self) -> Any:
        raise RuntimeError("No API key configured.")

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        """Nowhere."""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nowhere."""


def test_a_logger_that_cannot_begin_says_so_before_the_model_is_loaded() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.logger: LoggedOut cannot begin: No API key configured\."):
        begin_logging(Trainer(logger=LoggedOut(), accelerator="cpu"))
