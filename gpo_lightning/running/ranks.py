"""What all ranks know together."""

from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from lightning import Trainer

T = TypeVar("T")


def gather(values: list[T]) -> list[T]:
    """The lists of all ranks, joined in rank order; every rank must call it."""
    if not (dist.is_available() and dist.is_initialized()):
        return values
    lists: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(lists, values)
    return [value for part in lists for value in part]


def reduced(trainer: Trainer, values: list[float], how: str) -> list[float]:
    """``sum``, ``max``, ... of every value over all ranks."""
    tensor = torch.tensor(values, dtype=torch.float64, device=trainer.strategy.root_device)
    return cast(torch.Tensor, trainer.strategy.reduce(tensor, reduce_op=how)).tolist()
