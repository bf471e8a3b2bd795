"""What Lightning carries from a data loader to a step without looking inside."""

from typing import Any, Generic, TypeVar

import torch

from gpo_lightning.experience import Batch

T = TypeVar("T")


class OpaqueBatch(Generic[T]):
    """A batch that precision plugins leave alone.

    They cast every float they can reach to the precision of the weights, which would round rollout log-probs
    and advantages to bfloat16, and they refuse frozen dataclasses, which batches and problems are.

    Args:
        content: a batch of tensors, or problems.
    """

    def __init__(self, content: T) -> None:
        self.content = content

    def to(self, device: torch.device, **kwargs: Any) -> "OpaqueBatch[Any]":
        """Tensors move; problems stay where they are."""
        return OpaqueBatch(self.content.to(device)) if isinstance(self.content, Batch) else self
