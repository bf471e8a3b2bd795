"""Success without sampling noise in the course of a run: measured before and after, and refused where it cannot be."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning import Trainer

from gpo_lightning.callbacks import ExactSuccess
from gpo_lightning.cli import main
from gpo_lightning.errors import ConfigError
from gpo_lightning.problems import ReasoningGym
from tests.end_to_end.conftest import SMALL, TRANSFORMERS, config


def test_success_and_tokens_are_written_before_and_after_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    frontier = config("critical/frontier.yaml")
    callback = "--trainer.callbacks=[{class_path: gpo_lightning.callbacks.ExactSuccess}]"
    main(["fit", *config("quickstart.yaml"), *SMALL, TRANSFORMERS, *frontier, "--trainer.max_epochs=1", callback])
    before, after = [json.loads(file.read_text()) for file in sorted(tmp_path.rglob("after-*.json"))]
    assert (before["generated"], before["steps"]) == (0, 0)
    assert 0 < before["success"] < 1
    assert after["generated"] > 0
    assert after["success"] != before["success"]


def test_problems_whose_steps_cannot_be_checked_are_refused() -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    module: Any = SimpleNamespace(
        data=SimpleNamespace(problems=ReasoningGym("chain_sum", train_size=1, heldout_size=1))
    )
    with pytest.raises(ConfigError, match="ReasoningGym cannot be checked"):
        ExactSuccess().on_fit_start(trainer, module)


def test_measuring_never_is_refused() -> None:
    with pytest.raises(ConfigError, match="every_n_epochs is 0"):
        ExactSuccess(every_n_epochs=0)
