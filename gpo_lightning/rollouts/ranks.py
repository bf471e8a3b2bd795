"""What the processes of a run know together."""

from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


def gather(values: list[T]) -> list[T]:
    """The lists of all ranks, joined in rank order; every rank must call it."""
    if not (dist.is_available() and dist.is_initialized()):
        return values
    lists: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(lists, values)
    return [value for part in lists for value in part]
