"""The main job through the real command line, on a real (small) model: what it leaves behind, and that it resumes."""

import json
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM

from gpo_lightning.engines import Purpose
from gpo_lightning.rollouts import read_trees
from tests.end_to_end.conftest import SMALL, TRANSFORMERS, VLLM, config, gpo, run_directory, summary


def test_the_clock_of_a_run_is_the_one_on_the_wall(tmp_path: Path) -> None:
    """From the command to the summary: what comes after it is the process's own end."""
    begin = time()
    gpo(["fit", *config("quickstart.yaml"), TRANSFORMERS, *SMALL, "--trainer.max_epochs=1"], tmp_path)
    wall, seconds = time() - begin, summary(tmp_path)["seconds"]
    assert seconds["imports"] > 0.5
    assert 0.5 * wall < seconds["total"] <= wall + 0.1
    parts = sum(value for phase, value in seconds.items() if phase != "total")
    assert parts <= seconds["total"] + 0.1, "no second is counted twice"


@pytest.mark.vllm
@pytest.mark.long
@pytest.mark.parametrize("loss", ["grpo", "dpo"])
def test_quickstart_with_vllm_leaves_what_it_promises(loss: str, tmp_path: Path) -> None:
    done = gpo(["fit", *config("quickstart.yaml"), *config(f"loss/{loss}.yaml"), VLLM, *SMALL], tmp_path)
    assert "Engine: vllm (as configured)" in done.stdout + done.stderr
    assert "held-out accuracy after" in done.stdout
    directory = run_directory(tmp_path)
    found = summary(tmp_path)
    assert found["engine"] == "VLLM"
    assert found["steps"] > 0, "no training happened"
    for moment in ("before", "after"):
        assert set(found[moment]) == {"accuracy", "low", "high", "n"}
        assert found[moment]["n"] == 24
    assert {"sample", "evaluation"} <= set(found["tokens"])
    assert {"sample", "probe", "reset", "train", "sync", "evaluation"} <= set(found["seconds"])

    trees = [tree for file in sorted((directory / "rollouts").glob("*.parquet")) for tree in read_trees(file)]
    responses = list((directory / "evaluation").glob("*.parquet"))
    assert len(trees) == 12
    assert len(responses) == 2
    held = {
        purpose: sum(len(s.tokens) - s.start for tree in trees for s in tree.samples if s.purpose is purpose)
        for purpose in (Purpose.SAMPLE, Purpose.PROBE, Purpose.RESET)
    }
    assert {p: n for p, n in held.items() if n} == {p: n for p, n in found["tokens"].items() if p in held}
    versions = {s.version for tree in trees for s in tree.samples}
    assert versions == {0, 1}, "each iteration samples from its own weights"

    resolved = yaml.safe_load((directory / "config.yaml").read_text())
    assert resolved["model"]["loss"]["class_path"].endswith({"grpo": "GRPO", "dpo": "DPO"}[loss])
    assert "<gpo-explorer>" in (directory / "report.html").read_text()
    tags: Any = EventAccumulator(str(directory)).Reload().Tags()
    assert "steps/advantage" in tags["histograms"]
    assert {"train/loss", "eval/heldout/accuracy", "rollouts/success_sample"} <= set(tags["scalars"])

    base = AutoModelForCausalLM.from_pretrained(resolved_base())
    adapted = PeftModel.from_pretrained(base, directory / "adapter")
    ids = torch.tensor([[40, 107, 101, 8, 105, 100]])
    with torch.no_grad():
        moved = (adapted(ids).logits - AutoModelForCausalLM.from_pretrained(resolved_base())(ids).logits).abs().max()
    assert moved > 1e-4, "the exported adapter changes nothing"


