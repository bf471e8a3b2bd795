"""Rows packed into trees: every token sees its own row and nothing else, so nothing that is computed changes."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    BloomConfig,
    FalconH1Config,
    Gemma2Config,
    GPT2Config,
    GPTNeoConfig,
    Lfm2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    OPTConfig,
    Qwen3MoeConfig,
)

from gpo_lightning.experience.example import Row, collate_rows
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.packing import Packing, distinct_tokens, pack
from tests.conftest import disturb, lora
from tests.models import LLAMA, write_model

PACKING = Packing(balance=1e9, longest=1000)
WIDE: dict[str, Any] = {"vocab_size": 192, "max_position_embeddings": 64}
LOCAL: dict[str, Any] = {"attention_types": [[["global", "local"], 1]], "window_size": 20}
MAMBA: dict[str, Any] = {
    "mamba_d_ssm": 64,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
}

nodes = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=7), min_size=1, max_size=8)


def tensors(rows: list[list[int]], left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids, kept = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        where = slice(width - len(row), None) if left else slice(0, len(row))
        ids[i, where], kept[i, where] = torch.tensor(row), 1
    return ids, kept


@given(nodes, st.booleans(), st.sampled_from([7, 12, 1000]), st.sampled_from([3.0, 1e9]))
def test_a_token_sees_its_own_row_up_to_itself_and_nothing_else(
    rows: list[list[int]], left: bool, longest: int, balance: float
) -> None:
    ids, kept = tensors(rows, left)
    tree = pack(ids, kept, Packing(balance, longest))
    if tree is None:
        return
    sees, width = tree.sees()[:, 0], tree.tokens.shape[1]
    assert width <= longest
    flat_tokens, flat_depths = tree.tokens.flatten(), tree.depths.flatten()
    for i, row in enumerate(rows):
        path = tree.places[i][kept[i].bool()]
        assert flat_tokens[path].tolist() == row
        assert flat_depths[path].tolist() == list(range(len(row)))
        assert tree.parents[path].tolist()[1:] == path.tolist()[:-1]
        (packed,) = set((path // width).tolist())
        for depth, place in enumerate((path % width).tolist()):
            assert sees[packed, place].nonzero().flatten().tolist() == (path % width).tolist()[: depth + 1]
    assert sees.any(-1).all(), "a softmax over nothing is no number"


@given(nodes)
def test_without_a_limit_every_node_of_the_tree_stands_once(rows: list[list[int]]) -> None:
    prefixes = {tuple(row[: i + 1]) for row in rows for i in range(len(row))}
    assert distinct_tokens(rows) == len(prefixes)
    tree = pack(*tensors(rows), PACKING)
    if tree is not None:
        assert len(set(tree.places[tensors(rows)[1].bool()].tolist())) == len(prefixes)


def test_rows_that_share_nothing_and_are_of_one_length_are_left_alone() -> None:
    assert pack(*tensors([[1, 2, 3], [2, 2, 3]]), PACKING) is None


def test_the_length_of_packed_rows_follows_what_attention_costs() -> None:
    rows = [[*range(50), *range(100 * i, 100 * i + 50)] for i in range(1, 9)]
    dear, cheap = (pack(*tensors(rows), Packing(balance, 10_000)) for balance in (100.0, 1e9))
    assert dear is not None
    assert cheap is not None
    assert dear.tokens.shape == (4, 150)
    assert cheap.tokens.shape == (1, 450)
    assert pack(*tensors(rows), Packing(1.0, 10_000)) is None, "then rows by themselves are cheapest"


def nested() -> list[Row]:
    """Groups of two problems: from the prompt, from a critical prefix, and from a prefix behind that."""
    rows = [Row((7, 8, 9), (20, 21, end)) for end in (22, 23)] + [Row((7, 8, 9), (30,))]
    rows += [Row((7, 8, 9, 20, 21), (end, 40, 41)) for end in (25, 26)] + [Row((7, 8, 9, 20, 21, 25), (50, 51))]
    return rows + [Row((60, 61), (end, 62, 63, 64, 65)) for end in (66, 67)]


def drawn(config: PolicyConfig, values: bool = False) -> Policy:
    """The same adapter every time."""
    torch.manual_seed(0)
    policy = Policy(config, values)
    disturb(policy)
    return policy


def scores(policy: Policy, temperature: float = 1.0) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    rows = collate_rows(nested(), 0)
    found = policy.logprobs(rows.input_ids, rows.attention_mask, rows.loss_mask, temperature)
    policy.zero_grad()
    (found * torch.linspace(-1, 2, found.numel()).view_as(found)).sum().backward()
    return found.detach(), {n: p.grad.clone() for n, p in policy.trainable_state().items() if p.grad is not None}


BEAR = [
    LlamaConfig(**LLAMA),
    Gemma2Config(**LLAMA, sliding_window=20),
    GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, vocab_size=192),
    GPTNeoConfig(hidden_size=32, num_layers=2, num_heads=4, **LOCAL, **WIDE),
    OPTConfig(vocab_size=192, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4),
    MistralConfig(**LLAMA, sliding_window=20),
    Qwen3MoeConfig(**LLAMA, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16),
]
DO_NOT = [
    FalconH1Config(**LLAMA, **MAMBA),
    Lfm2Config(**LLAMA, layer_types=["conv", "full_attention"]),
    BloomConfig(vocab_size=192, hidden_size=32, n_layer=2, n_head=4),
    MambaConfig(vocab_size=192, hidden_size=32, num_hidden_layers=2, state_size=8),
]


def name_of(config: Any) -> str:
    return type(config).__name__


@pytest.mark.parametrize("config", [*BEAR, *DO_NOT], ids=name_of)
def test_whatever_the_model_packing_changes_nothing(tmp_path: Path, config: Any) -> None:
    adapter = lora()
    adapter.exclude_modules = ["out_proj", "conv1d"]  # peft refuses them in recurrent models
    # Experts have no products in double precision. Norms and rotations are in single precision in any case.
    dtype, tolerance = ("float32", 1e-4) if isinstance(config, Qwen3MoeConfig) else ("float64", 1e-6)
    settings = PolicyConfig(base=write_model(tmp_path, config), dtype=dtype, lora=adapter)  # type: ignore[arg-type]
    apart, packed = (drawn(replace(settings, packing=how)) for how in ("none", "tree"))  # type: ignore[arg-type]
    (expected, slopes), (found, found_slopes) = scores(apart, 0.7), scores(packed, 0.7)
    assert torch.allclose(found, expected, atol=tolerance)
    scale = max(float(slope.abs().max()) for slope in slopes.values())
    assert scale > 0
    for name, slope in slopes.items():
        assert torch.allclose(found_slopes[name], slope, rtol=0, atol=tolerance * scale), name


@pytest.mark.parametrize("config", DO_NOT, ids=name_of)
def test_a_model_that_reads_siblings_gets_rows_by_themselves_and_says_so(
    tmp_path: Path, config: Any, caplog: Any
) -> None:
    with caplog.at_level(logging.WARNING):
        policy = Policy(PolicyConfig(base=write_model(tmp_path, config), dtype="float32"))
    assert policy.packing is None
    assert sum("model.policy.packing" in line for line in caplog.messages) == 1


@pytest.mark.parametrize("config", BEAR, ids=name_of)
@pytest.mark.parametrize(("attention", "dtype"), [("sdpa", "bfloat16"), ("eager", "float32")])
def test_a_model_with_attention_alone_gets_trees(tmp_path: Path, config: Any, attention: str, dtype: Any) -> None:
    if attention == "sdpa" and isinstance(config, GPTNeoConfig):
        attention = "auto"  # it has none
    policy = Policy(PolicyConfig(base=write_model(tmp_path, config), dtype=dtype, attention=attention))
    assert policy.packing is not None


def test_a_window_bounds_how_long_packed_rows_become(tmp_path: Path) -> None:
    """Within it all attention is the same; a mask of ours would widen it for longer rows."""
    base = write_model(tmp_path, MistralConfig(**LLAMA, sliding_window=20))
    settings = PolicyConfig(base=base, dtype="float64", lora=lora())
    rows = torch.randint(3, 100, (3, 32), generator=torch.Generator().manual_seed(0))
    rows[:, :16] = rows[0, :16]
    mask = torch.ones(rows.shape)
    mask[:, 0] = 0
    apart, packed = (drawn(replace(settings, packing=how)) for how in ("none", "tree"))  # type: ignore[arg-type]
    assert packed.packing is not None
    assert packed.packing.longest == 20
    expected, found = (policy.logprobs(rows, torch.ones_like(rows), mask) for policy in (apart, packed))
    assert torch.allclose(found, expected, atol=1e-9)


def test_shared_tokens_go_through_the_policy_once(tiny_policy: Policy) -> None:
    seen: list[int] = []
    tiny_policy.causal_lm.base_model.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    scores(tiny_policy)
    rows = nested()
    assert seen == [distinct_tokens([row.context + row.actions for row in rows])]
    assert seen[0] < sum(map(len, rows)) / 1.5


@settings(max_examples=10)
@given(seed=st.integers(0, 99))
def test_values_are_those_of_rows_by_themselves(seed: int, two_policies: tuple[Policy, Policy]) -> None:
    rows, draw = collate_rows(nested(), 0), torch.Generator().manual_seed(seed)
    mask = (torch.rand(rows.loss_mask.shape, generator=draw) < 0.5) * rows.attention_mask
    mask[:, 0] = 0
    apart, packed = (policy.logprobs_and_values(rows.input_ids, rows.attention_mask, mask) for policy in two_policies)
    for expected, found in zip(apart, packed, strict=True):
        assert torch.allclose(found, expected, atol=1e-9)
        assert (found[mask == 0] == 0).all()


@pytest.fixture(scope="module")
def two_policies() -> tuple[Policy, Policy]:
    settings = PolicyConfig(base="tiny", dtype="float64", lora=lora())
    return drawn(replace(settings, packing="none"), values=True), drawn(settings, values=True)
