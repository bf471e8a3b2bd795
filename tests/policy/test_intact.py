"""A model is what its files say: what they lack, or have too much of, is not passed over."""

import logging
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GPT2Config, LlamaConfig, PretrainedConfig

from gpo_lightning.errors import ConfigError
from gpo_lightning.policy import Policy, PolicyConfig
from tests.models import LLAMA, write_model

WEIGHTS = "model.safetensors"
ADAPTER = "adapter_model.safetensors"
GPT2 = GPT2Config(vocab_size=192, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)


def rewrite(file: Path, **changes: Tensor | None) -> None:
    """Change weights of a file, each named with its dots as double underscores; ``None`` takes one away."""
    weights = load_file(file)
    for name, value in changes.items():
        weights.pop(name.replace("__", "."), None)
        if value is not None:
            weights[name.replace("__", ".")] = value
    save_file(weights, file, metadata={"format": "pt"})


def load(base: Path, **more: str | LoraConfig) -> Policy:
    return Policy(PolicyConfig(base=str(base), dtype="float32", **more))  # pyright: ignore[reportArgumentType]


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    write_model(tmp_path, LlamaConfig(**LLAMA))
    return tmp_path


def test_a_missing_weight_is_not_drawn_at_random(llama: Path) -> None:
    rewrite(llama / WEIGHTS, model__layers__1__mlp__up_proj__weight=None)
    with pytest.raises(ConfigError, match=r"model\.policy\.base: .*layers\.1\.mlp\.up_proj\.weight is missing"):
        load(llama)


def test_a_missing_bias_is_not_drawn_at_random(tmp_path: Path) -> None:
    write_model(tmp_path, GPT2)
    rewrite(tmp_path / WEIGHTS, transformer__h__0__attn__c_attn__bias=None)
    with pytest.raises(ConfigError, match=r"h\.0\.attn\.c_attn\.bias is missing"):
        load(tmp_path)


def test_a_model_without_an_output_head_is_told_apart(llama: Path) -> None:
    rewrite(llama / WEIGHTS, lm_head__weight=None, score__weight=torch.ones(1, 32))
    with pytest.raises(ConfigError, match=r"lm_head\.weight is missing.*as encoders and reward models do"):
        load(llama)


@pytest.mark.parametrize("config", [LlamaConfig(**LLAMA, tie_word_embeddings=True), GPT2])
def test_a_tied_head_is_not_missing(tmp_path: Path, config: PretrainedConfig) -> None:
    write_model(tmp_path, config)
    assert "lm_head.weight" not in load_file(tmp_path / WEIGHTS)
    load(tmp_path)


def test_weights_of_another_size_are_named_with_both_sizes(llama: Path) -> None:
    rewrite(llama / WEIGHTS, model__norm__weight=torch.ones(16))
    with pytest.raises(ConfigError, match=r"model\.norm\.weight is 16 there and 32 by config\.json\."):
        load(llama)


def test_a_part_of_a_layer_is_not_left_out(llama: Path) -> None:
    """Qwen2's weights under Llama's configuration: the same layers, computed without their biases."""
    rewrite(llama / WEIGHTS, model__layers__0__self_attn__q_proj__bias=torch.ones(32))
    with pytest.raises(ConfigError, match=r"q_proj\.bias would be left out of layers"):
        load(llama)


def test_what_else_is_left_out_is_said(llama: Path, caplog: pytest.LogCaptureFixture) -> None:
    rewrite(llama / WEIGHTS, model__layers__2__mlp__up_proj__weight=torch.ones(64, 32))
    with caplog.at_level(logging.WARNING):
        load(llama)
    assert "left out: model.layers.2.mlp.up_proj.weight." in caplog.text


def test_an_adapter_saved_as_a_model_is_no_model(llama: Path) -> None:
    weights = load_file(llama / WEIGHTS)
    save_file({f"base_model.model.{name}": value for name, value in weights.items()}, llama / WEIGHTS)
    with pytest.raises(ConfigError, match=r"are missing.* an adapter goes into model\.policy\.adapter"):
        load(llama)


def test_weights_that_are_no_numbers_are_called_so(llama: Path) -> None:
    rewrite(llama / WEIGHTS, model__norm__weight=torch.full((32,), float("nan")))
    with pytest.raises(ConfigError, match=r"logits that are no numbers\. Its files are damaged"):
        load(llama)


@pytest.mark.parametrize("wrapper", ["_orig_mod.", "module.", "base_model.model."])
def test_the_names_of_a_wrapper_are_recognised(llama: Path, wrapper: str) -> None:
    weights = load_file(llama / WEIGHTS)
    save_file({f"{wrapper}{name}": value for name, value in weights.items()}, llama / WEIGHTS)
    with pytest.raises(ConfigError, match=rf"The files call it {wrapper}lm_head\.weight: save the model"):
        load(llama)


def test_two_different_heads_that_are_said_to_be_one_are_refused(tmp_path: Path) -> None:
    """transformers keeps both, vLLM takes the embeddings."""
    write_model(tmp_path, LlamaConfig(**LLAMA, tie_word_embeddings=True))
    rewrite(tmp_path / WEIGHTS, lm_head__weight=torch.ones(192, 32))
    with pytest.raises(ConfigError, match=r"`tie_word_embeddings`\), but the files hold two different ones"):
        load(tmp_path)
    rewrite(tmp_path / WEIGHTS, lm_head__weight=load_file(tmp_path / WEIGHTS)["model.embed_tokens.weight"].clone())
    load(tmp_path)


KINDS = [
    LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
    LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"]),
    LoraConfig(r=4, target_modules=["q_proj"], use_dora=True),
    LoraConfig(r=4, target_modules=["embed_tokens", "q_proj"]),
    LoraConfig(r=4, target_modules=["q_proj"], trainable_token_indices=[3, 7]),
    LoraConfig(r=4, target_modules=["q_proj"], bias="lora_only"),
]


@pytest.mark.parametrize("lora", KINDS, ids=lambda lora: str(sorted(lora.target_modules)))
def test_every_kind_of_adapter_that_is_whole_is_taken(llama: Path, lora: LoraConfig) -> None:
    load(llama, lora=lora).export_adapter(llama / "adapter")
    load(llama, adapter=str(llama / "adapter"))


@pytest.mark.parametrize("lora", KINDS[:-1], ids=lambda lora: str(sorted(lora.target_modules)))
def test_an_adapter_that_lacks_any_of_its_weights_is_refused(llama: Path, lora: LoraConfig) -> None:
    load(llama, lora=lora).export_adapter(llama / "adapter")
    whole = load_file(llama / "adapter" / ADAPTER)
    for name in whole:
        save_file({other: value for other, value in whole.items() if other != name}, llama / "adapter" / ADAPTER)
        with pytest.raises(ConfigError, match=r"model\.policy\.adapter: "):
            load(llama, adapter=str(llama / "adapter"))


def test_an_adapter_for_other_layers_is_refused(llama: Path) -> None:
    load(llama, lora=KINDS[0]).export_adapter(llama / "adapter")
    whole = load_file(llama / "adapter" / ADAPTER)
    more = {name.replace("layers.1", "layers.5"): value.clone() for name, value in whole.items()}
    save_file(whole | more, llama / "adapter" / ADAPTER)
    with pytest.raises(ConfigError, match=r"it has model\.layers\.5\.self_attn\.q_proj.*fit nowhere"):
        load(llama, adapter=str(llama / "adapter"))
