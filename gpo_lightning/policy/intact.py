"""A model is what its files say: no weight is drawn at random for want of one, none is left out where it would matter.

transformers and peft load what they find, draw the rest at random, and say so in a warning among others. Training then
starts from noise, and looks like training.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

import torch
from peft import PeftModel
from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from gpo_lightning.errors import ConfigError

_LOG = logging.getLogger(__name__)
_SHOWN = 3


def check_base(model: PreTrainedModel, found: Mapping[str, Any], base: str) -> None:
    """Refuse a base model some of whose weights its files do not have.

    Args:
        model: as it was loaded.
        found: what transformers says of the loading (``output_loading_info``).
        base: as the user named it.

    Raises:
        ConfigError: weights are missing, of another size, or have no place in a layer that the model has.
    """
    begin = f"model.policy.base: the files of {base!r} are not those of a whole {type(model).__name__}:"
    if sizes := sorted(cast(Iterable[tuple[str, Any, Any]], found["mismatched_keys"])):
        name, theirs, ours = sizes[0]
        raise ConfigError(
            f"{begin} {name} is {_shape(theirs)} there and {_shape(ours)} by config.json{_others(len(sizes))}. Put the "
            "config.json of these weights beside them."
        )
    layers, head = dict(model.named_modules()), model.get_output_embeddings()
    if missing := cast(Collection[str], found["missing_keys"]):
        raise ConfigError(
            f"{begin} {some(missing)} {'is' if len(missing) == 1 else 'are'} missing and would be drawn at random. "
            + _why_missing(missing, cast(Collection[str], found["unexpected_keys"]))
            + (
                "They lack an output head, as encoders and reward models do; name a model that writes text."
                if head is not None and all(layers.get(name.rpartition(".")[0]) is head for name in missing)
                else "Download or save the model again, whole; an adapter goes into model.policy.adapter."
            )
        )
    if tied(model.config) and _heads_differ(model) and not _heads_differ(_outline(model)):
        raise ConfigError(
            f"model.policy.base: config.json of {base!r} says that the output head is the embeddings "
            "(`tie_word_embeddings`), but the files hold two different ones, of which other programs take another than "
            "this one. Set it to false there, or leave the head out of the files."
        )
    left_out = cast(Collection[str], found["unexpected_keys"])
    if changed := [name for name in left_out if _of_a_layer(layers, name)]:
        raise ConfigError(
            f"{begin} {some(changed)} would be left out of layers that have no such part by config.json. Put the "
            "config.json of these weights beside them."
        )
    if left_out:
        _LOG.warning(
            "model.policy.base: the files of %r have weights for which %s has no place, and which are left out: %s.",
            base, type(model).__name__, some(left_out),
        )  # fmt: skip


def check_adapter(model: PeftModel, adapter: str) -> None:
    """Refuse an adapter whose files do not have all of its weights, or have some that fit nowhere.

    Args:
        model: with the adapter loaded.
        adapter: folder or hub id it came from.

    Raises:
        ConfigError: the files are of another model, or damaged.
    """
    result = set_peft_model_state_dict(model, load_peft_weights(adapter, device="cpu"))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    missing, foreign = [name for name in result.missing_keys if name in trained], result.unexpected_keys
    if missing or foreign:
        ours = [name.removeprefix("base_model.model.").replace(".default", "") for name in missing or foreign]
        what = f"lacks {some(ours)}" if missing else f"has {some(ours)}, which fit nowhere"
        raise ConfigError(
            f"model.policy.adapter: {adapter!r} is no whole adapter of model.policy.base: it {what}. Name the base "
            "model it was trained on, or save the adapter again."
        )


def some(names: Collection[str]) -> str:
    """The first names, and how many there are beside them.

    >>> some({"a.weight", "b.weight", "c.weight", "d.weight", "e.weight"})
    'a.weight, b.weight, c.weight and 2 more'
    """
    return ", ".join(sorted(names)[:_SHOWN]) + _others(len(names) - _SHOWN + 1)


def tied(config: PretrainedConfig) -> bool:
    """Whether both embeddings of a model share their weight; some configurations do not know of such a thing."""
    return bool(getattr(config.get_text_config(), "tie_word_embeddings", False))


def _heads_differ(model: PreTrainedModel) -> bool:
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    weights = [getattr(end, "weight", None) for end in ends]
    return None not in weights and weights[0] is not weights[1]


def _outline(model: PreTrainedModel) -> PreTrainedModel:
    """The same model without weights."""
    with torch.device("meta"):
        return type(model)(model.config)


def _why_missing(missing: Collection[str], left_out: Collection[str]) -> str:
    """What the files call the missing weights, where a wrapper was saved: ``_orig_mod.model...``."""
    name = min(missing)
    wrapped = next((each for each in sorted(left_out) if each.endswith(f".{name}")), None)
    return "" if wrapped is None else f"The files call it {wrapped}: save the model, not what wraps it. "


def _others(count: int) -> str:
    return f" and {count - 1} more" if count > 1 else ""


def _shape(size: Iterable[int]) -> str:
    return "x".join(map(str, size))


def _of_a_layer(layers: Mapping[str, nn.Module], name: str) -> bool:
    """Whether it is weight or bias of a layer that the model has: without it, the layer computes something else."""
    at, _, part = name.rpartition(".")
    layer = layers.get(at)
    return part in ("weight", "bias") and layer is not None and not any(True for _ in layer.children())
