"""Tree packing: token rows that begin alike, laid down as a tree whose shared tokens go through the policy once.

A prompt or a critical prefix stands once, followed by all that continues it; the rows of several problems lie one
behind the other. A token sees its ancestors and nothing else, and its position is its depth, so it has the hidden state
it would have in a row of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Tokens = NDArray[np.int64]
_WORTHWHILE = 0.95
"""Share of what rows by themselves cost; laying down a tree costs a little too."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tokens of rows ``[R, T]`` lie in what goes through the policy, ``[P, L]``; here as they are.

    Args:
        tokens: ``[P, L]`` ids.
        parents: ``[P * L]`` flat place of the token before; a row's first token has none, and any may be named.
        places: ``[R, T]`` flat place of each token of the rows.
    """

    tokens: Tensor
    parents: Tensor
    places: Tensor

    @classmethod
    def of(cls, input_ids: Tensor) -> "Layout":
        places = torch.arange(input_ids.numel(), device=input_ids.device)
        return cls(input_ids, (places - 1).clamp(min=0), places.view_as(input_ids))


@dataclass(frozen=True, slots=True)
class Tree(Layout):
    """Packed rows in depth-first order; places at the end of one may be empty.

    Args:
        depths: ``[P, L]`` position of each token in the rows it belongs to.
        ends: ``[P, L]`` first place behind the descendants of each; an empty place has none.
    """

    depths: Tensor
    ends: Tensor

    def sees(self) -> Tensor:
        """``[P, 1, L, L]`` whether a place (third) attends to another (fourth): to its ancestors and itself."""
        order = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        before = order[:, None] >= order
        return (before & (order[:, None] < self.ends[:, None, :]))[:, None]

    def to(self, device: torch.device) -> "Tree":
        return Tree(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Packing:
    """What decides how long packed rows become.

    Args:
        balance: length at which a token's attention costs as much as everything else that is computed for it.
        longest: most tokens of a packed row.
    """

    balance: float
    longest: int


def pack(input_ids: Tensor, attention_mask: Tensor, packing: Packing) -> Tree | None:
    """The tree of token rows, cut into packed rows of the length that is cheapest to compute.

    >>> ids = torch.tensor([[5, 6, 7, 1], [5, 6, 8, 9], [5, 6, 7, 2]])
    >>> tree = pack(ids, torch.ones_like(ids), Packing(balance=1000, longest=64))
    >>> tree.tokens.tolist()
    [[5, 6, 7, 1, 2, 8, 9]]
    >>> tree.depths.tolist()
    [[0, 1, 2, 3, 3, 2, 3]]

    Args:
        input_ids: ``[R, T]``, padded on either side.
        attention_mask: ``[R, T]``, 1 for tokens.
        packing: how long packed rows may be.

    Returns:
        ``None`` where rows one by one are as cheap.
    """
    ids, kept = input_ids.cpu().numpy(), attention_mask.cpu().numpy().astype(bool)
    rows: list[Tokens] = [row[mask] for row, mask in zip(ids, kept, strict=True)]
    plan = _plan(rows, ids.shape[1], packing)
    return plan and _lay(rows, plan, kept)


def computed_tokens(rows: Sequence[Sequence[int]], packing: Packing | None) -> int:
    """Tokens that go through the policy for rows at once, with what fills them up to the same length.

    >>> rows = [(5, 6, 7, 1), (5, 6, 8, 9), (5, 6)]
    >>> computed_tokens(rows, None), computed_tokens(rows, Packing(balance=1000, longest=64))
    (12, 6)
    """
    width = max(map(len, rows))
    plan = None if packing is None else _plan([np.array(row, dtype=np.int64) for row in rows], width, packing)
    return len(rows) * width if plan is None else len(plan.cut) * plan.width


def distinct_tokens(rows: Sequence[Sequence[int]]) -> int:
    """Tokens of the tree of rows.

    >>> distinct_tokens([(5, 6, 7), (5, 6, 8, 9)])
    5
    """
    ordered = [np.array(row) for row in sorted(map(tuple, rows))]
    shared = sum(_common(a, b) for a, b in pairwise(ordered))
    return sum(len(row) for row in ordered) - shared


@dataclass(frozen=True, slots=True)
class _Plan:
    """Rows in lexicographic order, what each has in common with the one before, and where packed rows begin."""

    order: Sequence[int]
    shared: Sequence[int]
    cut: Sequence[int]
    width: int


def _plan(rows: Sequence[Tokens], padded: int, packing: Packing) -> _Plan | None:
    """The cheapest way to pack rows; ``None`` where they cost as little one by one, ``padded`` tokens each."""
    order = sorted(range(len(rows)), key=lambda i: rows[i].tolist())
    shared = [0, *(_common(rows[a], rows[b]) for a, b in pairwise(order))]
    cut, width, cost = _cheapest_cut([len(rows[i]) for i in order], shared, packing)
    if cost > _WORTHWHILE * _cost(len(rows), padded, packing.balance):
        return None
    return _Plan(order, shared, cut, width)


def _common(a: NDArray[Any], b: NDArray[Any]) -> int:
    """Tokens that two rows have in common from the first on."""
    least = min(len(a), len(b))
    differ = np.flatnonzero(a[:least] != b[:least])
    return int(differ[0]) if len(differ) else least


def _cost(rows: int, length: int, balance: float) -> float:
    return rows * length * (1 + length / balance)


def _cheapest_cut(lengths: Sequence[int], shared: Sequence[int], packing: Packing) -> tuple[list[int], int, float]:
    """Where packed rows begin, how long they are, what they cost. A row shares most with the one before it in order."""
    found: tuple[list[int], int, float] = ([0], 0, float("inf"))
    room = float(max(lengths))
    while room <= packing.longest:
        cut, width = _cut(lengths, shared, room)
        cost = _cost(len(cut), width, packing.balance)
        if cost < found[-1]:
            found = cut, width, cost
        if len(cut) == 1:
            break
        room *= 1.15
    return found


def _cut(lengths: Sequence[int], shared: Sequence[int], room: float) -> tuple[list[int], int]:
    """Packed rows of at most ``room`` tokens: where each begins, and how long the longest is."""
    begins, used, widest = [0], 0, 0
    for i, (length, common) in enumerate(zip(lengths, shared, strict=True)):
        if i and used + length - common > room:
            begins.append(i)
            used = 0
        used += length - (common if begins[-1] != i else 0)
        widest = max(widest, used)
    return begins, widest


def _lay(rows: Sequence[Tokens], plan: _Plan, kept: NDArray[np.bool_]) -> Tree:
    order, width, bounds = plan.order, plan.width, [*plan.cut, len(plan.order)]
    laid = [_Row.of([rows[i] for i in order[a:b]], plan.shared[a:b]) for a, b in pairwise(bounds)]
    tokens, depths, ends = (np.zeros((len(laid), width), dtype=np.int64) for _ in range(3))
    parents, places = np.zeros(len(laid) * width, dtype=np.int64), np.zeros(kept.shape, dtype=np.int64)
    ends[:] = np.arange(1, width + 1)  # an empty place sees itself, for a softmax over nothing is no number
    for p, row in enumerate(laid):
        size, base = len(row.tokens), p * width
        tokens[p, :size], depths[p, :size], ends[p, :size] = row.tokens, row.depths, row.ends
        parents[base : base + size] = base + row.parents
        for i, path in zip(order[bounds[p] : bounds[p + 1]], row.paths, strict=True):
            places[i, kept[i]] = base + path
    return Tree(*(torch.from_numpy(part) for part in (tokens, parents, places, depths, ends)))


@dataclass(frozen=True, slots=True)
class _Row:
    """One packed row, and the path through it of each row it is made of."""

    tokens: Tokens
    depths: Tokens
    ends: Tokens
    parents: Tokens
    paths: list[Tokens]

    @classmethod
    def of(cls, rows: Sequence[Tokens], shared: Sequence[int]) -> "_Row":
        fresh: list[Tokens] = []
        depths: list[Tokens] = []
        paths: list[Tokens] = []
        path, size = np.empty(0, dtype=np.int64), 0
        ends, parents = (np.zeros(sum(map(len, rows)), dtype=np.int64) for _ in range(2))
        for i, row in enumerate(rows):
            common = shared[i] if i else 0
            ends[path[common:]] = size
            places = np.arange(size, size + len(row) - common)
            path = np.concatenate([path[:common], places])
            parents[places] = path[np.maximum(np.arange(common, len(row)) - 1, 0)]
            fresh.append(row[common:])
            depths.append(np.arange(common, len(row)))
            paths.append(path)
            size += len(places)
        ends[path] = size
        return cls(np.concatenate(fresh), np.concatenate(depths), ends[:size], parents[:size], paths)
