"""The order in which examples are learnt: optimiser steps, micro-batches, and what each is divided by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from gpo_lightning.experience.builder import ExperienceBuilder
from gpo_lightning.experience.example import Batch, Example

Weigh = Callable[[Example], float]
ReduceMax = Callable[[int], int]
ReduceSum = Callable[[list[float]], list[float]]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Examples that go through the policy together, and the weight of the optimiser step they belong to."""

    examples: tuple[Example, ...]
    normaliser: float

    def collate(self, builder: ExperienceBuilder, pad_id: int) -> Batch:
        return builder.collate(self.examples or (builder.blank(),), pad_id, self.normaliser)


def schedule(
    examples: Sequence[Example],
    weigh: Weigh,
    micro_batch: int,
    accumulate: int,
    highest: ReduceMax = lambda count: count,
    total: ReduceSum = lambda weights: weights,
) -> list[MicroBatch]:
    """Micro-batches of one rank, ``accumulate`` for each optimiser step, at least one step.

    Examples keep their order across steps; within a step those of like length share a micro-batch. The normaliser is
    the weight of the whole step over all ranks, so how a step is cut into micro-batches, and over how many ranks it
    is spread, does not change its gradient.

    Args:
        examples: this rank's, in the order in which they should be learnt.
        weigh: an example's share of the normaliser.
        micro_batch: most examples of a micro-batch.
        accumulate: micro-batches of an optimiser step.
        highest: maximum over ranks; every rank calls it once.
        total: element-wise sum over ranks; every rank calls it once.
    """
    steps = max(1, highest(ceil(len(examples) / (micro_batch * accumulate))))
    cuts = [i * len(examples) // steps for i in range(steps + 1)]
    parts = [examples[begin:end] for begin, end in pairwise(cuts)]
    weights = total([sum(map(weigh, part)) for part in parts])
    return [
        MicroBatch(tuple(piece), weight or 1.0)
        for part, weight in zip(parts, weights, strict=True)
        for piece in _cut_by_length(part, micro_batch, accumulate)
    ]


def _cut_by_length(part: Sequence[Example], micro_batch: int, accumulate: int) -> list[Sequence[Example]]:
    ordered = sorted(part, key=lambda example: example.length)
    pieces = [ordered[begin : begin + micro_batch] for begin in range(0, len(ordered), micro_batch)]
    return [*pieces, *([()] * (accumulate - len(pieces)))]
