"""In which form weights travel to vLLM is decided from the configuration, and where they lie from the room there is."""

import logging
import shutil
import tempfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig

from gpo_lightning.engines import VLLM, RestartingEngine, VLLMServer
from gpo_lightning.engines.vllm_weights import WeightFolders, choose_form, weight_bytes
from gpo_lightning.errors import ConfigError
from gpo_lightning.policy import Policy, PolicyConfig


def config(**settings: Any) -> PolicyConfig:
    chosen: dict[str, Any] = {"r": 8, "target_modules": "all-linear"}
    return PolicyConfig(lora=LoraConfig(**(chosen | settings)))


@pytest.mark.parametrize(
    ("policy", "form"),
    [
        (PolicyConfig(lora=None), "merged"),
        (config(), "adapter"),
        (config(rank_pattern={"q_proj": 64}), "adapter"),
        (config(r=1024), "merged"),
        (config(use_dora=True), "merged"),
        (config(modules_to_save=["lm_head"]), "merged"),
        (config(bias="lora_only"), "merged"),
    ],
)
def test_auto_takes_an_adapter_where_one_can_be_served(policy: PolicyConfig, form: str) -> None:
    assert choose_form(policy, "auto") == form
    assert choose_form(policy, "merged") == "merged"
    if form == "merged":
        with pytest.raises(ConfigError, match=r"model\.policy\.lora"):
            choose_form(policy, "adapter")


@pytest.mark.parametrize("settings", [{"layer_replication": [(0, 2), (1, 3)]}, {"lora_bias": True}])
def test_what_can_neither_be_served_nor_merged_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"model\.policy\.lora\.{next(iter(settings))}: vLLM serves no such adapter"):
        choose_form(config(**settings), "auto")


@pytest.mark.parametrize("name", ["use_dora", "lora_bias"])
def test_servers_refuse_before_a_model_loads(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.policy\.lora\.{name}: vLLM cannot serve this as an adapter.*VLLM"):
        RestartingEngine(VLLMServer()).check_policy(config(**{name: True}))
    with pytest.raises(ConfigError, match=r"model\.policy\.lora is null"):
        VLLMServer().check_policy(PolicyConfig(lora=None))


def test_the_engine_is_asked_for_the_largest_rank_and_the_longest_text(tiny_policy: Policy) -> None:
    policy = Policy(config(rank_pattern={"layers.0.self_attn.q_proj": 20}))
    engine = VLLM()
    engine.longest = 100
    engine.form = "adapter"
    settings = engine._settings(policy, 0)
    assert settings["max_lora_rank"] == 32
    assert settings["max_model_len"] == 100
    engine.longest = 1 << 20
    assert engine._settings(policy, 0)["max_model_len"] == policy.context
    assert VLLM(context=64)._settings(policy, 0)["max_model_len"] == 64


def test_shared_memory_is_used_only_where_two_versions_fit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(64_000_000, 0, 64_000_000))
    small, large = WeightFolders(), WeightFolders()
    with caplog.at_level(logging.WARNING):
        first, none = small.fresh(1_000_000)
        second, before = small.fresh(1_000_000)
        elsewhere, _ = large.fresh(40_000_000)
        again, _ = large.fresh(40_000_000)
    assert (none, before) == (None, first)
    assert all(folder.is_relative_to("/dev/shm") for folder in (first, second))
    assert all(folder.is_relative_to(tempfile.gettempdir()) for folder in (elsewhere, again))
    assert caplog.text.count("two versions of the weights take 80 MB") == 1
    for folder in (first, second, elsewhere, again):
        folder.rmdir()


def test_the_size_of_weights_is_that_of_the_files(tiny_policy: Policy, tmp_path: Path) -> None:
    tiny_policy.export_merged(tmp_path / "merged")
    tiny_policy.export_adapter(tmp_path / "adapter")
    merged = (tmp_path / "merged" / "model.safetensors").stat().st_size
    adapter = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    assert merged <= weight_bytes(tiny_policy, "merged") * 1.1
    assert adapter <= weight_bytes(tiny_policy, "adapter") * 1.5
