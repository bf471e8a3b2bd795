"""Base models as people have them: which can be loaded, and what is said of the others."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from peft import LoraConfig
from transformers import Gemma3Config, GPT2Config, LlamaConfig, PretrainedConfig

from gpo_lightning.errors import ConfigError
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.base import base_config, context_of
from tests.models import LLAMA, own_logprobs, scored, write_model


def mend(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("config", "context"),
    [
        (Gemma3Config(text_config={"max_position_embeddings": 4096}), 4096),
        (GPT2Config(n_positions=77), 77),
        (LlamaConfig(max_position_embeddings=99), 99),
        (PretrainedConfig(), 1 << 20),
    ],
)
def test_the_context_is_that_of_the_text_model(config: PretrainedConfig, context: int) -> None:
    assert context_of(config) == context


@pytest.mark.parametrize("method", ["awq", "gptq", "fp8", "bitsandbytes"])
def test_quantised_bases_are_refused_before_any_weights_are_looked_for(tmp_path: Path, method: str) -> None:
    LlamaConfig(**LLAMA).save_pretrained(tmp_path)
    mend(tmp_path / "config.json", quantization_config={"quant_method": method})
    with pytest.raises(
        ConfigError, match=rf"model\.policy\.base: .* are quantised \({method.upper()}\).*cannot be trained"
    ):
        base_config(PolicyConfig(base=str(tmp_path)))


def test_gguf_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model-q4.gguf").touch()
    with pytest.raises(ConfigError, match=r"model\.policy\.base: .* holds GGUF files"):
        base_config(PolicyConfig(base=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"GGUF"):
        base_config(PolicyConfig(base="someone/Model-GGUF"))


def test_an_adapter_is_no_base(tmp_path: Path) -> None:
    LoraConfig(r=4).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"is an adapter\. Give it as model\.policy\.adapter"):
        base_config(PolicyConfig(base=str(tmp_path)))


def test_an_unknown_id_says_what_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        constants, "HF_HUB_OFFLINE", True
    )  # asked without a network, the hub's client tries for half a minute
    with pytest.raises(
        ConfigError, match=r"model\.policy\.base.*'no/such'.*model\.policy\.revision.*HF_TOKEN.*HF_HOME"
    ):
        base_config(PolicyConfig(base="no/such", revision="v1"))


def test_an_attention_the_model_does_not_have_names_its_key(tmp_path: Path) -> None:
    base = write_model(tmp_path, LlamaConfig(**LLAMA))
    with pytest.raises(ConfigError, match=r"model\.policy\.attention is 'quick'"):
        Policy(PolicyConfig(base=base, attention="quick"))


@pytest.mark.parametrize("attention", ["auto", "sdpa", "eager"])
def test_attention_is_chosen_by_a_key(tmp_path: Path, attention: str) -> None:
    policy = Policy(
        PolicyConfig(base=write_model(tmp_path, LlamaConfig(**LLAMA)), attention=attention, dtype="float32")
    )
    assert policy.causal_lm.config._attn_implementation == ("sdpa" if attention == "auto" else attention)


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_the_configured_precision_counts_whatever_the_files_say(tmp_path: Path, key: str) -> None:
    base = write_model(tmp_path, LlamaConfig(**LLAMA))
    written = json.loads((tmp_path / "config.json").read_text())
    written.pop("dtype", None)
    (tmp_path / "config.json").write_text(json.dumps(written | {key: "float16"}))
    policy = Policy(PolicyConfig(base=base, dtype="float64"))
    assert {weight.dtype for weight in policy.causal_lm.parameters()} == {torch.float64}


def test_sharded_weights_are_read(tmp_path: Path) -> None:
    base = write_model(tmp_path, LlamaConfig(**LLAMA), max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    policy = Policy(PolicyConfig(base=base, dtype="float32"))
    assert torch.allclose(policy.logprobs(*scored())[:, 1:], own_logprobs(policy.causal_lm), atol=1e-5)


def test_ends_of_a_response_are_gathered_from_every_place(tmp_path: Path) -> None:
    base = write_model(tmp_path, LlamaConfig(**LLAMA))
    mend(tmp_path / "generation_config.json", eos_token_id=[150, 7])
    policy = Policy(PolicyConfig(base=base, dtype="float32"))
    assert set(policy.eos_ids) == {2, 7, 150}
    assert policy.pad_id == 0
    assert policy.start_id == 1
