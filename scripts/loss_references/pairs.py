"""Pairs of responses are what a preference loss sees, drawn so that some are ordered rightly and some wrongly."""

from typing import Any

import torch
from torch import Tensor

from .case import Inputs
from .draws import MARGIN, TOKENS, Draw

PAIR = ("chosen", "rejected")
PAIRS = 3


def pairs(draw: Draw, *, reference: bool = True, prompt: int = 0) -> Inputs:
    inputs: Inputs = {}
    for side in PAIR:
        inputs[side] = draw.logprobs(PAIRS, TOKENS)
        inputs[f"{side}_mask"] = draw.mask(PAIRS, TOKENS, empty=False)
        if reference:
            inputs[f"reference_{side}"] = draw.near(inputs[side], 0.8)
        if prompt:
            inputs[f"prompt_{side}"] = draw.logprobs(PAIRS, prompt)
    return inputs


def stacked(inputs: Inputs, name: str = "{}") -> Tensor:
    """The chosen responses, then the rejected, as a trainer has them."""
    return torch.cat([inputs[name.format(side)] for side in PAIR])


def margins(inputs: Inputs) -> Tensor:
    """Log-probability of chosen over rejected, over the reference where there is one; only to see what is clipped."""
    sides = [((inputs[side] - inputs.get(f"reference_{side}", 0.0)) * inputs[f"{side}_mask"]).sum(-1) for side in PAIR]
    return sides[0] - sides[1]


def both_signs(**inputs: Any) -> bool:
    """Pairs ordered rightly and wrongly; odd lengths and even."""
    lengths, margin = stacked(inputs, "{}_mask").sum(-1), margins(inputs)
    return bool((margin > 1).any() and (margin < -1).any() and (lengths % 2 == 1).any() and (lengths % 2 == 0).any())


def beyond_hinge(beta: float, **inputs: Any) -> bool:
    margin = beta * margins(inputs)
    return both_signs(**inputs) and bool((margin > 1).any() and ((margin - 1).abs() > MARGIN).all())
