"""Tiny models of random weights, of whatever architecture a test is about."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from gpo_lightning.policy.embedded.tiny import tiny_tokenizer

IDS = torch.tensor([[40, 107, 101, 8, 105, 100, 5, 6], [7, 107, 103, 6, 105, 100, 9, 3]])
LLAMA: dict[str, Any] = {
    "vocab_size": 192,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def write_model(folder: Path, config: PretrainedConfig, **saving: Any) -> str:
    """A model with the tokenizer of the embedded one."""
    save(folder, random_model(config), **saving)
    return str(folder)


def random_model(config: PretrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def save(folder: Path, model: PreTrainedModel, **saving: Any) -> None:
    model.save_pretrained(folder, **saving)
    tiny_tokenizer().save_pretrained(folder)


def own_logprobs(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    """``[R, T - 1]`` by the model's own forward."""
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[:, :-1]
    return logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)


def scored(ids: torch.Tensor = IDS) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What ``Policy.logprobs`` takes to score all tokens but the first."""
    mask = torch.ones(ids.shape)
    mask[:, 0] = 0
    return ids, torch.ones_like(ids), mask
