"""What a loss learns from, before and after collation: token rows, examples made of rows, batches of tensors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Row:
    """One token sequence.

    Args:
        context: state: prompt and whatever prefix carries no loss.
        actions: tokens that carry loss.
        behaviour: log-probabilities of the actions when they were drawn; empty where nobody drew them.
    """

    context: tuple[int, ...]
    actions: tuple[int, ...]
    behaviour: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.context) + len(self.actions)


BLANK_ROW = Row((0, 0), ())
"""Carries no loss, and is just long enough to run through the policy."""


class Example(ABC):
    """The unit a loss counts: a response, a pair, a demonstration. Frozen dataclasses."""

    @property
    @abstractmethod
    def rows(self) -> tuple[Row, ...]:
        """Its token sequences."""

    @property
    def tokens(self) -> int:
        """Tokens that carry loss."""
        return sum(len(row.actions) for row in self.rows)

    @property
    def length(self) -> int:
        """Tokens of its longest row, for batching like with like."""
        return max(len(row) for row in self.rows)


@dataclass(frozen=True)
class Rows:
    """Token rows of a batch, right-padded.

    Args:
        input_ids: ``[R, T]``.
        attention_mask: ``[R, T]`` 1 for tokens, 0 for padding.
        mask: ``[R, T]`` 1 for tokens that carry loss.
        behaviour: ``[R, T]`` behaviour log-probabilities; 0 outside ``mask``.
    """

    input_ids: Tensor
    attention_mask: Tensor
    mask: Tensor
    behaviour: Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> Self:
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self)}
        return replace(self, **moved)


@dataclass(frozen=True)
class Batch:
    """What a loss reads besides log-probabilities. Kinds of experience add their columns.

    Args:
        rows: token rows.
        normaliser: what the loss's sum is divided by: the weight of the whole optimiser step over all ranks.
    """

    rows: Rows
    normaliser: float

    def to(self, device: torch.device, non_blocking: bool = False) -> Self:
        moved = {
            f.name: value.to(device, non_blocking=non_blocking)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor | Rows)
        }
        return replace(self, **moved)


def collate_rows(rows: Sequence[Row], pad_id: int) -> Rows:
    """Right-pad rows to the longest. A row without behaviour log-probabilities gets zeros."""
    shape = (len(rows), max(len(row) for row in rows))
    ids = torch.full(shape, pad_id, dtype=torch.long)
    attention, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
    behaviour = torch.zeros(shape, dtype=torch.float64)
    for i, row in enumerate(rows):
        begin, end = len(row.context), len(row)
        ids[i, :end] = torch.tensor(row.context + row.actions)
        attention[i, :end] = 1
        mask[i, begin:end] = 1
        if row.behaviour:
            behaviour[i, begin:end] = torch.tensor(row.behaviour, dtype=torch.float64)
    return Rows(ids, attention, mask, behaviour)


def spread_over_actions(values: Sequence[Sequence[float]], rows: Rows) -> Tensor:
    """``[R, T]`` per-action values laid on the loss-carrying tokens; 0 elsewhere."""
    laid = torch.zeros(rows.mask.shape, dtype=torch.float64)
    flat = [value for row in values for value in row]
    laid[rows.mask.bool()] = torch.tensor(flat, dtype=torch.float64)
    return laid
