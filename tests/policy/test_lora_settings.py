"""Settings of an adapter with which less would be trained than was asked for, or nothing."""

from typing import Any

import pytest
from peft import LoraConfig
from transformers import GPT2Config, LlamaConfig

from gpo_lightning.errors import ConfigError
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.lora_settings import check_names, check_patterns, check_settings
from tests.models import LLAMA, random_model

MODEL = random_model(LlamaConfig(**LLAMA))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target_modules": ["q_proj", "qproj"]}, r"target_modules: .*'qproj'\. Did you mean 'q_proj'\?"),
        ({"target_modules": ["c_attn"]}, r"target_modules: .*'c_attn'\. There are: .*gate_proj.*v_proj\."),
        ({"modules_to_save": ["lmhead"]}, r"modules_to_save: .*Did you mean 'lm_head'\?"),
        ({"rank_pattern": {"kproj": 8}}, r"rank_pattern: .*Did you mean 'k_proj'\?"),
        ({"alpha_pattern": {"layers.7.self_attn.k_proj": 8}}, r"alpha_pattern: .*layers\.7"),
        ({"target_parameters": ["q_proj.weights"]}, r"target_parameters: .*Did you mean 'q_proj\.weight'\?"),
        ({"layers_to_transform": [0, 7]}, r"layers_to_transform: .* no layer 7; its layers are 0 to 1\."),
        ({"trainable_token_indices": [5, 192]}, r"trainable_token_indices: .* no token 192; .* 0 to 191\."),
        ({"trainable_token_indices": {"embed_tokens": [-1]}}, r"trainable_token_indices: .* no token -1"),
    ],
)
def test_a_name_that_is_not_there_is_refused_with_the_nearest_one(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.policy\.lora\.{said}"):
        check_names(LoraConfig(**settings), MODEL)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.(q|v)_proj"},
        {"target_modules": ["self_attn.q_proj", "model.layers.0.mlp.up_proj"], "exclude_modules": ["conv1d"]},
        {"rank_pattern": {r"layers\.\d+\.self_attn\.k_proj": 8, "^model.layers.0.mlp.up_proj": 2}},
        {"modules_to_save": ["lm_head", "embed_tokens"], "layers_to_transform": [0, 1]},
        {"layers_to_transform": 1, "trainable_token_indices": [0, 191]},
    ],
)
def test_names_that_are_there_are_taken_in_every_way_peft_has(settings: dict[str, Any]) -> None:
    check_names(LoraConfig(**settings), MODEL)


def test_names_are_those_of_the_architecture() -> None:
    model = random_model(GPT2Config(vocab_size=192, n_embd=32, n_layer=2, n_head=4))
    check_names(LoraConfig(target_modules=["c_attn"]), model)
    with pytest.raises(ConfigError, match=r"'q_proj'"):
        check_names(LoraConfig(target_modules=["q_proj"]), model)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lora_alpha": 0}, r"lora_alpha is 0"),
        ({"lora_alpha": -16}, r"lora_alpha is -16"),
        ({"lora_dropout": 1.0}, r"lora_dropout is 1\.0"),
        ({"lora_dropout": -0.1}, r"lora_dropout is -0\.1"),
        ({"inference_mode": True}, r"inference_mode is true"),
        ({"init_lora_weights": False}, r"init_lora_weights is false, .*another model"),
        ({"alora_invocation_tokens": [3]}, r"alora_invocation_tokens: "),
        ({"target_modules": ".*("}, r"target_modules: '\.\*\(' is no regular expression"),
        ({"exclude_modules": "[a"}, r"exclude_modules: .* is no regular expression"),
    ],
)
def test_what_would_not_learn_is_refused_before_a_model_is_loaded(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.policy\.lora\.{said}"):
        PolicyConfig(base="no/such", lora=LoraConfig(**settings))


@pytest.mark.parametrize("init", [True, "gaussian", "orthogonal"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_usual_settings_are_taken(init: Any, dropout: float) -> None:
    check_settings(LoraConfig(lora_dropout=dropout, init_lora_weights=init, lora_alpha=1, bias="all"))


def test_a_rank_for_a_layer_without_an_adapter_is_refused() -> None:
    adapted = ["model.layers.0.self_attn.q_proj"]
    check_patterns(LoraConfig(rank_pattern={"q_proj": 8}, alpha_pattern={r"layers\.0\..*": 2}), adapted)
    for key in ("rank_pattern", "alpha_pattern"):
        with pytest.raises(ConfigError, match=rf"lora\.{key}: no layer called 'k_proj' has an adapter"):
            check_patterns(LoraConfig(**{key: {"k_proj": 8}}), adapted)
    with pytest.raises(ConfigError, match=r"rank_pattern: no layer called 'v_proj'"):
        Policy(PolicyConfig(lora=LoraConfig(target_modules=["q_proj"], rank_pattern={"v_proj": 8})))


def test_peft_writes_nothing_into_the_settings_of_the_configuration() -> None:
    """A second policy is made from the same ones where weights are sharded."""
    lora = LoraConfig(r=4, target_modules="all-linear", modules_to_save=["lm_head"], ensure_weight_tying=True)
    before = lora.to_dict()
    config = PolicyConfig(lora=lora, dtype="float32")
    Policy(config)
    assert lora.to_dict() == before
    Policy(config)
