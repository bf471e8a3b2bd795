"""Responses are what a policy gradient sees, drawn so that ratios lie on all sides of the thresholds."""

from itertools import product
from typing import Any

from torch import Tensor

from .case import Inputs
from .draws import MARGIN, ROWS, TOKENS, Bites, Draw, mask_bites

TOKEN, MEAN, SUM = "token", "mean", "sum"
"""Over what an importance ratio is taken: a token, or a response by the mean or the sum of its tokens."""


def responses(
    draw: Draw, *, rows: int = ROWS, spread: float = 0.6, holes: bool = False, by_token: bool = False, kl: bool = False
) -> Inputs:
    logprobs = draw.logprobs(rows, TOKENS)
    return {
        "logprobs": logprobs,
        "behaviour": draw.near(logprobs, spread),
        "reference": draw.near(logprobs, 0.7) if kl else None,
        "mask": draw.mask(rows, TOKENS, holes=holes),
        "advantages": draw.normal(rows, TOKENS) if by_token else draw.normal(rows),
    }


def over_tokens(advantages: Tensor, mask: Tensor) -> Tensor:
    """The advantage of a response, where it is one number, for each of its tokens."""
    return advantages if advantages.dim() == 2 else advantages[:, None].expand_as(mask)


def ratios(logprobs: Tensor, behaviour: Tensor, mask: Tensor, level: str) -> tuple[Tensor, Tensor]:
    """Importance ratios and which of them count, to see what is clipped; never part of a result."""
    difference = logprobs - behaviour
    if level == TOKEN:
        return difference.exp(), mask.bool()
    total, length = (difference * mask).sum(-1, keepdim=True), mask.sum(-1, keepdim=True)
    return (total / length.clamp(min=1) if level == MEAN else total).exp(), length > 0


def clips(low: float, high: float, *, level: str = TOKEN, cap: float | None = None) -> Bites:
    """For each sign of the advantage: a ratio below 1 - low, one above 1 + high, one between. With `cap`: one above it
    where the advantage is negative."""

    def bites(logprobs: Tensor, behaviour: Tensor, mask: Tensor, advantages: Tensor, **_: Any) -> bool:
        ratio, live = ratios(logprobs, behaviour, mask, level)
        A = over_tokens(advantages, mask)
        bounds = [1 - low, 1 + high, *([cap] if cap else [])]
        sides = (ratio < bounds[0], ratio > bounds[1], (ratio > bounds[0]) & (ratio < bounds[1]))
        each = all((live & sign & side).any() for sign, side in product((A > 0, A < 0), sides))
        capped = cap is None or bool((live & (A < 0) & (ratio > cap)).any())
        clear = all(((ratio - bound).abs() > MARGIN).all() for bound in bounds)
        return each and capped and clear and mask_bites(mask)

    return bites
