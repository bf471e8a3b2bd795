"""A policy whose weights lie spread over processes, by torch's ``fully_shard`` (FSDP2).

A layer's weights are brought together while it computes, so all processes must run the same forward passes. Whoever
reads weights or generates by itself does so from what :func:`gathered` collected when all processes called it.
"""

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from gpo_lightning.errors import ConfigError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from transformers import PreTrainedModel


def shard(policy: nn.Module, model: "PreTrainedModel", mesh: "DeviceMesh", forwards: tuple[str, ...]) -> None:
    """Spread the weights over a mesh: a group for each decoder layer, one for the value head, one for all the rest.

    Args:
        policy: whose weights these are.
        model: the causal LM in it.
        mesh: of one dimension.
        forwards: the policy's methods that compute.
    """
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh)
    head = policy.get_submodule("value_head") if "value_head" in dict(policy.named_children()) else None
    if head is not None:
        # Gradients of one group must be of one type, and the head's is float32 beside weights of bfloat16.
        fully_shard(head, mesh=mesh)
    fully_shard(policy, mesh=mesh)
    for name in forwards:
        register_fsdp_forward_method(policy, name)


def decoder_layers(
    model: "PreTrainedModel",
    key: str = "trainer.strategy",
    instead: str = "Use configs/trainer/ddp.yaml, where every process has all the weights.",
) -> list[nn.Module]:
    """The layers transformers itself never splits over devices.

    Args:
        model: of which they are.
        key: of the configuration, that needs them.
        instead: what to do where there are none.
    """
    names = set(cast("list[str] | None", getattr(model, "_no_split_modules", None)) or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise ConfigError(f"{key}: {type(model).__name__} does not say which modules are its decoder layers. {instead}")
    return layers


def norm_of(gradients: list[Tensor]) -> Tensor:
    """The 2-norm of gradients that may be sharded; then all processes call it together."""
    norm = nn.utils.get_total_norm(gradients)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


@torch.no_grad()
def gathered(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same, whole and in host memory. All processes call it together."""
    return {name: _whole(value).detach().cpu() for name, value in parameters.items()}


@torch.no_grad()
def take_over(copy: nn.Module, original: nn.Module, weights: dict[str, Tensor]) -> None:
    """Give a whole copy of a sharded module its place, types and changed weights."""
    theirs = dict(original.named_parameters()) | dict(original.named_buffers())
    for name, mine in (*copy.named_parameters(), *copy.named_buffers()):
        mine.data = mine.data.to(theirs[name].device, theirs[name].dtype)
        if name in weights:
            mine.copy_(weights[name])


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value
