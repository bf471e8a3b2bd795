"""What the settings of a LoRA adapter mean for those who serve it."""

from collections.abc import Callable
from dataclasses import fields
from typing import cast

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer, check_target_module_exists
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from gpo_lightning.errors import ConfigError
from gpo_lightning.policy.base import base_config
from gpo_lightning.policy.config import PolicyConfig
from gpo_lightning.policy.head import plain_attention, removed, some_tokens
from gpo_lightning.policy.intact import tied

_SERVED_AS_THEY_ARE = {
    *("r", "lora_alpha", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("rank_pattern", "alpha_pattern", "use_rslora", "lora_dropout", "fan_in_fan_out", "init_lora_weights"),
    *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size", "ensure_weight_tying"),
    *("runtime_config", "megatron_config", "megatron_core", "task_type", "peft_type", "peft_version", "auto_mapping"),
    *("base_model_name_or_path", "revision", "inference_mode"),
}
_MERGED_INTO_THE_BASE = {
    *("modules_to_save", "use_dora", "bias", "trainable_token_indices", "target_parameters"),
}


def largest_rank(lora: LoraConfig) -> int:
    """The highest rank of any adapted layer.

    >>> largest_rank(LoraConfig(r=8, rank_pattern={"q_proj": 32}))
    32
    """
    return max(lora.r, *(cast("dict[str, int] | None", lora.rank_pattern) or {}).values(), 0)


def unlike_a_plain_adapter(lora: LoraConfig) -> list[str]:
    """Settings whose effect is more than a product of two matrices beside each adapted layer.

    >>> unlike_a_plain_adapter(LoraConfig(r=8, use_dora=True, modules_to_save=["lm_head"]))
    ['modules_to_save', 'use_dora']
    """
    return [name for name in _set_by_hand(lora) if name not in _SERVED_AS_THEY_ARE]


def unmergeable(lora: LoraConfig) -> list[str]:
    """Settings whose effect cannot be folded into the base weights either.

    >>> unmergeable(LoraConfig(r=8, layer_replication=[(0, 4), (2, 5)]))
    ['layer_replication']
    """
    return [name for name in unlike_a_plain_adapter(lora) if name not in _MERGED_INTO_THE_BASE]


@torch.no_grad()
def check_computes(model: PeftModel) -> None:
    """Refuse an adapter on layers that are no linear layers to those who call them; peft finds that out by failing.

    The model is in eval mode afterwards, for nothing may be drawn here.

    Raises:
        ConfigError: a short text cannot be computed; the message names the layers.
    """
    base, at = cast(PreTrainedModel, model.get_base_model()), [""]

    def note(name: str) -> Callable[..., None]:
        return lambda module, args: at.append(name)

    adapted = [name for name, layer in model.named_modules() if isinstance(layer, BaseTunerLayer)]
    hooks = [model.get_submodule(name).register_forward_pre_hook(note(name)) for name in adapted]
    model.eval()
    try:
        with plain_attention(base), removed(hooks):
            ids = some_tokens(base)
            base(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    except Exception as error:  # of layers that peft or we do not know
        name = at[-1].rpartition(".")[2]
        raise ConfigError(
            f"model.policy.lora: {type(base).__name__} does not use its layers {name!r} as linear layers, so they can "
            f"have no adapter ({error}). Leave them alone: model.policy.lora.exclude_modules: [{name}]."
        ) from error


def parts_tied_embeddings(lora: LoraConfig, model: PreTrainedModel) -> bool:
    """Whether the adapter changes one of two embeddings that share their weight, which after that differ."""
    if not tied(model.config):
        return False
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    names = [name for name, module in model.named_modules() if any(module is end for end in ends)]
    if any(_targets(lora, name) for name in names):
        return True
    if lora.ensure_weight_tying:
        return False
    # Of trained tokens peft keeps the tie, unless the head is given tokens of its own.
    tokens = lora.trainable_token_indices
    apart = [*(lora.modules_to_save or []), *(tokens if isinstance(tokens, dict) and len(tokens) > 1 else [])]
    return any(name == part or name.endswith(f".{part}") for name in names for part in apart)


def only_merged(config: PolicyConfig) -> list[str]:
    """Why the adapter of a policy cannot be served as an adapter: the settings to blame. No weights are loaded."""
    lora = config.adapter_settings
    if lora is None:
        return []
    reasons = unlike_a_plain_adapter(lora)
    if not reasons and lora.target_modules != "all-linear":
        found = base_config(config)
        if tied(found) and parts_tied_embeddings(lora, _outline(found)):
            reasons = ["target_modules (embeddings that share their weight)"]
    return reasons


def untie(model: PreTrainedModel) -> None:
    """Give the output embeddings a weight of their own."""
    output = cast(nn.Module, model.get_output_embeddings())
    output.weight = nn.Parameter(cast(torch.Tensor, output.weight).detach().clone(), requires_grad=False)
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False


def _outline(config: PretrainedConfig) -> PreTrainedModel:
    """The model without weights."""
    with torch.device("meta"):
        return cast(PreTrainedModel, AutoModelForCausalLM.from_config(config))


def _targets(lora: LoraConfig, name: str) -> bool:
    return lora.target_modules not in (None, "all-linear") and bool(check_target_module_exists(lora, name))


def _set_by_hand(lora: LoraConfig) -> list[str]:
    plain = LoraConfig()
    return [
        field.name
        for field in fields(lora)
        if (getattr(lora, field.name) or None) != (getattr(plain, field.name, None) or None)
    ]
