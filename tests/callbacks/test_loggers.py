"""TensorBoard, CSV, W&B (offline) and MLflow (file store) get the same of a run."""

import csv
import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from gpo_lightning import GPOModule, GPOTrainer, RolloutDataModule
from gpo_lightning.callbacks import BenchmarkEvaluation, ComputeLog, MetricsLog, RolloutLog, StepAdvantages
from gpo_lightning.callbacks.scalars import RECORDS, meaning
from gpo_lightning.critical import Newline
from gpo_lightning.engines import Sampling, Transformers
from gpo_lightning.losses import GRPO
from gpo_lightning.losses.parts import KL
from gpo_lightning.problems import ModularChains
from gpo_lightning.rollouts import RolloutPlan

TABLES = {"rollouts/completions", "rollouts/in_flight"}
NAMED = [
    "rollouts/entropy",
    "train/learning_rate",
    "rewards/reward",
    "rewards/reward_spread",
    "rollouts/tokens_sample",
    "rollouts/truncated",
    "rollouts/uniform_groups",
    "train/reference_kl",
    "train/rollout_kl",
    "train/ratio_max",
    "train/clip_fraction",
    "compute/tokens_per_second",
    "compute/tokens_sample",
    "compute/tokens_probe",
    "compute/seconds_sample",
    "compute/seconds_train",
    "compute/tokens_per_useful_group",
    "eval/heldout/accuracy",
    "critical/position_mean",
]
"""What the issue of loggers asks for, by our names."""


@pytest.fixture(scope="module")
def loggers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A run of two iterations on the embedded model, logged by every logger that is installed."""
    folder = tmp_path_factory.mktemp("logged")
    made: dict[str, Any] = {"tensorboard": TensorBoardLogger(folder / "tb"), "csv": CSVLogger(folder / "csv")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions warn of it, or refuse it without this
        for name, make in {
            "wandb": lambda: WandbLogger(save_dir=folder, offline=True, project="gpo"),
            "mlflow": lambda: MLFlowLogger("gpo", tracking_uri=f"file:{folder / 'mlruns'}"),
        }.items():
            try:
                made[name] = make()
            except ModuleNotFoundError:
                continue
        _fit(list(made.values()))
        if "wandb" in made:
            made["wandb"].experiment.finish()
        yield made | {"folder": folder}


def _fit(loggers: list[Logger]) -> None:
    trainer = GPOTrainer(
        max_epochs=2,
        accelerator="cpu",
        logger=loggers,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[
            BenchmarkEvaluation(every_n_epochs=1, on_start=False, max_problems=2),
            StepAdvantages(),
            RolloutLog(),
            ComputeLog(),
            MetricsLog(),
        ],
    )
    trainer.settings = {"model.loss.kl.beta": 0.01, "trainer.max_epochs": 2}
    data = RolloutDataModule(
        ModularChains(steps=8, train_size=64, heldout_size=8),
        Transformers(),
        RolloutPlan(problems=6, group_size=4, resets=4),
        Sampling(96),
        Newline(min_tokens=4),
    )
    trainer.fit(GPOModule(GRPO(kl=KL(0.01)), policy="tiny"), data)


def installed(loggers: dict[str, Any], name: str) -> Any:
    if name not in loggers:
        pytest.skip(f"{name} is not installed (pip install 'gpo-lightning[{name}]')")
    return loggers[name]


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_scalars_histograms_table_and_configuration(loggers: dict[str, Any]) -> None:
    folder = Path(loggers["csv"].log_dir)
    rows = csv_rows(folder / "metrics.csv")
    logged = {name for row in rows for name, value in row.items() if value}
    assert set(NAMED) <= logged
    assert all(meaning(name) for name in logged - {"step"}), "every scalar stands in the metrics reference"
    bins = csv_rows(folder / "histograms.csv")
    assert {row["name"] for row in bins} | TABLES == set(RECORDS)
    of_first = [row for row in bins if row["name"] == "critical/position" and row["step"] == bins[0]["step"]]
    assert sum(int(row["count"]) for row in of_first) > 0
    table = csv_rows(folder / "rollouts-completions.csv")
    assert len(table) == 8, "four responses an iteration"
    assert len(csv_rows(folder / "rollouts-in_flight.csv")) == 40, "a curve of twenty points an iteration"
    shown = next(row for row in table if row["critical step"])
    assert shown["critical text"] in shown["completion"]
    assert float(shown["step advantage"]) == pytest.approx(float(shown["step advantage"]))
    hparams = (folder / "hparams.yaml").read_text()
    assert "model.loss.kl.beta: 0.01" in hparams
    assert "ModularChains" in hparams
    assert "gpo_lightning.losses.GRPO" in hparams


def test_tensorboard_has_the_same(loggers: dict[str, Any]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(loggers["tensorboard"].log_dir)
    events.Reload()
    tags: dict[str, Any] = events.Tags()
    assert set(NAMED) <= set(tags["scalars"])
    assert set(RECORDS) - TABLES == set(tags["histograms"])
    assert "rollouts/completions/text_summary" in tags["tensors"]
    text = events.Tensors("rollouts/completions/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "critical text" in text


def test_mlflow_has_the_same(loggers: dict[str, Any]) -> None:
    logger = installed(loggers, "mlflow")
    client, run = logger.experiment, logger.run_id
    data = client.get_run(run).data
    assert set(NAMED) <= set(data.metrics)
    assert len(client.get_metric_history(run, "rewards/reward")) == 2
    artifacts = {item.path for place in ("histograms", "tables") for item in client.list_artifacts(run, place)}
    for name in RECORDS:
        assert any(fnmatchcase(path, f"*/{name.replace('/', '-')}-*.json") for path in artifacts), name
    assert data.params["model.loss.kl.beta"] == "0.01"
    assert any("ModularChains" in value for value in data.params.values())
    whole = json.loads(Path(client.download_artifacts(run, "configuration.json")).read_text())
    assert whole["trainer.max_epochs"] == 2


def test_wandb_has_the_same(loggers: dict[str, Any]) -> None:
    installed(loggers, "wandb")
    kept = list((loggers["folder"] / "wandb").glob("offline-run-*"))
    assert len(kept) == 1
    said = next(kept[0].glob("*.wandb")).read_bytes()  # records of protocol buffers, in which names stand as they are
    missing = [name for name in (*NAMED, *RECORDS, "model.loss.kl.beta", "ModularChains") if name.encode() not in said]
    assert missing == []
    assert list((kept[0] / "files" / "media" / "table").rglob("*.json")), "the table of completions"
