"""Inputs are drawn until everything that is to be tested happens; from a seed, so that they can be had again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .case import Case, Inputs, Reference

SEEDS = (0, 1, 2)
ROWS, TOKENS = 5, 5
DRAWS = 20_000
MARGIN = 1e-3
"""How far from a threshold a ratio must stay, so that rounding cannot put two libraries on different sides of it."""

Bites = Callable[..., bool]
"""Whether inputs, handed over by name, do what is asked of them."""


@dataclass(frozen=True)
class Draw:
    """Numbers of three decimals, so that the files stay small and are read back exactly."""

    generator: torch.Generator

    def normal(self, *shape: int, spread: float = 1.0) -> Tensor:
        return (spread * torch.randn(*shape, generator=self.generator)).round(decimals=3)

    def logprobs(self, *shape: int) -> Tensor:
        """Rows of differing likelihood, so that means lie on both sides of -log 2."""
        scale = 0.15 + 1.6 * torch.rand(shape[0], 1, generator=self.generator)
        return (-scale * torch.randn(*shape, generator=self.generator).abs() - 0.02).round(decimals=3)

    def near(self, logprobs: Tensor, spread: float) -> Tensor:
        """Log-probabilities of a policy near by; never above -0.001."""
        return (logprobs + self.normal(*logprobs.shape, spread=spread)).clamp(max=-0.001).round(decimals=3)

    def mask(self, rows: int, tokens: int, *, holes: bool = False, empty: bool = True) -> Tensor:
        """Padded on the right; one row as long as can be, and one all padding. With `holes`, observations inside."""
        lengths = torch.randint(2, tokens, (rows,), generator=self.generator)
        first, second = torch.randperm(rows, generator=self.generator)[:2]
        lengths[first] = tokens
        if empty:
            lengths[second] = 0
        mask = (torch.arange(tokens) < lengths[:, None]).double()
        if holes:
            mask[first, 2:4], mask[:, 1] = 0, mask[:, 1] * (torch.arange(rows) % 2)
        return mask


def anything(**_: Any) -> bool:
    return True


def mask_bites(mask: Tensor, **_: Any) -> bool:
    lengths = mask.sum(-1)
    return bool((lengths == 0).any() and (lengths % 2 == 1).any() and len(lengths.unique()) > 2)


def drawn(seed: int, make: Callable[[Draw], Inputs], bites: Bites) -> Inputs:
    """The first inputs of a seed on which everything that is to be tested happens."""
    draw = Draw(torch.Generator().manual_seed(seed))
    for _ in range(DRAWS):
        if bites(**(inputs := make(draw))):
            return inputs
    raise RuntimeError(f"no inputs of seed {seed} do what is asked of them in {DRAWS} draws: {bites}")


def every(
    reference: Reference,
    make: Callable[[Draw], Inputs],
    bites: Bites = anything,
    seeds: Sequence[int] = SEEDS,
) -> Iterator[Case]:
    return (reference.run(seed, drawn(seed, make, bites)) for seed in seeds)


once = partial(every, seeds=SEEDS[:1])
"""For what differs from another case in one setting only."""
