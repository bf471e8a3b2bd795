"""An iteration's batches: examples in the order of learning, cut into micro-batches, scored beforehand where needed."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, overload

import torch
from typing_extensions import override

from gpo_lightning.experience import Batch, ExperienceBuilder
from gpo_lightning.experience.example import Example
from gpo_lightning.experience.schedule import MicroBatch, by_context, by_length, cut_by_tokens, schedule
from gpo_lightning.policy.packing import computed_tokens
from gpo_lightning.training.scorer import Scorer

Reduce = Callable[[list[float], str], list[float]]
"""``sum`` or ``max`` of every value over all ranks, which all call it together."""


class StepBatches(Sequence[Batch]):
    """An iteration's batches of one rank, in the order of learning; the first one of each step knows the whole step.

    Args:
        batches: ready made, or made when they are asked for.
        accumulate: how many of them make an optimiser step.
    """

    def __init__(self, batches: Sequence[Batch], accumulate: int) -> None:
        self._batches, self.accumulate = batches, accumulate

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Batch]: ...
    @override
    def __getitem__(self, index: int | slice) -> Batch | Sequence[Batch]:
        return self._batches[index]

    @override
    def __len__(self) -> int:
        return len(self._batches)


class _Collated(Sequence[Batch]):
    """Micro-batches that become tensors when they are asked for."""

    def __init__(self, micro_batches: Sequence[MicroBatch], builder: ExperienceBuilder, pad_id: int) -> None:
        self._micro_batches, self._builder, self._pad_id = micro_batches, builder, pad_id

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Batch]: ...
    @override
    def __getitem__(self, index: int | slice) -> Batch | list[Batch]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._micro_batches[index].collate(self._builder, self._pad_id)

    @override
    def __len__(self) -> int:
        return len(self._micro_batches)


def make_batches(
    examples: Sequence[Example],
    builder: ExperienceBuilder,
    scorer: Scorer,
    micro_batch: int,
    accumulate: int = 1,
    reduce: Reduce = lambda values, how: values,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    micro_tokens: int | None = None,
) -> StepBatches:
    """An iteration's batches of one rank, for optimiser steps of ``micro_batch`` times ``accumulate`` examples.

    Args:
        examples: of this rank, in the order in which they should be learnt.
        builder: made them, and turns them into tensors.
        scorer: of the policy as it is now, for the loss that learns from the batches.
        micro_batch: most examples of a batch.
        accumulate: batches of an optimiser step.
        reduce: over ranks.
        precision: context of a forward pass.
        micro_tokens: most tokens that go through the policy for a batch, which then has as many examples as that
            allows; a step has the same ones, in as many batches as it takes.
    """
    loss, packing = scorer.loss, scorer.policy.packing

    def computed(together: Sequence[Example]) -> int:
        return computed_tokens([row.context + row.actions for each in together for row in each.rows], packing)

    micro_batches = schedule(
        examples,
        loss.weights,
        micro_batch,
        accumulate,
        terms=len(loss.weights(builder.blank())),
        highest=lambda count: int(reduce([float(count)], "max")[0]),
        total=lambda weights: reduce(weights, "sum"),
        likeness=by_length if packing is None else by_context,
        cut=None if micro_tokens is None else partial(cut_by_tokens, most=micro_tokens, computed=computed),
    )
    accumulate = len(micro_batches) // sum(bool(each.step) for each in micro_batches)
    batches = _Collated(micro_batches, builder, scorer.policy.pad_id)
    # In the only step of an iteration the policy still is what it was; but for noise, which the old scores have not.
    later = loss.needs_old_logprobs and (len(batches) > accumulate or scorer.policy.noisy)
    scored = _with_old_scores(batches, scorer, precision) if later or loss.prepares_with_scores else batches
    return StepBatches(loss.prepare(scored, builder, lambda sums: reduce(sums, "sum")), accumulate)


@torch.no_grad()
def _with_old_scores(
    batches: Sequence[Batch], scorer: Scorer, precision: Callable[[], AbstractContextManager[Any]]
) -> list[Batch]:
    """The old log-prob pass: every batch with its scores by the policy as it is now."""
    scored: list[Batch] = []
    scorer.policy.eval()
    with precision():
        for batch in batches:
            scores = scorer(batch.to(scorer.policy.device)).to(torch.device("cpu"))
            scored.append(replace(batch, old_scores=scores))
    scorer.policy.train()
    return scored
