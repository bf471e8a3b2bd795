"""Noise of training is where it is asked for, and in no pass without gradients."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from torch import Tensor
from transformers import GPT2Config, LlamaConfig, OPTConfig, PretrainedConfig

from gpo_lightning.policy import Policy, PolicyConfig
from tests.conftest import disturb
from tests.models import LLAMA, scored, write_model

GPT2 = GPT2Config(vocab_size=192, n_embd=32, n_head=4, n_layer=2, n_positions=64, resid_pdrop=0.5)
OPT = OPTConfig(
    vocab_size=192, hidden_size=32, word_embed_proj_dim=32, ffn_dim=64, num_hidden_layers=4, num_attention_heads=4,
    max_position_embeddings=64, dropout=0.0, layerdrop=0.5,
)  # fmt: skip


def policy_of(folder: Path, config: PretrainedConfig, lora_dropout: float = 0.0, **settings: bool) -> Policy:
    lora = LoraConfig(r=4, target_modules="all-linear", lora_dropout=lora_dropout)
    policy = Policy(PolicyConfig(base=write_model(folder, config), lora=lora, dtype="float32", **settings))
    disturb(policy)
    return policy


def twice(policy: Policy) -> tuple[Tensor, Tensor]:
    return policy.logprobs(*scored()), policy.logprobs(*scored())


@pytest.mark.parametrize("config", [GPT2, OPT], ids=["dropout", "layer drop"])
@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_the_base_model_is_still_in_training(
    tmp_path: Path, config: PretrainedConfig, gradient_checkpointing: bool
) -> None:
    policy = policy_of(tmp_path, config, gradient_checkpointing=gradient_checkpointing)
    first, second = twice(policy)
    with torch.no_grad():
        old = policy.logprobs(*scored())
    assert first.requires_grad
    assert torch.equal(first, second)
    assert torch.equal(first, old), "the ratio of an on-policy step is 1"


@pytest.mark.parametrize("config", [GPT2, OPT], ids=["dropout", "layer drop"])
def test_a_key_turns_its_noise_on(tmp_path: Path, config: PretrainedConfig) -> None:
    torch.manual_seed(0)
    policy = policy_of(tmp_path, config, dropout=True)
    drawn = [policy.logprobs(*scored()) for _ in range(4)]
    assert any(not torch.equal(drawn[0], other) for other in drawn[1:])
    with torch.no_grad():
        assert torch.equal(*twice(policy))


def test_dropout_of_the_adapter_is_only_where_there_are_gradients(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, LlamaConfig(**LLAMA), lora_dropout=0.5)
    assert not torch.equal(*twice(policy))
    with torch.no_grad():
        assert torch.equal(*twice(policy))
    with policy.reference():
        assert torch.equal(*twice(policy))
    assert policy.training
    assert not torch.equal(*twice(policy)), "it is on again"


def test_layers_are_computed_again_in_the_backward_pass_with_the_same_gradient(tmp_path: Path) -> None:
    kept, anew = (
        policy_of(tmp_path, LlamaConfig(**LLAMA), gradient_checkpointing=checkpointing)
        for checkpointing in (False, True)
    )
    calls: list[int] = []
    anew.causal_lm.model.layers[0].input_layernorm.register_forward_hook(lambda *_: calls.append(1))
    for policy in (kept, anew):
        policy.logprobs(*scored()).sum().backward()
    assert len(calls) == 2
    for mine, theirs in zip(kept.trainable_state().values(), anew.trainable_state().values(), strict=True):
        assert mine.grad is not None
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-6)  # type: ignore[arg-type]
