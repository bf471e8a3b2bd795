"""What an adapter's settings ask of those who serve it, and that a merged model computes what the trainer does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import LlamaConfig, PhimoeConfig

from gpo_lightning.errors import ConfigError
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.adapters import only_merged, unlike_a_plain_adapter, unmergeable
from tests.conftest import disturb
from tests.models import LLAMA, own_logprobs, write_model

NOT_PLAIN: dict[str, dict[str, Any]] = {
    "modules_to_save": {"modules_to_save": ["lm_head"]},
    "use_dora": {"use_dora": True},
    "bias": {"bias": "all"},
}


def adapter(**settings: Any) -> LoraConfig:
    chosen: dict[str, Any] = {"r": 4, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    return LoraConfig(**(chosen | settings))


@pytest.mark.parametrize(
    "settings", [{}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 32}}, {"lora_dropout": 0.1}]
)
def test_plain_adapters_are_served_as_adapters(settings: dict[str, Any]) -> None:
    assert unlike_a_plain_adapter(adapter(**settings)) == []


@pytest.mark.parametrize(("name", "settings"), NOT_PLAIN.items())
@pytest.mark.parametrize("tied", [False, True])
def test_others_are_merged_and_compute_the_same(
    tmp_path: Path, name: str, settings: dict[str, Any], tied: bool
) -> None:
    base = write_model(tmp_path / "base", LlamaConfig(**LLAMA, tie_word_embeddings=tied, attention_bias=True))
    config = PolicyConfig(base=base, lora=adapter(**settings), dtype="float32")
    assert only_merged(config) == [name]
    assert_merged_is_the_same(Policy(config), tmp_path / "merged")


@pytest.mark.parametrize("targets", [["lm_head"], ["embed_tokens", "q_proj"], r".*\.embed_tokens|lm_head"])
def test_embeddings_that_share_their_weight_no_longer_do(tmp_path: Path, targets: Any) -> None:
    base = write_model(tmp_path / "base", LlamaConfig(**LLAMA, tie_word_embeddings=True))
    config = PolicyConfig(base=base, lora=adapter(target_modules=targets), dtype="float32")
    assert only_merged(config) == ["target_modules (embeddings that share their weight)"]
    policy = Policy(config)
    assert_merged_is_the_same(policy, tmp_path / "merged")
    assert (Path(policy.engine_directory) / "config.json").read_text().find('"tie_word_embeddings": false') > 0
    untied = write_model(tmp_path / "untied", LlamaConfig(**LLAMA, tie_word_embeddings=False))
    assert only_merged(PolicyConfig(base=untied, lora=adapter(target_modules=targets))) == []


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(
    ("settings", "parted"),
    [
        ({"trainable_token_indices": [105, 107]}, False),
        ({"trainable_token_indices": {"embed_tokens": [105, 107]}}, False),
        ({"trainable_token_indices": {"lm_head": [105], "embed_tokens": [105]}}, True),
        ({"modules_to_save": ["lm_head"]}, True),
        ({"modules_to_save": ["embed_tokens", "lm_head"]}, True),
    ],
)
def test_shared_embeddings_part_only_where_peft_parts_them(
    tmp_path: Path, settings: dict[str, Any], parted: bool, together: bool
) -> None:
    base = write_model(tmp_path / "base", LlamaConfig(**LLAMA, tie_word_embeddings=True))
    lora = adapter(ensure_weight_tying=together, **settings)
    policy = Policy(PolicyConfig(base=base, lora=lora, dtype="float32"))
    assert policy.unties == (parted and not together)
    assert_merged_is_the_same(policy, tmp_path / "merged")
    policy.export_adapter(tmp_path / "adapter")
    again = Policy(PolicyConfig(base=base, adapter=str(tmp_path / "adapter"), dtype="float32")).eval()
    assert torch.equal(own_logprobs(again.causal_lm), own_logprobs(policy.causal_lm))


def test_settings_that_peft_cannot_join_are_no_traceback(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", LlamaConfig(**LLAMA))
    lora = adapter(target_modules=["embed_tokens"], trainable_token_indices=[105])
    with pytest.raises(ConfigError, match=r"model\.policy\.lora: LlamaForCausalLM cannot have this adapter"):
        Policy(PolicyConfig(base=base, lora=lora))


def assert_merged_is_the_same(policy: Policy, folder: Path) -> None:
    disturb(policy, size=0.2)
    policy.eval()
    policy.export_merged(folder)
    merged = Policy(PolicyConfig(base=str(folder), dtype="float32"))
    assert torch.allclose(own_logprobs(merged.causal_lm), own_logprobs(policy.causal_lm), atol=1e-4)
    assert policy.lora is not None


def test_a_bias_that_the_base_has_no_place_for_cannot_be_merged(tmp_path: Path) -> None:
    lora = adapter(lora_bias=True)
    assert unmergeable(lora) == ["lora_bias"]
    with pytest.raises(ConfigError, match=r"model\.policy\.lora: this adapter cannot be merged.*lora_bias=True"):
        Policy(PolicyConfig(lora=lora, dtype="float32")).export_merged(tmp_path)


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_4", "olora", "loftq"])
def test_an_adapter_that_changes_the_base_is_refused(init: str) -> None:
    lora = LoraConfig(r=4)
    lora.init_lora_weights = init  # type: ignore[assignment]
    with pytest.raises(
        ConfigError, match=r"model\.policy\.lora\.init_lora_weights is .*changes the weights of the base"
    ):
        PolicyConfig(lora=lora)


def test_trained_biases_leave_no_reference() -> None:
    with pytest.raises(ConfigError, match=r"model\.policy\.lora\.bias is 'all'"):
        PolicyConfig(lora=adapter(bias="all")).check_reference("DPO")


def test_an_adapter_the_model_cannot_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.policy\.lora\.target_modules: .* no part called .no_such."):
        Policy(PolicyConfig(lora=adapter(target_modules=["no_such"])))


def test_layers_that_are_not_used_as_linear_ones_are_named_before_anything_is_generated(tmp_path: Path) -> None:
    """Routers inherit from linear layers and give more than a tensor; `all-linear` takes them too."""
    base = write_model(tmp_path, PhimoeConfig(**LLAMA, num_local_experts=4, num_experts_per_tok=2))
    message = (
        r"PhimoeForCausalLM does not use its layers 'router'(.|\n)*model\.policy\.lora\.exclude_modules: \[router\]"
    )
    with pytest.raises(ConfigError, match=message):
        Policy(PolicyConfig(base=base, lora=adapter(target_modules="all-linear"), dtype="float32"))
    lora = adapter(target_modules="all-linear", exclude_modules=["router"], lora_dropout=0.5)
    policy = Policy(PolicyConfig(base=base, lora=lora, dtype="float32"))
    assert policy.training
    assert not any(part._forward_pre_hooks for part in policy.modules())


def test_the_settings_of_an_adapter_on_disk_count(tmp_path: Path) -> None:
    adapter(use_dora=True).save_pretrained(tmp_path)
    assert only_merged(PolicyConfig(adapter=str(tmp_path))) == ["use_dora"]
