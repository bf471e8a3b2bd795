"""A checkpoint neither names files to remove nor overrides what is meant to differ from it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from gpo_lightning.runs.atomic_checkpoint import AtomicCheckpointIO
from gpo_lightning.runs.checkpoint_state import keep_to_folder, renew
from gpo_lightning.trainer import GPOTrainer
from gpo_lightning.training.schedule import Schedule


def restored(folder: Path, found_in: Path, named: str) -> ModelCheckpoint:
    """The callback of a run in ``folder`` after a checkpoint that names a file of somebody's."""
    callback = ModelCheckpoint(dirpath=folder, save_top_k=2, monitor="x")
    trainer = GPOTrainer(callbacks=[callback], logger=False, accelerator="cpu", enable_progress_bar=False)
    state: dict[str, Any] = dict.fromkeys(("best_model_path", "last_model_path", "kth_best_model_path"), named)
    state |= {"best_model_score": None, "dirpath": str(callback.dirpath), "best_k_models": {named: 1.0}}
    content = {"callbacks": {callback.state_key: state}}
    keep_to_folder(trainer, content, found_in / "x.ckpt")
    callback.load_state_dict(content["callbacks"][callback.state_key])
    return callback


@pytest.mark.parametrize("name", ["../../precious", "/etc/passwd", "elsewhere/../../../precious"])
def test_files_that_a_checkpoint_names_are_looked_for_beside_it_alone(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "run/checkpoints"
    callback = restored(folder, folder, f"{folder}/{name}")
    for path in (callback.best_model_path, callback.last_model_path, *callback.best_k_models):
        assert Path(path).parent == folder
        assert ".." not in path


def test_in_a_folder_that_was_moved_the_checkpoints_are_still_known(tmp_path: Path) -> None:
    folder = tmp_path / "moved/checkpoints"
    assert restored(folder, folder, "runs/old/checkpoints/a.ckpt").best_k_models == {str(folder / "a.ckpt"): 1.0}
    elsewhere = restored(folder, tmp_path / "others", "others/a.ckpt")
    assert (elsewhere.best_model_path, elsewhere.best_k_models) == ("", {})


def test_only_what_was_written_as_a_checkpoint_is_removed(tmp_path: Path) -> None:
    writer, folder = AtomicCheckpointIO(), tmp_path / "folder"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    writer.save_checkpoint({"x": 1}, tmp_path / "sound.ckpt")
    (tmp_path / "link.ckpt").symlink_to(tmp_path / "sound.ckpt")
    for path in (folder, folder / "thesis.txt", tmp_path / "link.ckpt", tmp_path / "absent.ckpt"):
        writer.remove_checkpoint(path)
    assert (folder / "thesis.txt").exists()
    assert (tmp_path / "link.ckpt").exists()
    writer.remove_checkpoint(tmp_path / "sound.ckpt")
    assert not (tmp_path / "sound.ckpt").exists()


def optimiser(kind: Any = torch.optim.AdamW, **settings: Any) -> Any:
    weight = torch.nn.Parameter(torch.ones(2))
    made = kind([weight], **settings)
    weight.sum().backward()
    made.step()
    return made


@pytest.mark.parametrize("meant", ["model.optimizer", "model", "model.optimizer.init_args.lr"])
def test_an_optimiser_that_is_meant_to_differ_has_its_own_settings_and_keeps_its_moments(meant: str) -> None:
    before, now = optimiser(lr=0.1), optimiser(lr=0.7, weight_decay=0.5)
    content: dict[str, Any] = {"optimizer_states": [before.state_dict()], "lr_schedulers": []}
    renew(content, ["data.plan"], lambda: now)
    assert content["optimizer_states"][0]["param_groups"][0]["lr"] == 0.1
    renew(content, [meant], lambda: now)
    now.load_state_dict(content["optimizer_states"][0])
    assert (now.param_groups[0]["lr"], now.param_groups[0]["weight_decay"]) == (0.7, 0.5)
    assert torch.equal(*(each.state_dict()["state"][0]["exp_avg"] for each in (before, now)))
    sgd = optimiser(torch.optim.SGD, lr=0.2)
    renew(content, [meant], lambda: sgd)
    sgd.load_state_dict(content["optimizer_states"][0])
    assert sgd.state_dict()["state"] == {}, "moments of another optimiser mean nothing"


def test_another_schedule_begins_where_the_run_is() -> None:
    before = optimiser(lr=0.1)
    content: dict[str, Any] = {"optimizer_states": [before.state_dict()], "lr_schedulers": []}
    done = {"share": 0.0}

    def configured() -> dict[str, Any]:
        made = optimiser(lr=1.0)
        scheduler = Schedule("linear").scheduler(made, lambda: done["share"])
        return {"optimizer": made, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    now = configured()
    renew(content, ["model.schedule"], configured)
    done["share"] = 0.75
    now["optimizer"].load_state_dict(content["optimizer_states"][0])
    now["lr_scheduler"]["scheduler"].load_state_dict(content["lr_schedulers"][0])
    assert now["optimizer"].param_groups[0]["lr"] == pytest.approx(0.25)
