"""Sums and maxima over the ranks of a Lightning trainer."""

from typing import cast

import torch
from lightning import Trainer


def reduced(trainer: Trainer, values: list[float], how: str) -> list[float]:
    """``sum``, ``max``, ... of every value over all ranks."""
    tensor = torch.tensor(values, dtype=torch.float64, device=trainer.strategy.root_device)
    return cast(torch.Tensor, trainer.strategy.reduce(tensor, reduce_op=how)).tolist()
