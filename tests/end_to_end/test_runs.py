"""A run has a folder, an identity and a lock, and goes on only as what it was."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gpo_lightning.datamodule import RolloutDataModule
from gpo_lightning.module import GPOModule
from gpo_lightning.runs.atomic_checkpoint import AtomicCheckpointIO
from gpo_lightning.runs.checkpoint import read_checkpoint
from gpo_lightning.runs.run import Run
from tests.end_to_end.conftest import config, run_directory
from tests.end_to_end.test_resume import Killed, fit, killing, main_in

SMALL = (
    "--data.plan={problems: 1, group_size: 2, resets: 0, reset_probability: 0.0}",
    "--data.sampling.max_tokens=8",
    "--data.search=gpo_lightning.critical.NoSearch",
)
LOGGER = "lightning.pytorch.loggers.CSVLogger"
CSV = f"--trainer.logger={{class_path: {LOGGER}, init_args: {{save_dir: runs, name: quickstart}}}}"
KEPT = "--trainer.callbacks+={class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: {dirpath: kept}}"
LR = "--model.optimizer.init_args.lr="


def killed(folder: Path, patch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Killed in the second iteration."""
    with patch.context() as context:
        killing(context, GPOModule, "training_step", 1, lambda module: module.trainer.current_epoch == 1)
        with pytest.raises(Killed):
            fit(folder, *SMALL, *arguments)


def test_last_is_the_latest_unfinished_run_of_this_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(tmp_path, monkeypatch, LR + "0.002")  # 0: the one that is meant
    killed(tmp_path, monkeypatch, LR + "0.003")  # 1: newer, another configuration
    fit(tmp_path, *SMALL, LR + "0.002")  # 2: newest, of this configuration, but at its end
    other = (run_directory(tmp_path, version=1) / "config.yaml").read_bytes()
    said = fit(tmp_path, *SMALL, LR + "0.002", "--ckpt_path=last").replace("\n", "")
    assert "--ckpt_path last: runs/quickstart/version_0" in said
    assert (run_directory(tmp_path, version=0) / "summary.json").exists()
    assert (run_directory(tmp_path, version=1) / "config.yaml").read_bytes() == other
    assert not (run_directory(tmp_path, version=1) / "summary.json").exists()

    with pytest.raises(SystemExit, match=r"lr\s+0.003  ->  0.005(.|\n)*--resume_with '\[model.optimizer\]'"):
        fit(tmp_path, *SMALL, LR + "0.005", "--ckpt_path=last")
    with pytest.raises(SystemExit, match=r"model\.loss\.class_path"):
        fit(tmp_path, *SMALL, LR + "0.003", "--ckpt_path=last", loss="rloo")
    before = json.loads((run_directory(tmp_path, version=1) / "run.json").read_text())["id"]
    said = fit(tmp_path, *SMALL, LR + "0.005", "--ckpt_path=last", "--resume_with=[model.optimizer]").replace("\n", "")
    assert "version_1" in said
    checkpoint = max((run_directory(tmp_path, version=1) / "checkpoints").glob("*.ckpt"))
    assert torch.load(checkpoint, weights_only=True)["run"]["id"] == before
    with pytest.raises(SystemExit, match=r"there is no run under .* to go on with: .* ended by themselves"):
        fit(tmp_path, *SMALL, LR + "0.002", "--ckpt_path=last")
    more = fit(tmp_path, *SMALL, LR + "0.002", "--ckpt_path=last", "--trainer.max_epochs=3").replace("\n", "")
    assert "version_2" in more, "more epochs are no difference"


