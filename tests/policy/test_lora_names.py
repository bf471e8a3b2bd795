"""Names in an adapter's settings that the base model does not have."""

from typing import Any

import pytest
from peft import LoraConfig
from transformers import GPT2Config, LlamaConfig

from gpo_lightning.errors import ConfigError
from gpo_lightning.policy.lora_names import check_names
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
