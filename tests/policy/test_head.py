"""The head is read off the model, and what it gives is what the model gives."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    CohereConfig,
    FalconH1Config,
    Gemma2Config,
    GraniteConfig,
    Llama4TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    PhiConfig,
)

from gpo_lightning.errors import ConfigError
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.head import find_head
from tests.models import IDS, LLAMA, own_logprobs, random_model, scored, write_model

MAMBA = {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}
BERT = {key: LLAMA[key] for key in LLAMA if key not in ("head_dim", "num_key_value_heads")}


def _opt() -> OPTConfig:
    sizes = {"vocab_size": 192, "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return OPTConfig(**sizes, word_embed_proj_dim=16, max_position_embeddings=64)


@pytest.mark.parametrize(
    ("config", "scale", "cap"),
    [
        (LlamaConfig(**LLAMA), 1.0, None),
        (GraniteConfig(**LLAMA, logits_scaling=8.0), 1 / 8, None),
        (CohereConfig(**LLAMA, logit_scale=0.25), 0.25, None),
        (FalconH1Config(**LLAMA, **MAMBA, lm_head_multiplier=0.3), 0.3, None),
        (Gemma2Config(**LLAMA, final_logit_softcapping=3.0), 1.0, 3.0),
        (PhiConfig(**LLAMA), 1.0, None),
        (Llama4TextConfig(**LLAMA, intermediate_size_mlp=64, num_local_experts=2), 1.0, None),
        (_opt(), 1.0, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_scale_and_cap_are_read_off_the_model(tmp_path: Path, config: Any, scale: float, cap: float | None) -> None:
    policy = Policy(PolicyConfig(base=write_model(tmp_path, config), dtype="float32"))
    assert policy.head is not None
    assert policy.head.scale == pytest.approx(scale, rel=1e-6)
    assert policy.head.cap == (cap if cap is None else pytest.approx(cap, rel=1e-6))
    assert torch.allclose(policy.logprobs(*scored())[:, 1:], own_logprobs(policy.causal_lm), atol=1e-5)


class Scaled(LlamaForCausalLM):
    """Multiplies where nothing in its configuration says so: before the projection, after it, and capped after that."""

    def forward(self, **inputs: Any) -> Any:  # type: ignore[override]
        output = self.model(**{name: value for name, value in inputs.items() if name != "logits_to_keep"})
        output.logits = self.bounded(self.lm_head(output.last_hidden_state * 0.5) * 3.0)
        return output

    def bounded(self, logits: torch.Tensor) -> torch.Tensor:
        return 2.0 * torch.tanh(logits / 2.0)


class Bent(Scaled):
    """Bounds its logits in a way that is no cap."""

    def bounded(self, logits: torch.Tensor) -> torch.Tensor:
        return logits / (1 + logits.abs())


def test_factors_on_both_sides_of_the_projection_are_one_scale() -> None:
    torch.manual_seed(0)
    head = find_head(Scaled(LlamaConfig(**LLAMA)).eval())
    assert head is not None
    assert (head.scale, head.cap) == (pytest.approx(1.5), pytest.approx(2.0))


def test_a_head_that_is_no_scaled_projection_is_left_to_the_model() -> None:
    torch.manual_seed(0)
    assert find_head(Bent(LlamaConfig(**LLAMA)).eval()) is None


def test_a_head_of_more_than_a_projection_agrees_too_values_included(tmp_path: Path) -> None:
    base = write_model(tmp_path, BertConfig(**BERT, is_decoder=True))
    policy = Policy(PolicyConfig(base=base, dtype="float32"), values=True)
    assert policy.head is None
    logprobs, values = policy.logprobs_and_values(*scored())
    assert torch.allclose(logprobs[:, 1:], own_logprobs(policy.causal_lm), atol=1e-5)
    assert values.shape == IDS.shape
    logprobs.sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in policy.trainable_state().values())


def test_a_model_that_sees_what_comes_after_is_refused(tmp_path: Path) -> None:
    base = write_model(tmp_path, BertConfig(**BERT, is_decoder=False))
    with pytest.raises(ConfigError, match=r"model\.policy\.base: BertLMHeadModel lets a token see those after it"):
        Policy(PolicyConfig(base=base, dtype="float32"))


class Counting(Scaled):
    """Divides by how many tokens there are, as attention does that forgets what is hidden from a token."""

    def bounded(self, logits: torch.Tensor) -> torch.Tensor:
        return logits / logits.shape[1]


def test_a_model_whose_logits_change_as_the_text_grows_is_refused() -> None:
    torch.manual_seed(0)
    with pytest.raises(ConfigError, match=r"model\.policy\.base: Counting gives a token other logits when more tokens"):
        find_head(Counting(LlamaConfig(**LLAMA)).eval())


def test_hooks_are_gone_afterwards() -> None:
    model = random_model(LlamaConfig(**LLAMA))
    find_head(model)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
