"""What verl makes of the divergence from a reference policy, by each of its estimators."""

from collections.abc import Iterator

import torch
from torch import Tensor

from .case import Case, Inputs, Reference
from .draws import ROWS, TOKENS, Draw, every, mask_bites
from .libraries import VERL, verl
from .responses import responses


def kl(kind: str) -> Reference:
    core = verl().core

    def compute(logprobs: Tensor, reference: Tensor, mask: Tensor) -> tuple[Tensor, Inputs]:
        found = core.kl_penalty(logprobs, reference, kind)
        return core.agg_loss(found, mask, "token-mean"), {"per_token": found}

    source = f"{VERL} verl/trainer/ppo/core_algos.py::kl_penalty, agg_loss token-mean"
    return Reference(f"kl_{kind.replace('+', '_straight_through')}", source, kind, {"kl_penalty": kind}, compute)


def apart(draw: Draw) -> Inputs:
    """Policy and reference, near by but for one token in four, where the reference likes it much more or much less."""
    inputs = responses(draw, kl=True, holes=True)
    jump = (torch.arange(ROWS * TOKENS) % 8).view(ROWS, TOKENS)
    shift = 4.0 * (jump == 1) - 22.0 * (jump == 5)
    reference = (inputs["reference"] + shift).clamp(max=-0.001).round(decimals=3)
    logprobs = torch.where(jump == 1, inputs["logprobs"] - 6, inputs["logprobs"]).round(decimals=3)
    return {"logprobs": logprobs, "reference": reference, "mask": inputs["mask"]}


def clamps_at_ten(logprobs: Tensor, reference: Tensor, mask: Tensor) -> bool:
    """The low-variance estimate is above 10 for a token each way, and below for others; a log-ratio is below -20."""
    difference, live = reference - logprobs, mask.bool()
    estimate = difference.exp() - difference - 1
    seen = [live & (estimate > 10) & (difference > 0), live & (difference < -20), live & (estimate < 9)]
    return all(x.any() for x in seen) and bool(((estimate - 10).abs() > 0.01).all()) and mask_bites(mask)


def divergence() -> Iterator[Case]:
    for kind in ("k1", "k2", "k3", "k1+", "k3+"):
        yield from every(kl(kind), apart, clamps_at_ten)