def resolved_base() -> str:
    from gpo_lightning.policy.embedded import resolve_base

    return resolve_base("tiny")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("loss", ["grpo", "ppo"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(loss: str, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    arguments = ["fit", *config("quickstart.yaml"), *config(f"loss/{loss}.yaml"), *SMALL, TRANSFORMERS]
    gpo(arguments, whole)
    gpo([*arguments, "--trainer.max_epochs=1"], broken)
    checkpoint = run_directory(broken) / "checkpoints" / "last.ckpt"
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert state
    assert all("lora_" in name or "value_head" in name for name in state), "checkpoints hold no base weights"
    assert any("value_head" in name for name in state) == (loss == "ppo")
    gpo([*arguments, "--ckpt_path", str(checkpoint)], broken)
    first, second = run_directory(whole), run_directory(broken, version=1)
    for name in ("adapter/adapter_model.safetensors",):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert read_trees(first / "rollouts/iteration-0001-rank0.parquet")[0].samples == (
        read_trees(second / "rollouts/iteration-0001-rank0.parquet")[0].samples
    )
    results = [json.loads((d / "evaluation/results.json").read_text()) for d in (first, second)]
    assert results[0] == results[1]


@pytest.mark.long
@pytest.mark.parametrize(("loss", "trainer"), [("grpo", "ddp"), ("ppo", "ddp"), ("ppo", "fsdp2")])
def test_two_processes_learn_what_one_does(loss: str, trainer: str, tmp_path: Path) -> None:
    """All examples of the one iteration in one step: then ranks may not change the gradient, nor the adapter.

    PPO's advantages are whitened over all ranks.
    """
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    configs = [*config("quickstart.yaml"), *config(f"loss/{loss}.yaml")]
    single = [
        *SMALL,
        TRANSFORMERS,
        "--trainer.max_epochs=1",
        "--data.micro_batch=200",
        "--model.optimizer=torch.optim.SGD",
        "--model.optimizer.lr=1.0",
        "--model.policy.dtype=float64",
        "--trainer.gradient_clip_val=null",
    ]
    gpo(["fit", *configs, *single], one)
    gpo(["fit", *configs, *config(f"trainer/{trainer}.yaml"), *single], two)
    first, second = (adapter_weights(run_directory(folder)) for folder in (one, two))
    assert first.keys() == second.keys()
    assert max(float(value.abs().max()) for name, value in first.items() if "lora_B" in name) > 1e-6
    for name, value in first.items():
        assert torch.allclose(value, second[name], rtol=1e-6, atol=1e-9), name
    assert summary(one)["tokens"] == summary(two)["tokens"]
    assert summary(one)["after"] == summary(two)["after"]
    names = sorted(file.name for file in (run_directory(two) / "rollouts").glob("*.parquet"))
    assert names == ["iteration-0000-rank0.parquet", "iteration-0000-rank1.parquet"]


@pytest.mark.vllm
@pytest.mark.long
def test_every_rank_has_its_own_vllm(tmp_path: Path) -> None:
    gpo(["fit", *config("quickstart.yaml"), *config("trainer/ddp.yaml"), VLLM, *SMALL], tmp_path)
    found = summary(tmp_path)
    assert found["engine"] == "VLLM"
    assert found["after"]["n"] == 24
    ranks = {file.stem[-5:] for file in (run_directory(tmp_path) / "rollouts").glob("*.parquet")}
    assert ranks == {"rank0", "rank1"}


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.long
def test_a_run_over_a_server_it_starts_itself_ends_it_too(tmp_path: Path) -> None:
    server = [*config("engine/vllm_launch.yaml"), "--data.engine.init_args.launch.memory_gib=0.25"]
    done = gpo(["fit", *config("quickstart.yaml"), *server, *SMALL], tmp_path)
    assert "Engine: vllm_server (as configured)" in done.stdout + done.stderr
    found = summary(tmp_path)
    assert found["engine"] == "VLLMServer"
    assert found["steps"] > 0
    trees = [tree for file in tmp_path.rglob("rollouts/*.parquet") for tree in read_trees(file)]
    held = sum(len(s.tokens) - s.start for tree in trees for s in tree.samples if s.purpose is Purpose.PROBE)
    assert held == found["tokens"]["probe"] > 0
    assert (tmp_path / "vllm-server.log").exists()
    assert not processes_in(tmp_path), "no process of the server is left"


def processes_in(folder: Path) -> list[str]:
    """Ids of processes that run there, as a server does that a run started."""
    found: list[str] = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            found += [link.parent.name] if link.readlink() == folder else []
    return found


def adapter_weights(directory: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(directory / "adapter" / "adapter_model.safetensors")
