"""A case is one run of a reference, as it is written down: what went in, what came out, and whose code it was."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

Inputs = dict[str, Any]
Settings = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One run of a reference: what went in, what came out."""

    name: str
    seed: int
    source: str
    loss: str
    settings: Settings
    inputs: Inputs
    value: float | None = None
    gradients: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    tolerance: float = 1e-7
    """Relative, of what the equation gives: verl adds 1e-8 to some denominators; ORPO of trl goes down to float32."""

    def as_json(self) -> str:
        entries = {entry.name: plain(getattr(self, entry.name)) for entry in fields(self)}
        kept = {key: entry for key, entry in entries.items() if entry not in (None, {}) or key == "settings"}
        return json.dumps(kept, separators=(",", ":"))


@dataclass(frozen=True)
class Reference:
    """A function of another library: where it stands, what it is called, and the settings it ran with."""

    name: str
    source: str
    loss: str
    settings: Settings
    compute: Callable[..., Any]
    """Gives a scalar, a scalar and named tensors, or named tensors only."""
    by: tuple[str, ...] = ("logprobs",)
    """The inputs by which the gradients of the scalar are taken."""
    tolerance: float = 1e-7

    def run(self, seed: int, inputs: Inputs) -> Case:
        leaves = {key: x.clone().requires_grad_() if key in self.by else x for key, x in inputs.items()}
        found = self.compute(**leaves)
        shared = {key: getattr(self, key) for key in ("name", "source", "loss", "settings", "tolerance")}
        if isinstance(found, dict):
            return Case(**shared, seed=seed, inputs=inputs, outputs=found)
        value, outputs = found if isinstance(found, tuple) else (found, {})
        slopes = torch.autograd.grad(value, [leaves[key] for key in self.by])
        if not any(slope.any() for slope in slopes):
            raise RuntimeError(f"{self.name}, seed {seed}: no gradient is left, so nothing would be tested")
        gradients = dict(zip(self.by, slopes, strict=True))
        return Case(
            **shared, seed=seed, inputs=inputs, value=float(value.detach()), gradients=gradients, outputs=outputs
        )


def plain(thing: Any) -> Any:
    """JSON has no NaN: null stands for it. Masks and labels become 0 and 1."""
    if isinstance(thing, Tensor):
        return plain(thing.detach().tolist())
    if isinstance(thing, dict):
        return {key: plain(x.int() if isinstance(x, Tensor) and "mask" in key else x) for key, x in thing.items()}
    if isinstance(thing, list | tuple):
        return [plain(x) for x in thing]
    if isinstance(thing, float):
        return None if math.isnan(thing) else thing or 0
    return thing
