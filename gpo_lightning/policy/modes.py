"""Which parts of a policy behave as in training: noise for the adapter where it is wanted, none for the base model."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from gpo_lightning.policy.sharding import decoder_layers


def still_base(model: nn.Module) -> None:
    """Put all of a model in eval mode but its adapters.

    Dropout is not the only thing that asks for the mode: layer drop, router jitter and noise in embeddings do too.
    """
    adapters = {id(part) for layer in model.modules() if isinstance(layer, BaseTunerLayer) for part in _own(layer)}
    for module in model.modules():
        if id(module) not in adapters:
            module.training = False


def _own(layer: nn.Module) -> list[nn.Module]:
    """An adapted layer and what its adapter adds; not the layer of the base model inside."""
    return [
        layer,
        *(part for name, child in layer.named_children() if name != "base_layer" for part in child.modules()),
    ]


def repeated_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The layers whose activations are worth computing again."""
    layers: list[nn.Module] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    return layers or decoder_layers(model, "model.policy.gradient_checkpointing", "Set it to false.")


def recompute(layers: Sequence[nn.Module]) -> None:
    """Keep no activations inside layers where gradients are computed; compute them again in the backward pass.

    transformers' own way asks for training mode, in which the base model is not.
    """
    for layer in layers:
        layer.forward = _recomputing(layer.forward)


def _recomputing(forward: Callable[..., Any]) -> Callable[..., Any]:
    def recomputing(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return recomputing
