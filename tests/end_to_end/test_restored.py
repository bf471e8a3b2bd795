"""What a run that goes on finds again, and what is meant to differ from then on."""

import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from tests.end_to_end.conftest import run_directory
from tests.end_to_end.test_resume import fit
from tests.end_to_end.test_runs import LR, SMALL, killed


class RestoresLate(SingleDeviceStrategy):
    """On one device, but as sharded strategies do: Lightning restores after the hooks that begin a fit."""

    def __init__(self) -> None:
        super().__init__(device="cpu")

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return True


def test_what_a_fit_begins_with_is_restored_under_sharded_strategies_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = "--trainer.strategy={class_path: tests.end_to_end.test_restored.RestoresLate}"
    killed(tmp_path, monkeypatch, strategy)
    fit(tmp_path, *SMALL, strategy, "--ckpt_path=last")
    folder = run_directory(tmp_path)
    spent = [json.loads(path.read_text())["compute/tokens_sample"] for path in sorted((folder / "metrics").iterdir())]
    assert sum(spent) == json.loads((folder / "summary.json").read_text())["tokens"]["sample"]


def test_a_rate_that_is_meant_to_differ_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(tmp_path, monkeypatch, LR + "0.003")
    fit(tmp_path, *SMALL, LR + "0.005", "--ckpt_path=last", "--resume_with=[model.optimizer]")
    path = run_directory(tmp_path) / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    assert content["optimizer_states"][0]["param_groups"][0]["lr"] == 0.005


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_disk_that_fills_up_at_the_very_end_is_one_line(tmp_path: Path) -> None:
    version = "--trainer.logger.init_args.version=mine"
    full = tmp_path / "runs/quickstart/mine/summary.json"
    full.parent.mkdir(parents=True)
    full.symlink_to("/dev/full")
    with pytest.raises(SystemExit, match=r"No space left on device.*\. What was finished before is safe"):
        fit(tmp_path, *SMALL, version, "--trainer.max_epochs=1")
    full.unlink()
    fit(tmp_path, *SMALL, version, "--trainer.max_epochs=1", "--ckpt_path=last")
    assert full.stat().st_size > 0
