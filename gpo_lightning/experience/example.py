"""What a loss learns from, before and after collation: token rows, examples made of rows, batches of tensors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Row:
    """One token sequence.

    Args:
        context: state: prompt and whatever prefix carries no loss.
        actions: tokens that carry loss.
        rollout_logprobs: log-probabilities of the actions when they were drawn; empty where nobody drew them.
    """

    context: tuple[int, ...]
    actions: tuple[int, ...]
    rollout_logprobs: tuple[float, ...] = ()

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
        loss_mask: ``[R, T]`` 1 for tokens that carry loss.
        rollout_logprobs: ``[R, T]`` log-probs that the engine reported with the tokens; 0 outside ``loss_mask``.
    """

    input_ids: Tensor
    attention_mask: Tensor
    loss_mask: Tensor
    rollout_logprobs: Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> Self:
        return _move(self, device, non_blocking)


@dataclass(frozen=True)
class Scores:
    """What the policy says of a batch's tokens.

    Args:
        logprobs: ``[R, T]`` of the policy; 0 where none was asked for.
        reference: ``[R, T]`` of the reference policy, for losses that ask for it.
        values: ``[R, T]`` of the value head before each token, for losses that ask for it.
        divergence: scalar: how far the policy has moved from the reference on the batch's KL rows: the mean, over the
            whole optimiser step and all ranks, of a row's summed log-ratio. Without gradient.
    """

    logprobs: Tensor
    reference: Tensor | None = None
    values: Tensor | None = None
    divergence: Tensor | None = None

    def to(self, device: torch.device, non_blocking: bool = False) -> Self:
        return _move(self, device, non_blocking)


@dataclass(frozen=True)
class Batch:
    """What a loss reads besides the present scores. Kinds of experience add their columns.

    Args:
        rows: token rows.
        normalisers: what each term of the loss is divided by: its weight in the whole optimiser step over all ranks.
        old_scores: of the policy that the iteration began with, for losses that ask for them
            (``Loss.needs_old_logprobs``); ``None`` where it is still the present one.
        kl_rows: rows of the whole optimiser step that KTO's KL is estimated on, scored before its first micro-batch,
            which carries them.
    """

    rows: Rows
    normalisers: tuple[float, ...]
    old_scores: Scores | None = field(default=None, kw_only=True)
    kl_rows: tuple[Rows, ...] = field(default=(), kw_only=True)

    @property
    def size(self) -> int:
        """Examples."""
        return len(self.rows.input_ids)

    @property
    def area(self) -> int:
        """Tokens, padding included."""
        return self.rows.input_ids.numel()

    def rows_between(self, begin: int, end: int) -> list[int]:
        """The rows of the examples from ``begin`` to before ``end``."""
        return list(range(begin, end))

    def halves(self) -> tuple[Self, Self]:
        """Two batches of half the examples each, no wider than they need be, without what is scored beforehand."""
        middle = self.size // 2
        return self._part(self.rows_between(0, middle)), self._part(self.rows_between(middle, self.size))

    def _part(self, chosen: list[int]) -> Self:
        width = int(self.rows.attention_mask[chosen].sum(-1).max())
        return replace(_pick(self, chosen, width), kl_rows=())

    def to(self, device: torch.device, non_blocking: bool = False) -> Self:
        return _move(self, device, non_blocking)


def _move(value: Any, device: torch.device, non_blocking: bool) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=non_blocking)
    if isinstance(value, tuple):
        return tuple(_move(item, device, non_blocking) for item in value)
    if isinstance(value, Rows | Scores | Batch):
        return replace(value, **{f.name: _move(getattr(value, f.name), device, non_blocking) for f in fields(value)})
    return value


def _pick(value: Any, chosen: list[int], width: int) -> Any:
    """The chosen rows of every ``[R]`` and ``[R, T]`` tensor, cut to a width."""
    if isinstance(value, Tensor) and value.dim() > 0:
        return value[chosen] if value.dim() == 1 else value[chosen, :width]
    if isinstance(value, Rows | Scores | Batch):
        return replace(value, **{f.name: _pick(getattr(value, f.name), chosen, width) for f in fields(value)})
    return value


def collate_rows(rows: Sequence[Row], pad_id: int) -> Rows:
    """Right-pad rows to the longest. A row without rollout log-probs gets zeros."""
    shape = (len(rows), max(len(row) for row in rows))
    ids = torch.full(shape, pad_id, dtype=torch.long)
    attention, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
    rollout_logprobs = torch.zeros(shape, dtype=torch.float64)
    for i, row in enumerate(rows):
        begin, end = len(row.context), len(row)
        ids[i, :end] = torch.tensor(row.context + row.actions)
        attention[i, :end] = 1
        mask[i, begin:end] = 1
        if row.rollout_logprobs:
            rollout_logprobs[i, begin:end] = torch.tensor(row.rollout_logprobs, dtype=torch.float64)
    return Rows(ids, attention, mask, rollout_logprobs)


def spread_over_actions(values: Sequence[Sequence[float]], rows: Rows) -> Tensor:
    """``[R, T]`` per-action values laid on the loss-carrying tokens; 0 elsewhere."""
    laid = torch.zeros(rows.loss_mask.shape, dtype=torch.float64)
    flat = [value for row in values for value in row]
    laid[rows.loss_mask.bool()] = torch.tensor(flat, dtype=torch.float64)
    return laid
