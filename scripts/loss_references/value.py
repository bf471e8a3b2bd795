"""What verl makes of a clipped value loss, and the values that any of them is tried on."""

from collections.abc import Iterator
from itertools import product

from torch import Tensor

from .case import Case, Inputs, Reference
from .draws import ROWS, TOKENS, Draw, every, mask_bites
from .libraries import VERL, verl


def valued(draw: Draw) -> Inputs:
    values = draw.normal(ROWS, TOKENS)
    return {
        "values": values,
        "old_values": (values + draw.normal(ROWS, TOKENS, spread=0.3)).round(decimals=3),
        "returns": (values + draw.normal(ROWS, TOKENS, spread=0.5)).round(decimals=3),
        "mask": draw.mask(ROWS, TOKENS, holes=True),
    }


def clips_values(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor) -> bool:
    """Inside the range, and above and below it, both where the clipped value is worse and where it is better."""
    move, live = values - old_values, mask.bool()
    worse = (old_values + move.clamp(-0.2, 0.2) - returns).abs() > (values - returns).abs()
    outside = [live & side & case for side, case in product((move > 0.2, move < -0.2), (worse, ~worse))]
    return all(x.any() for x in [*outside, live & (move.abs() < 0.2)]) and mask_bites(mask)


def value(mode: str) -> Reference:
    def compute(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
        return verl().core.compute_value_loss(values, returns, old_values, mask, 0.2, loss_agg_mode=mode)[0]

    settings = {"cliprange_value": 0.2, "loss_agg_mode": mode}
    source = f"{VERL} verl/trainer/ppo/core_algos.py::compute_value_loss"
    return Reference(f"value_{mode.replace('-', '_')}", source, "value", settings, compute, by=("values",))


def verl_value() -> Iterator[Case]:
    for mode in ("token-mean", "seq-mean-token-sum", "seq-mean-token-mean"):
        yield from every(value(mode), valued, clips_values)