def test_a_run_goes_on_by_its_folder_alone_and_is_not_begun_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = "--trainer.logger.init_args.version=mine"
    killed(tmp_path, monkeypatch, version, KEPT)
    folder = tmp_path / "runs" / "quickstart" / "mine"
    assert not (folder / "summary.json").exists()
    with pytest.raises(SystemExit, match="holds a run already"):
        fit(tmp_path, *SMALL, version)
    run = Run.read(folder)
    run.work()
    with pytest.raises(SystemExit, match="in use"):
        main_in(tmp_path, "fit", "--run=runs/quickstart/mine")
    run.rest()
    said = main_in(tmp_path, "fit", "--run=runs/quickstart/mine").replace("\n", "")
    assert "after 1 iterations" in said, "its checkpoints lie elsewhere, and are found"
    assert json.loads((folder / "summary.json").read_text())["iterations"] == 2
    assert [path.name for path in (tmp_path / "runs" / "quickstart").iterdir()] == ["mine"]


@pytest.mark.parametrize("how", [("--trainer.logger=false",), ("--trainer.fast_dev_run=true",)])
def test_without_a_logger_a_run_still_has_a_folder_of_its_own(how: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mine")
    fit(tmp_path, *SMALL, "--trainer.max_epochs=1", *how)
    fit(tmp_path, *SMALL, "--trainer.max_epochs=1", *how)
    assert (tmp_path / "config.yaml").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "runs"]
    for version in range(2):
        folder = run_directory(tmp_path, "run", version)
        left = {path.name for path in folder.iterdir()}
        assert left >= {"run.json", "adapter"}
        assert ("config.yaml" in left) == ("fast_dev_run" not in how[0]), "Lightning keeps none of a development run"


def _rows(folder: Path) -> list[tuple[str, str, str]]:
    with (run_directory(folder) / "metrics.csv").open(newline="") as file:
        return [
            (name, row["step"], value)
            for row in csv.DictReader(file)
            for name, value in row.items()
            if value and name.startswith(("train/", "eval/", "rollouts/")) and name != "step"
        ]


def test_rows_of_a_csv_logger_are_neither_lost_nor_doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    fit(whole, *SMALL, CSV)
    killed(broken, monkeypatch, CSV)
    fit(broken, *SMALL, CSV, "--ckpt_path=last")
    found, expected = _rows(broken), _rows(whole)
    assert sorted({row[:2] for row in found}) == sorted({row[:2] for row in expected})
    assert len({row[:2] for row in found}) == len(found), "nothing is there twice"


def _points(folder: Path) -> list[tuple[str, int]]:
    """What a person sees in TensorBoard, which drops what a later session says it logs again."""
    events = EventAccumulator(str(run_directory(folder)), {"scalars": 0, "histograms": 0})
    events.Reload()
    tags: Any = events.Tags()
    names = [(name, events.Scalars) for name in tags["scalars"]]
    names += [(name, events.Histograms) for name in tags["histograms"]]
    return [(name, event.step) for name, read in names for event in read(name) if name != "hp_metric"]


STOPS: dict[str, tuple[type, str, int, Any]] = {
    "training": (GPOModule, "training_step", 1, lambda module: module.trainer.current_epoch == 1),
    "before a checkpoint": (AtomicCheckpointIO, "save_checkpoint", 2, lambda _: True),
    "after a checkpoint": (RolloutDataModule, "forget_rollouts", 2, lambda _: True),
}
SEARCHED = (  # which leaves histograms, with several optimiser steps an iteration and an evaluation after each
    "--trainer.max_epochs=3",
    "--trainer.callbacks=[{class_path: gpo_lightning.callbacks.BenchmarkEvaluation, init_args: {every_n_epochs: 1}}, "
    "gpo_lightning.callbacks.StepAdvantages, gpo_lightning.callbacks.RolloutLog]",
)


@pytest.mark.parametrize("stop", STOPS)
def test_points_in_tensorboard_are_neither_lost_nor_doubled(
    stop: str, whole: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        killing(context, *STOPS[stop])
        with pytest.raises(Killed):
            fit(tmp_path, *SEARCHED)
    fit(tmp_path, *SEARCHED, "--ckpt_path=last")
    found = _points(tmp_path)
    assert sorted(set(found)) == sorted(set(whole)), "nothing is lost"
    assert Counter(found) == Counter(whole), "nothing is there twice"
    kept = run_directory(tmp_path) / "checkpoints"
    assert sorted(path.name for path in kept.iterdir()) == ["best.ckpt", "best.json", "last.ckpt"]
    assert read_checkpoint(kept / "last.ckpt").iterations == 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int]]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    fit(folder, *SEARCHED)
    points = _points(folder)
    assert {"steps/advantage", "eval/heldout/accuracy", "train/loss", "epoch"} <= {name for name, _ in points}
    return points


