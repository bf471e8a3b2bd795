"""The order in which examples are learnt: optimiser steps, micro-batches, and what each is divided by."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from typing import Any

from gpo_lightning.experience.builder import ExperienceBuilder
from gpo_lightning.experience.example import Batch, Example

Weigh = Callable[[Example], tuple[float, ...]]
Likeness = Callable[[Example], Any]
"""Orders examples within an optimiser step, so that neighbours share a micro-batch."""
Cut = Callable[[Sequence[Example]], list[tuple[Example, ...]]]
"""Micro-batches of the examples of an optimiser step."""
ReduceMax = Callable[[int], int]
ReduceSum = Callable[[list[float]], list[float]]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Examples that go through the policy together, and the weights of the optimiser step they belong to.

    Args:
        examples: of this micro-batch.
        normalisers: the step's weight in each term of the loss.
        step: micro-batches of the whole step, on its first one; empty on the others.
    """

    examples: tuple[Example, ...]
    normalisers: tuple[float, ...]
    step: tuple[tuple[Example, ...], ...] = ()

    def collate(self, builder: ExperienceBuilder, pad_id: int) -> Batch:
        batch = builder.collate(self.examples or (builder.blank(),), pad_id, self.normalisers)
        kl_rows = (builder.kl_rows(examples, pad_id) for examples in self.step)
        return replace(batch, kl_rows=tuple(rows for rows in kl_rows if rows is not None))


def by_length(example: Example) -> int:
    """Like lengths, for rows that are padded."""
    return example.length


def by_context(example: Example) -> list[tuple[int, ...]]:
    """Like beginnings, for rows that are packed into trees."""
    return [row.context for row in example.rows]


def cut_by_tokens(
    examples: Sequence[Example], most: int, computed: Callable[[Sequence[Example]], int]
) -> list[tuple[Example, ...]]:
    """Neighbours together, as many as come to at most ``most`` tokens; an example that is longer by itself is alone.

    Args:
        examples: of an optimiser step, like ones beside each other.
        most: tokens of a micro-batch.
        computed: how many tokens go through the policy for examples at once.
    """
    pieces: list[tuple[Example, ...]] = []
    rest = examples
    while rest:
        fits, beyond = 1, 2
        while beyond <= len(rest) and computed(rest[:beyond]) <= most:
            fits, beyond = beyond, 2 * beyond
        between = range(fits + 1, min(beyond, len(rest) + 1))
        fits += bisect_right(between, most, key=lambda count, rest=rest: computed(rest[:count]))
        pieces.append(tuple(rest[:fits]))
        rest = rest[fits:]
    return pieces


def schedule(
    examples: Sequence[Example],
    weigh: Weigh,
    micro_batch: int,
    accumulate: int,
    terms: int = 1,
    highest: ReduceMax = lambda count: count,
    total: ReduceSum = lambda weights: weights,
    likeness: Likeness = by_length,
    cut: Cut | None = None,
) -> list[MicroBatch]:
    """Micro-batches of one rank, ``accumulate`` for each optimiser step, at least one step.

    Where ``cut`` is given, ``micro_batch`` times ``accumulate`` are the examples of a step all the same, but it decides
    how many micro-batches they make; every step of every rank has as many as the one that has most.

    Examples keep their order across steps; within a step like ones share a micro-batch. The normalisers
    are the weights of the whole step over all ranks, so how a step is cut into micro-batches, and over how many ranks
    it is spread, does not change its gradient.

    Args:
        examples: this rank's, in the order in which they should be learnt.
        weigh: an example's share of the normalisers, one a term of the loss.
        micro_batch: most examples of a micro-batch.
        accumulate: micro-batches of an optimiser step.
        terms: of the loss; said for the rank that has no example to tell it by.
        highest: maximum over ranks; every rank calls it once, and again where ``cut`` is given.
        total: element-wise sum over ranks; every rank calls it once.
        likeness: which examples of a step are alike.
        cut: micro-batches from a step's examples; ``None`` makes ``accumulate`` of ``micro_batch`` each.
    """
    steps = max(1, highest(ceil(len(examples) / (micro_batch * accumulate))))
    cuts = [i * len(examples) // steps for i in range(steps + 1)]
    parts = [examples[begin:end] for begin, end in pairwise(cuts)]
    sums = total([sum(weigh(example)[term] for example in part) for part in parts for term in range(terms)])
    ordered = [sorted(part, key=likeness) for part in parts]
    if cut is None:
        pieces, count = [_cut_by_number(part, micro_batch) for part in ordered], accumulate
    else:
        pieces = [cut(part) for part in ordered]
        count = max(1, highest(max(map(len, pieces))))
    batches: list[MicroBatch] = []
    for step, cut_up in enumerate(pieces):
        normalisers = tuple(weight or 1.0 for weight in sums[step * terms : (step + 1) * terms])
        first, *others = [*cut_up, *([()] * (count - len(cut_up)))]
        batches.append(MicroBatch(first, normalisers, step=(first, *others)))
        batches.extend(MicroBatch(piece, normalisers) for piece in others)
    return batches


def _cut_by_number(ordered: Sequence[Example], micro_batch: int) -> list[tuple[Example, ...]]:
    return [tuple(ordered[begin : begin + micro_batch]) for begin in range(0, len(ordered), micro_batch)]
