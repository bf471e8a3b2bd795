"""An adapter folded into the layers it adapts while tokens are drawn: one product a layer instead of three."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from peft.tuners.lora.layer import Linear as AdaptedLinear
from torch import Tensor, nn

_ROUNDS_LITTLE = (torch.float32, torch.float64)


@dataclass(frozen=True, slots=True)
class _Place:
    parent: nn.Module
    name: str
    adapted: nn.Module
    plain: nn.Module


class Folded:
    """A copy of each adapted layer with its adapter folded in, as it was when this object was made.

    Layers of half precision stay as they are, for rounding the sum of both weights would lose most of a small adapter;
    so do quantised ones, and adapters that are more than a product of two matrices.

    Args:
        model: with adapters, which stay untouched.
    """

    def __init__(self, model: nn.Module) -> None:
        self._places = [
            _Place(parent, name, child, _plain(child))
            for parent in model.modules()
            for name, child in parent.named_children()
            if isinstance(child, AdaptedLinear) and _foldable(child)
        ]

    @contextmanager
    def within(self) -> Generator[None]:
        """Within: the model computes with the copies."""
        for place in self._places:
            setattr(place.parent, place.name, place.plain)
        try:
            yield
        finally:
            for place in self._places:
                setattr(place.parent, place.name, place.adapted)


def _foldable(layer: AdaptedLinear) -> bool:
    base, names = layer.base_layer, layer.active_adapters
    if type(base) is not nn.Linear or len(names) != 1 or layer.disable_adapters or layer.merged:
        return False
    (name,) = names
    plain = name in layer.lora_A and name not in layer.lora_variant and not layer.lora_bias[name]
    return plain and base.weight.dtype in _ROUNDS_LITTLE and type(base.weight.data) is Tensor


@torch.no_grad()
def _plain(layer: AdaptedLinear) -> nn.Module:
    base = cast(nn.Linear, layer.base_layer)
    with torch.device("meta"):
        plain = nn.Linear(base.in_features, base.out_features, bias=False)
    delta = layer.get_delta_weight(layer.active_adapters[0])
    plain.weight = nn.Parameter(base.weight + delta.to(base.weight.dtype), requires_grad=False)
    plain.bias = base.bias
    return plain.eval()
