"""The transformers engine on models whose caches are not of keys and values alone."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BambaConfig, Gemma2Config, GPT2Config, Lfm2Config, MambaConfig, Qwen3NextConfig

from gpo_lightning.engines import Purpose, Request, Sampling, Transformers
from gpo_lightning.engines.decoding import Cached, Recomputed, choose_decoder
from gpo_lightning.policy import Policy, PolicyConfig
from tests.models import LLAMA, write_model

PROMPTS = [(40, 107, 101, 8, 105, 100), (3, 107, 103, 6, 108, 101, 9, 105, 100), (50, 107, 101)]
LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
}  # fmt: skip
FOUR = LLAMA | {"num_hidden_layers": 4}
CONFIGS = {
    "lfm2": Lfm2Config(**FOUR, layer_types=["conv", "full_attention"] * 2),
    "qwen3_next": Qwen3NextConfig(**FOUR, **LINEAR),
    "bamba": BambaConfig(**LLAMA, attn_layer_indices=[1], mamba_n_heads=8, mamba_d_head=8, mamba_d_state=8),
    "mamba": MambaConfig(vocab_size=192, hidden_size=32, state_size=8, num_hidden_layers=2),
    "sliding window": Gemma2Config(**LLAMA, sliding_window=4),
    "gpt2": GPT2Config(vocab_size=192, n_embd=32, n_head=4, n_layer=2, n_positions=64),
}


def requests() -> list[Request]:
    return [Request(prefix, 8, Sampling(8), Purpose.SAMPLE, seed) for prefix in PROMPTS for seed in range(2)]


def agree(policy: Policy, engine: Transformers) -> None:
    engine.start(policy)
    asked = requests()
    for request, made in zip(asked, engine.generate(asked), strict=True):
        ids = torch.tensor([request.prefix + made.tokens])
        mask = torch.zeros(ids.shape)
        mask[:, len(request.prefix) :] = 1
        ours = policy.logprobs(ids, torch.ones_like(ids), mask)[0, len(request.prefix) :].double()
        assert torch.allclose(ours, torch.tensor(made.logprobs, dtype=torch.float64), atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_it_says_of_tokens_is_what_the_policy_says(tmp_path: Path, name: str) -> None:
    policy = Policy(PolicyConfig(base=write_model(tmp_path, CONFIGS[name]), dtype="float32"))
    agree(policy, Transformers())


def test_without_a_cache_the_same_tokens_are_drawn(tiny_policy: Policy) -> None:
    anew = Transformers()
    anew.decoder = Recomputed
    agree(tiny_policy, anew)
    cached = Transformers()
    cached.start(tiny_policy)
    assert [made.tokens for made in anew.generate(requests())] == [made.tokens for made in cached.generate(requests())]


@pytest.mark.parametrize("fault", ["raises", "lies"])
def test_a_cache_that_cannot_be_used_is_not_and_that_is_said_once(
    tiny_policy: Policy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    def keep(self: Any, rows: torch.Tensor) -> None:
        if fault == "raises":
            raise AttributeError("no batch_select_indices")
        self.logits, self._mask, self._next = self.logits[rows], self._mask[rows], self._next[rows]
        self._cache.reorder_cache(torch.zeros_like(rows))

    tiny_policy.eval()
    assert choose_decoder(tiny_policy) is Cached
    monkeypatch.setattr(Cached, "keep", keep)
    engine = Transformers()
    with caplog.at_level(logging.WARNING):
        agree(tiny_policy, engine)
        engine.generate(requests())
    assert engine.decoder is Recomputed
    assert caplog.text.count("LlamaForCausalLM: the cache of keys and values cannot be used") == 1
