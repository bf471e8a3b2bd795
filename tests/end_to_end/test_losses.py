"""Every loss through the real command line: one line of configuration, and the policy learns by it."""

import math
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gpo_lightning.callbacks.scalars import meaning
from gpo_lightning.cli import main
from tests.conftest import ROOT
from tests.end_to_end.conftest import TRANSFORMERS, config, run_directory, summary

LOSSES = sorted(file.stem for file in (ROOT / "configs" / "loss").glob("*.yaml"))
SMALLEST = [
    "--data.plan.problems=6",
    "--data.plan.group_size=4",
    "--data.plan.resets=4",
    "--data.problems.steps=3",
    "--data.problems.heldout_size=4",
    "--data.sampling.max_tokens=32",
    "--data.micro_batch=8",
    "--trainer.max_epochs=1",
    "--trainer.accumulate_grad_batches=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.accelerator=cpu",
]


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_it_trains(loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main(["fit", *config("quickstart.yaml"), *config(f"loss/{loss}.yaml"), *SMALLEST, TRANSFORMERS])
    found = summary(tmp_path)
    assert found["steps"] > 0
    incidents = EventAccumulator(str(run_directory(tmp_path))).Reload()
    unexplained = [tag for tag in incidents.Tags()["scalars"] if meaning(tag) is None]
    assert unexplained == [], "the reference explains every scalar"
    logged = {tag: incidents.Scalars(tag)[-1].value for tag in incidents.Tags()["scalars"] if tag.startswith("train/")}
    assert "train/loss" in logged
    assert all(map(math.isfinite, logged.values()))
    adapter = load_file(run_directory(tmp_path) / "adapter" / "adapter_model.safetensors")
    # The second factor is zero until something is learnt.
    assert any(weight.any() for name, weight in adapter.items() if "lora_B" in name)


@pytest.mark.slow
def test_mismatch_is_corrected_and_logged_by_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    line = "--model.loss.importance_correction=gpo_lightning.losses.TruncatedWeights"
    main(["fit", *config("quickstart.yaml"), *SMALLEST, TRANSFORMERS, line])
    incidents = EventAccumulator(str(run_directory(tmp_path))).Reload()
    assert incidents.Scalars("train/mismatch_weight")[-1].value == pytest.approx(1.0, abs=1e-3)
    assert incidents.Scalars("train/mismatch_cut")[-1].value == 0.0


def test_weights_that_have_overflowed_stop_the_run_and_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2 optimiser steps in a row had a loss or gradient that is not finite"):
        main(
            [
                "fit",
                *config("quickstart.yaml"),
                *config("loss/sft.yaml"),
                *SMALLEST,
                TRANSFORMERS,
                "--trainer.gradient_clip_val=null",
                "--model.optimizer=torch.optim.SGD",
                "--model.optimizer.lr=1e38",
                "--model.bad_steps=2",
                "--trainer.accumulate_grad_batches=1",
                "--data.micro_batch=2",
            ]
        )
