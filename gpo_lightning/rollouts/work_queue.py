"""Who searches what: jobs of this process alone, or of all ranks together with static or dynamic balance.

Every process samples as much as the others, but chance decides what its searches cost: one rank may have no group
worth searching while another has nothing else. So the jobs of all ranks are pooled, and each tree is searched, and
reset, by the rank that takes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import torch.distributed as dist

from gpo_lightning.rollouts.ranks import gather
from gpo_lightning.rollouts.tree import RolloutTree


@dataclass(frozen=True)
class SearchJob:
    """A tree whose trajectories are to be searched.

    Args:
        tree: with its samples.
        trajectories: those to search: the index of each in the tree, and its step boundaries.
    """

    tree: RolloutTree
    trajectories: tuple[tuple[int, tuple[int, ...]], ...]

    @property
    def cost(self) -> int:
        """Tokens of one probe before every step; the cost of any search grows with it."""
        return sum(ends[-1] - begin for _, ends in self.trajectories for begin in ends[:-1])


class WorkQueue:
    """The jobs that are left; all of them are taken at once.

    Args:
        jobs: everything there is to do.
    """

    def __init__(self, jobs: Sequence[SearchJob]) -> None:
        self._left = list(jobs)

    def take(self, in_flight: int) -> list[SearchJob]:
        """What this process should search next; empty where it has enough to do, or where nothing is left.

        Args:
            in_flight: probes it waits for.
        """
        taken, self._left = self._left, []
        return taken


class SharedWorkQueue(WorkQueue):
    """One queue for all ranks: a rank takes the next job whenever its engine has room.

    Args:
        jobs: of all ranks, in the same order on each.
        store: a ``torch.distributed`` store that counts what was taken.
        name: of this queue in the store.
        room: probes in flight below which a rank takes more work.
    """

    def __init__(self, jobs: Sequence[SearchJob], store: Any, name: str, room: int) -> None:
        super().__init__(jobs)
        self._store, self._name, self._room = store, name, room
        self._over = not jobs

    def take(self, in_flight: int) -> list[SearchJob]:
        if self._over or in_flight >= self._room:
            return []
        place: int = self._store.add(self._name, 1) - 1
        self._over = place >= len(self._left) - 1
        return self._left[place : place + 1]


Balance = Callable[[Sequence[SearchJob]], WorkQueue]
"""How ranks share their searches: from this rank's jobs to its queue. All ranks call it together."""


def static_balance(rank: int, ranks: int) -> Balance:
    """Deal the jobs out by cost, so that who does what depends on what was sampled and on nothing else.

    The dearest first, each to the rank that has least to do so far (Graham 1969: at most 4/3 of the best possible).

    Args:
        rank: of this process.
        ranks: how many there are.
    """

    def balance(own: Sequence[SearchJob]) -> WorkQueue:
        _, pooled = _pooled(own, rank)
        takers = assign([(owner, job.cost) for owner, job in pooled], ranks)
        return WorkQueue([job for (_, job), taker in zip(pooled, takers, strict=True) if taker == rank])

    return balance


def dynamic_balance(rank: int, store: Any = None, room: int = 64) -> Balance:
    """Put all jobs into one queue, the dearest first; whoever is free takes the next.

    Args:
        rank: of this process.
        store: counts what was taken; ``None`` is the one through which torch's processes found each other.
        room: probes in flight below which a rank takes more work.
    """
    shared = dist.distributed_c10d._get_default_store() if store is None else store  # pyright: ignore

    def balance(own: Sequence[SearchJob]) -> WorkQueue:
        name, pooled = _pooled(own, rank)
        return SharedWorkQueue([job for _, job in pooled], shared, name, room)

    return balance


def assign(work: Sequence[tuple[int, int]], ranks: int) -> list[int]:
    """Which rank does each piece of work, given as (owner, cost) with the dearest first.

    >>> assign([(0, 8), (0, 5), (0, 4), (1, 1)], ranks=2)
    [0, 1, 1, 0]
    """
    loads, takers = [0] * ranks, list[int]()
    for owner, cost in work:
        # Its own rank has the prompt in its cache.
        takers.append(min(range(ranks), key=lambda rank: (loads[rank], rank != owner)))
        loads[takers[-1]] += cost
    return takers


def _pooled(own: Sequence[SearchJob], rank: int) -> tuple[str, list[tuple[int, SearchJob]]]:
    """A name for this occasion, and the jobs of all ranks with their owners, the dearest first."""
    # Trees of other ranks come as copies; this rank's own stay the ones it knows.
    ranks = gather([(rank, uuid4().hex, list(own))])
    pooled = [(owner, job) for owner, _, jobs in ranks for job in (own if owner == rank else jobs)]
    return ranks[0][1], sorted(pooled, key=lambda item: -item[1].cost)
