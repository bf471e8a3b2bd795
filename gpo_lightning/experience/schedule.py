"""The order in which examples are learnt: optimiser steps, micro-batches, and what each is divided by."""

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


def schedule(
    examples: Sequence[Example],
    weigh: Weigh,
    micro_batch: int,
    accumulate: int,
    terms: int = 1,
    highest: ReduceMax = lambda count: count,
    total: ReduceSum = lambda weights: weights,
    likeness: Likeness = by_length,
) -> list[MicroBatch]:
    """Micro-batches of one rank, ``accumulate`` for each optimiser step, at least one step.

    Examples keep their order across steps; within a step like ones share a micro-batch. The normalisers
    are the weights of the whole step over all ranks, so how a step is cut into micro-batches, and over how many ranks
    it is spread, does not change its gradient.

    Args:
        examples: this rank's, in the order in which they should be learnt.
        weigh: an example's share of the normalisers, one a term of the loss.
        micro_batch: most examples of a micro-batch.
        accumulate: micro-batches of an optimiser step.
        terms: of the loss; said for the rank that has no example to tell it by.
        highest: maximum over ranks; every rank calls it once.
        total: element-wise sum over ranks; every rank calls it once.
        likeness: which examples of a step are alike.
    """
    steps = max(1, highest(ceil(len(examples) / (micro_batch * accumulate))))
    cuts = [i * len(examples) // steps for i in range(steps + 1)]
    parts = [examples[begin:end] for begin, end in pairwise(cuts)]
    sums = total([sum(weigh(example)[term] for example in part) for part in parts for term in range(terms)])
    batches: list[MicroBatch] = []
    for step, part in enumerate(parts):
        normalisers = tuple(weight or 1.0 for weight in sums[step * terms : (step + 1) * terms])
        first, *others = _cut(sorted(part, key=likeness), micro_batch, accumulate)
        batches.append(MicroBatch(first, normalisers, step=(first, *others)))
        batches.extend(MicroBatch(piece, normalisers) for piece in others)
    return batches


def _cut(ordered: Sequence[Example], micro_batch: int, accumulate: int) -> list[tuple[Example, ...]]:
    pieces = [tuple(ordered[begin : begin + micro_batch]) for begin in range(0, len(ordered), micro_batch)]
    return [*pieces, *([()] * (accumulate - len(pieces)))]
