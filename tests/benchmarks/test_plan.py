"""The plan's arithmetic: known models come out as they are, and more of anything never costs less than it must."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from gpo_lightning.policy.embedded import resolve_base
from tests.conftest import ROOT


def _load() -> Any:
    spec = spec_from_file_location("plan", ROOT / "benchmarks" / "plan.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["plan"] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


plan = _load()
SEVEN, H100S, WORK = plan.Model(), plan.Cluster(), plan.Work()
WIDE = plan.Model("32B", 5120, 64, 40, 8, 128, 27648, 152064)


def test_sizes_of_known_models() -> None:
    """Qwen2.5 7B and 32B: 7.6 and 32.8 billion parameters, 56 and 256 KiB of keys and values a token."""
    assert pytest.approx(7.615e9, rel=1e-3) == SEVEN.parameters
    assert SEVEN.kv_bytes == 56 * 1024
    assert WIDE.parameters == pytest.approx(32.76e9, rel=1e-3)
    assert WIDE.kv_bytes == 256 * 1024


def test_parameters_are_those_of_the_model_transformers_builds() -> None:
    directory = resolve_base("tiny")
    found = plan.Model.read(Path(directory) / "config.json")
    built = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory))
    norms = sum(p.numel() for name, p in built.named_parameters() if "norm" in name)
    assert found.parameters == sum(p.numel() for p in built.parameters()) - norms


def test_adapter_is_as_large_as_peft_makes_it() -> None:
    from gpo_lightning.policy import Policy, PolicyConfig
    from tests.conftest import lora

    found = plan.Model.read(Path(resolve_base("tiny")) / "config.json")
    made = Policy(PolicyConfig(base="tiny", lora=lora(4))).trainable_state()
    assert found.adapter(4) == sum(weight.numel() for weight in made.values())


@pytest.mark.parametrize(("context", "rate"), [(600, 65_000), (1500, 30_000), (6000, 7_600)])
def test_roofline_of_seven_billion_on_an_h100(context: int, rate: int) -> None:
    """72 GB of 80 for weights and cache, less 4; the limit moves from arithmetic to memory as contexts grow."""
    engine = plan.Engine(SEVEN, H100S, 1, 72e9 - SEVEN.weight_bytes - 4e9)
    assert engine.rate(context) == pytest.approx(rate, rel=0.02)
    bound = engine.step(engine.sequences(context), context)[1]
    assert bound == ("compute" if context == 600 else "HBM")


def test_tokens_of_an_iteration() -> None:
    """64 prompts of 8 responses of 500; 60 % mixed, of each two searched at 18 lengths, and 8 continuations kept."""
    work = replace(WORK, prompts=64)
    assert work.decoded == pytest.approx(64 * 500 * (8 + 0.6 * 2 * 18))
    assert work.trained == pytest.approx(64 * (8 + 0.6 * 2 * 8) * 620)
    assert replace(work, searched=0).decoded == 64 * 8 * 500


def test_a_model_that_does_not_fit_is_sharded_and_one_that_fits_is_not() -> None:
    assert plan.plan(SEVEN, H100S, WORK)["trainer"] == "DDP"
    wide = plan.plan(WIDE, H100S, WORK)
    assert wide["trainer"] == "FSDP2 over 8"
    assert wide["tensor_parallel"] > 1
    huge = replace(WIDE, layers=64 * 40)
    with pytest.raises(SystemExit, match="cannot be trained"):
        plan.plan(huge, H100S, WORK)


def test_an_adapter_moves_less_than_the_model_by_two_orders() -> None:
    moved = plan.plan(SEVEN, H100S, WORK)["bytes_per_sync"]
    assert moved["adapter, all engines"] * 100 < moved["whole model, all engines"]


def test_measured_rates_replace_arithmetic_and_are_marked() -> None:
    measured = plan.plan(SEVEN, replace(H100S, decode_rate=1000.0, train_rate=2000.0), WORK)
    assert measured["seconds"]["decode"] == pytest.approx(WORK.decoded / 8000)
    assert measured["seconds"]["train"] == pytest.approx(WORK.trained / 16000)
    assert measured["basis"]["decode"] == measured["basis"]["train"] == "measured rate"
    assert "measured rate" not in plan.plan(SEVEN, H100S, WORK)["basis"].values()


@given(prompts=st.integers(8, 2048), response=st.integers(16, 4096), factor=st.floats(1.01, 8))
def test_more_work_takes_longer_and_a_faster_cluster_never(prompts: int, response: int, factor: float) -> None:
    work = replace(WORK, prompts=prompts, response=response)
    base = plan.plan(SEVEN, H100S, work)
    assert sum(base["seconds"].values()) == pytest.approx(base["iteration_seconds"])
    longer = plan.plan(SEVEN, H100S, replace(work, prompts=int(prompts * factor) + 1))
    assert longer["iteration_seconds"] >= base["iteration_seconds"]
    faster = replace(H100S, flops=H100S.flops * factor, bandwidth=H100S.bandwidth * factor)
    assert plan.plan(SEVEN, faster, work)["iteration_seconds"] <= base["iteration_seconds"]


def test_gpus_beyond_saturation_stand_idle() -> None:
    """A response is one token after another: there is a number of GPUs from which more of them bring nothing."""
    rows = plan.saturation(SEVEN, H100S, replace(WORK, prompts=64))
    used = [row["efficiency"] for row in rows]
    assert used[0] == pytest.approx(1)
    assert used == sorted(used, reverse=True)
    assert used[-1] < 0.1


def test_the_command_prints_tables_and_writes_json(tmp_path: Path) -> None:
    config = Path(resolve_base("tiny")) / "config.json"
    command = [sys.executable, str(ROOT / "benchmarks/plan.py"), "--config", str(config), "--gpus", "2"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "plan.json")], capture_output=True, text=True, check=True
    )
    assert "2 GPUs" in done.stdout
    (found,) = json.loads((tmp_path / "plan.json").read_text())["plans"]
    assert found["gpus"] == 2
    assert found["parameters"] == plan.Model.read(config).parameters


def test_the_documentation_shows_what_the_command_prints(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/plan.py"), "--output", str(tmp_path / "plan.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in (ROOT / "docs" / "scaling.md").read_text()
    assert (tmp_path / "plan.json").read_text() == (ROOT / "benchmarks" / "results" / "plan.json").read_text()
