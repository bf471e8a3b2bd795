"""What a policy is made of, as it is written in YAML; what cannot work is refused before any weights are loaded."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import torch
from peft import LoraConfig, PeftConfig
from transformers import BitsAndBytesConfig

from gpo_lightning.errors import ConfigError
from gpo_lightning.given import said
from gpo_lightning.policy.lora_settings import check_settings

Precision = Literal["auto", "float32", "bfloat16", "float16", "float64"]

_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of peft's ``init_lora_weights`` that subtract from the base what they put into the adapter."""


@dataclass(frozen=True)
class PolicyConfig:
    """What the policy is made of.

    Args:
        base: base model: ``tiny``, a warm start of it (``tiny:ledger-8``), ``smollm2``, a local directory, or a hub id.
        revision: branch, tag or commit of a base model on the hub; ``null`` takes the newest.
        lora: the adapter that is trained; ``null`` trains every weight of the base model.
        adapter: directory of an adapter to go on from; its own settings replace ``lora``.
        quantization: 4-bit or 8-bit base weights; needs ``lora``.
        dtype: of the base weights; ``auto`` is bfloat16 on CUDA and float32 elsewhere.
        attention: attention implementation of transformers, such as ``sdpa`` or ``flash_attention_2``; ``auto`` takes
            the fastest that the model has and the machine can run.
        gradient_checkpointing: recompute activations in the backward pass: slower, less memory.
        dropout: train with the base model's own dropout and other noise (layer drop, router jitter). An adapter's
            ``lora_dropout`` does not depend on it; no dropout of either kind is in passes without gradients.
        logit_chunk: tokens whose logits are computed at once; ``null`` bounds the logits instead, whatever the
            vocabulary: 64 MiB of them on a CPU, 256 MiB on a GPU.
        packing: ``tree`` computes what rows of a batch begin with in common once (see
            :mod:`gpo_lightning.policy.packing`) where the model can be given such rows; ``none`` computes every row by
            itself.
        trust_remote_code: run model code that comes with the weights. Only for models whose authors you trust.
    """

    base: str = "tiny"
    revision: str | None = None
    lora: LoraConfig | None = None
    adapter: str | None = None
    quantization: BitsAndBytesConfig | None = None
    dtype: Precision = "auto"
    attention: str = "auto"
    gradient_checkpointing: bool = False
    dropout: bool = False
    logit_chunk: int | None = None
    packing: Literal["tree", "none"] = "tree"
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.quantization is not None and self.lora is None and self.adapter is None:
            raise ConfigError("model.policy.quantization needs model.policy.lora: quantised weights cannot be trained.")
        if self.lora is not None:
            if self.lora.r < 1:
                raise ConfigError(f"model.policy.lora.r is {self.lora.r}; it must be at least 1.")
            check_settings(self.lora)
            _check_start(self.lora, "model.policy.lora.init_lora_weights", "Set it to true, gaussian or orthogonal.")

    @cached_property
    def adapter_settings(self) -> LoraConfig | None:
        """Settings of the adapter that is trained: those of ``adapter`` where one is given, else ``lora``."""
        if self.adapter is None:
            return self.lora
        try:
            settings = PeftConfig.from_pretrained(self.adapter)
        except Exception as error:  # whatever the file holds
            raise no_adapter(self.adapter, error) from error
        if not isinstance(settings, LoraConfig):
            raise ConfigError(
                f"model.policy.adapter: {self.adapter!r} is {type(settings).__name__}, not a LoRA adapter."
            )
        advice = "Convert it to a plain adapter first (peft: path_initial_model_for_weight_conversion)."
        _check_start(settings, f"init_lora_weights of model.policy.adapter, {self.adapter},", advice)
        return settings

    def check_reference(self, who: str) -> None:
        """Refuse a policy whose adapter, switched off, does not leave the base model.

        Args:
            who: reads the reference policy.
        """
        settings = self.adapter_settings
        if settings is None:
            raise ConfigError(
                f"{who} reads a reference policy, which is the adapter switched off, but model.policy.lora is null. "
                "Give model.policy.lora, or choose a loss without a reference."
            )
        if settings.bias != "none":
            raise ConfigError(
                f"{who} reads a reference policy, which is the adapter switched off, but model.policy.lora.bias is "
                f"{settings.bias!r}: biases of the base model are trained and stay. Set it to none, or choose a loss "
                "without a reference."
            )

    def check_shardable(self) -> None:
        """Refuse what :meth:`Policy.shard` cannot do, before any weights are loaded."""
        if self.quantization is not None:
            raise ConfigError(
                "model.policy.quantization: 4-bit and 8-bit weights cannot be sharded. Set it to null, or take "
                "configs/trainer/ddp.yaml, where every process has the whole, small, model."
            )

    @property
    def torch_dtype(self) -> torch.dtype:
        if self.dtype == "auto":
            return torch.bfloat16 if torch.cuda.is_available() else torch.float32
        return cast(torch.dtype, getattr(torch, self.dtype))


def policy_config(policy: object) -> PolicyConfig:
    """The configuration of a policy that may be named only by its base model.

    >>> policy_config("tiny").lora.target_modules
    'all-linear'

    Raises:
        ConfigError: it is neither named nor configured.
    """
    if isinstance(policy, PolicyConfig):
        return policy
    if isinstance(policy, str | Path):
        if not str(policy).strip():
            raise ConfigError("policy is empty. Give `tiny`, a hub id (owner/name) or the directory of a model.")
        lora = LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM")
        return PolicyConfig(base=str(policy), lora=lora)
    raise ConfigError(
        f"policy is {said(policy)}. Give the name of a model (`tiny`, a hub id, a directory), or a PolicyConfig; a "
        "model that is loaded already cannot be taken: save it and give the directory."
    )


def no_adapter(adapter: str, error: Exception) -> ConfigError:
    """What to say of an adapter that cannot be loaded, for whatever reason."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ConfigError(f"model.policy.adapter: no adapter could be loaded from {adapter!r}: {said}")


def _check_start(lora: LoraConfig, key: str, advice: str) -> None:
    init = str(cast(object, lora.init_lora_weights)).lower()
    if init.startswith(_CHANGES_THE_BASE):
        raise ConfigError(
            f"{key} is {init!r}, which changes the weights of the base model: the policy with its adapter switched off "
            f"is then not the model you started from. {advice}"
        )
