"""Searches shared out among ranks: by a queue, or, where a run must repeat itself to the bit, by predicted cost."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import torch.distributed as dist

from gpo_lightning.critical import Alone, AtOnce, Pile, Share, Sharing
from gpo_lightning.running.ranks import gather

_ROOM = 64


class Dealt(Sharing):
    """The dearest first, each to the rank that has least to do so far (Graham 1969: at most 4/3 of the best possible).

    Who gets what depends on what was sampled and on nothing else, so that a run that is taken up again does the same.

    Args:
        rank: of this process.
        ranks: how many there are.
    """

    def __init__(self, rank: int, ranks: int) -> None:
        self.rank, self.ranks = rank, ranks

    def share(self, own: Sequence[Share]) -> Pile:
        _, pooled = _pooled(own, self.rank)
        takers = dealt([(owner, share.cost) for owner, share in pooled], self.ranks)
        return AtOnce([share for (_, share), taker in zip(pooled, takers, strict=True) if taker == self.rank])


def dealt(work: Sequence[tuple[int, int]], ranks: int) -> list[int]:
    """Who does what of some work, given as (owner, cost) with the dearest first.

    >>> dealt([(0, 8), (0, 5), (0, 4), (1, 1)], ranks=2)
    [0, 1, 1, 0]
    """
    loads, takers = [0] * ranks, list[int]()
    for owner, cost in work:
        # Its own rank has the prompt in its cache.
        takers.append(min(range(ranks), key=lambda rank: (loads[rank], rank != owner)))
        loads[takers[-1]] += cost
    return takers


class Queued(Sharing):
    """One queue, the dearest first: a rank takes the next whenever its engine has room.

    Args:
        rank: of this process.
        store: counts what was taken; ``None`` is the one through which torch's processes found each other.
        room: probes in flight below which a rank takes more.
    """

    def __init__(self, rank: int, store: Any = None, room: int = _ROOM) -> None:
        self.rank, self.room = rank, room
        self.store = dist.distributed_c10d._get_default_store() if store is None else store  # pyright: ignore

    def share(self, own: Sequence[Share]) -> Pile:
        name, pooled = _pooled(own, self.rank)
        return _Queue([share for _, share in pooled], self.store, name, self.room)


class _Queue(Pile):
    def __init__(self, shares: list[Share], store: Any, name: str, room: int) -> None:
        self._shares, self._store, self._name, self._room = shares, store, name, room
        self._over = not shares

    def take(self, in_flight: int) -> list[Share]:
        if self._over or in_flight >= self._room:
            return []
        place: int = self._store.add(self._name, 1) - 1
        self._over = place >= len(self._shares) - 1
        return self._shares[place : place + 1]


def _pooled(own: Sequence[Share], rank: int) -> tuple[str, list[tuple[int, Share]]]:
    """A name for this occasion, and the searches of all ranks with their owners, the dearest first."""
    # Trees of other ranks come as copies; this rank's own stay the ones it knows.
    ranks = gather([(rank, uuid4().hex, list(own))])
    pooled = [(owner, share) for owner, _, shares in ranks for share in (own if owner == rank else shares)]
    return ranks[0][1], sorted(pooled, key=lambda item: -item[1].cost)


def sharing(rank: int, ranks: int, by_time: bool) -> Sharing:
    """How ``ranks`` processes share.

    Args:
        rank: of this process.
        ranks: how many there are.
        by_time: whether it may depend on who is faster.
    """
    if ranks == 1:
        return Alone()
    return Queued(rank) if by_time else Dealt(rank, ranks)