def test_weights_that_are_no_numbers_are_neither_kept_nor_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflow(self: GPOModule, *_: Any) -> None:
        if self.trainer.current_epoch == 1:
            next(p for p in self.parameters() if p.requires_grad).data[0] = torch.inf

    monkeypatch.setattr(GPOModule, "on_train_batch_end", overflow)
    with pytest.raises(SystemExit, match="weights are infinite or not a number"):
        fit(tmp_path, *SMALL, "--trainer.max_epochs=3")
    directory = run_directory(tmp_path)
    assert not (directory / "adapter").exists()
    (kept,) = (directory / "checkpoints").glob("*.ckpt")
    content: dict[str, Any] = torch.load(kept, weights_only=True)
    assert content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] == 1
    assert all(torch.isfinite(value).all() for value in content["state_dict"].values())


@pytest.mark.parametrize("command", ["test", "export"])
def test_weights_of_another_policy_are_refused_not_loaded_in_part(command: str, trained: Path, tmp_path: Path) -> None:
    path = run_directory(trained) / "checkpoints" / "last.ckpt"
    arguments = [*config("quickstart.yaml"), f"--ckpt_path={path}", "--trainer.accelerator=cpu"]
    with pytest.raises(SystemExit, match=r"another policy:\n.*model\.policy\.lora"):
        main_in(tmp_path, command, *arguments, "--model.policy.lora=null")
    with pytest.raises(SystemExit, match=r"another policy:\n.*model\.policy\.lora\.(init_args\.)?r"):
        main_in(tmp_path, command, *arguments, "--model.policy.lora.r=8")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    fit(folder, *SMALL, "--trainer.max_epochs=1")
    return folder


class SaysOnce(Callback):
    """Measures something in the first iteration only."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 0:
            pl_module.log("once", 1.0, on_step=False, on_epoch=True, batch_size=1)


def test_what_an_iteration_did_not_measure_is_absent_from_its_metrics(tmp_path: Path) -> None:
    fit(tmp_path, *SMALL, "--trainer.callbacks+=tests.end_to_end.test_runs.SaysOnce")
    said = [json.loads(path.read_text()) for path in sorted((run_directory(tmp_path) / "metrics").glob("*.json"))]
    assert ["once" in each for each in said] == [True, False]
    assert all("train/loss" in each for each in said)


STEPS = "--model.lr_scheduler={class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 1, gamma: 0.1}}"


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [
        (("--model.schedule={name: linear, warmup: 0.25}",), lambda steps: 0.0),
        ((STEPS, "--model.lr_scheduler_every=iteration"), lambda steps: 0.01),
        ((STEPS,), lambda steps: 0.1**steps),
    ],
)
def test_rates_follow_the_run_the_iterations_or_the_steps(
    schedule: tuple[str, ...], factor: Callable[[int], float], tmp_path: Path
) -> None:
    plan = "--data.plan={problems: 4, group_size: 4, resets: 0, reset_probability: 0.0}"
    fit(tmp_path, plan, "--data.micro_batch=2", LR + "0.002", *schedule)
    path = run_directory(tmp_path) / "checkpoints" / "last.ckpt"
    content: dict[str, Any] = torch.load(path, weights_only=True)
    steps = int(content["global_step"])
    assert steps > 2, "more steps than iterations, else nothing is told apart"
    (group,) = content["optimizer_states"][0]["param_groups"]
    assert group["lr"] == pytest.approx(0.002 * factor(steps), abs=1e-9)
