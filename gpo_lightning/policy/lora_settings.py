"""Settings of a LoRA adapter that train less than was asked for, or nothing; peft says little of them."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, cast

from peft import LoraConfig
from torch import Tensor
from transformers import PreTrainedModel

from gpo_lightning.errors import ConfigError

_KEY = "model.policy.lora"


def check_settings(lora: LoraConfig) -> None:
    """Refuse settings with which no model's adapter would learn, or would be the policy that is scored.

    Raises:
        ConfigError: naming the key.
    """
    if lora.lora_alpha <= 0:
        raise ConfigError(
            f"{_KEY}.lora_alpha is {lora.lora_alpha}; it must be above 0, or the adapter changes nothing."
        )
    if not 0 <= lora.lora_dropout < 1:
        raise ConfigError(f"{_KEY}.lora_dropout is {lora.lora_dropout}; it must be at least 0 and below 1.")
    if lora.inference_mode:
        raise ConfigError(f"{_KEY}.inference_mode is true, which freezes the adapter. Leave it out.")
    if lora.init_lora_weights is False:
        raise ConfigError(
            f"{_KEY}.init_lora_weights is false, which starts the policy as another model than its base. Set it to "
            "true, gaussian or orthogonal."
        )
    if lora.alora_invocation_tokens:
        raise ConfigError(
            f"{_KEY}.alora_invocation_tokens: such an adapter is on only after those tokens, which rollouts do not "
            "have. Leave it out."
        )
    for key in ("target_modules", "exclude_modules"):
        _check_pattern(key, getattr(lora, key))


def check_names(lora: LoraConfig, model: PreTrainedModel) -> None:
    """Refuse settings that name what the model does not have, so that less would be trained than was asked for.

    ``exclude_modules`` may name what is not there: that trains nothing less.

    Raises:
        ConfigError: naming the key, the name, and the nearest that there is.
    """
    modules = [name for name, _ in model.named_modules() if name]
    parameters = [name for name, _ in model.named_parameters()]
    layers = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    }
    for key in ("target_modules", "modules_to_save"):
        for name in _listed(getattr(lora, key)):
            if not any(module == name or module.endswith(f".{name}") for module in modules):
                raise _unknown(key, name, layers)
    for key, pattern in _patterns(lora):
        if not any(_matches(pattern, each) for each in (*modules, *parameters)):
            raise _unknown(key, pattern, layers)
    for name in _listed(lora.target_parameters):
        if not any(parameter == name or parameter.endswith(f".{name}") for parameter in parameters):
            raise _unknown("target_parameters", name, {".".join(each.split(".")[-2:]) for each in parameters})
    _check_layers(lora, modules)
    _check_tokens(lora, model)


def check_patterns(lora: LoraConfig, adapted: Collection[str]) -> None:
    """Refuse a rank or scale for layers that have no adapter.

    Args:
        lora: its ``rank_pattern`` and ``alpha_pattern`` are looked at.
        adapted: names of the layers that have one.

    Raises:
        ConfigError: naming the key.
    """
    for key, pattern in _patterns(lora):
        if not any(_matches(pattern, module) for module in adapted):
            raise ConfigError(f"{_KEY}.{key}: no layer called {pattern!r} has an adapter. Add it to target_modules.")


def _check_pattern(key: str, pattern: Any) -> None:
    """One string is a regular expression, or ``all-linear``."""
    try:
        re.compile(pattern if isinstance(pattern, str) else "")
    except re.error as error:
        raise ConfigError(f"{_KEY}.{key}: {pattern!r} is no regular expression: {error}.") from error


def _listed(names: Any) -> Sequence[str]:
    """The names of a list; one string is a regular expression, or ``all-linear``, which peft checks."""
    return [] if names is None or isinstance(names, str) else sorted(map(str, names))


def _patterns(lora: LoraConfig) -> list[tuple[str, str]]:
    """Key and pattern of each rank and scale of its own."""
    return [
        (key, pattern)
        for key in ("rank_pattern", "alpha_pattern")
        for pattern in cast("Mapping[str, int] | None", getattr(lora, key)) or {}
    ]


def _matches(pattern: str, module: str) -> bool:
    """As peft looks for the rank of a layer."""
    return re.match(rf"(.*\.)?({pattern})$", module) is not None


def _unknown(key: str, name: str, there: Iterable[str]) -> ConfigError:
    near = get_close_matches(name, list(there), n=1)
    advice = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(sorted(there))}."
    return ConfigError(f"{_KEY}.{key}: the base model has no part called {name!r}. {advice}")


def _check_layers(lora: LoraConfig, modules: Sequence[str]) -> None:
    wanted = lora.layers_to_transform
    if wanted is None:
        return
    numbers = {int(part) for module in modules for part in module.split(".") if part.isdigit()}
    for number in [wanted] if isinstance(wanted, int) else wanted:
        if number not in numbers:
            raise ConfigError(
                f"{_KEY}.layers_to_transform: the base model has no layer {number}; its layers are 0 to "
                f"{max(numbers, default=0)}."
            )


def _check_tokens(lora: LoraConfig, model: PreTrainedModel) -> None:
    indices = lora.trainable_token_indices or []
    rows = cast(Tensor, model.get_input_embeddings().weight).shape[0]
    for index in (each for part in indices.values() for each in part) if isinstance(indices, dict) else indices:
        if not 0 <= index < rows:
            raise ConfigError(
                f"{_KEY}.trainable_token_indices: there is no token {index}; the base model knows 0 to {rows - 1}."
            )
