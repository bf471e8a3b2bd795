"""How an iteration's examples become optimiser steps, on one rank and on several."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.experience import Demonstrations, Row
from gpo_lightning.experience.demonstration import Demonstration
from gpo_lightning.experience.example import Example
from gpo_lightning.experience.schedule import MicroBatch, cut_by_tokens, schedule


def example(number: int, actions: int) -> Demonstration:
    return Demonstration(Row((number,), (9,) * actions))


def examples_of(lengths: list[int]) -> list[Example]:
    return [example(i, length) for i, length in enumerate(lengths)]


def tokens(of: Example) -> tuple[float, ...]:
    return (float(of.tokens),)


@dataclass
class Ranks:
    """Reductions over several ranks, played one rank after the other: first all speak, then all hear."""

    parts: list[list[Example]]
    weigh: Callable[[Example], tuple[float, ...]]
    micro_batch: int
    accumulate: int

    def run(self) -> list[list[MicroBatch]]:
        spoken: list[int] = []
        for part in self.parts:
            schedule(part, self.weigh, self.micro_batch, self.accumulate, highest=lambda n: spoken.append(n) or n)
        weights: list[list[float]] = []
        for part in self.parts:
            self._rank(part, max(spoken), lambda own: weights.append(own) or own)
        sums = [sum(step) for step in zip(*weights, strict=True)]
        return [self._rank(part, max(spoken), lambda own: sums) for part in self.parts]

    def _rank(self, part: list[Example], steps: int, total: Callable[[list[float]], list[float]]) -> list[MicroBatch]:
        return schedule(part, self.weigh, self.micro_batch, self.accumulate, 1, lambda n: steps, total)


def by_step(batches: list[MicroBatch], accumulate: int) -> list[list[MicroBatch]]:
    assert len(batches) % accumulate == 0, "each step has exactly `accumulate` micro-batches"
    return [batches[i : i + accumulate] for i in range(0, len(batches), accumulate)]


def learnt(step: list[MicroBatch]) -> list[Example]:
    return list(chain.from_iterable(batch.examples for batch in step))


lengths = st.lists(st.integers(1, 9), max_size=30)
sizes = st.integers(1, 5)


@given(lengths, sizes, sizes)
def test_every_example_is_learnt_exactly_once_and_in_order_across_steps(
    drawn, micro_batch: int, accumulate: int
) -> None:
    examples = examples_of(drawn)
    steps = by_step(schedule(examples, tokens, micro_batch, accumulate), accumulate)
    flat = [e for step in steps for e in sorted(learnt(step), key=examples.index)]
    assert flat == examples


@given(lengths, sizes, sizes)
def test_steps_are_no_more_than_the_examples_fill_and_no_less_than_one(
    drawn, micro_batch: int, accumulate: int
) -> None:
    batches = schedule(examples_of(drawn), tokens, micro_batch, accumulate)
    assert len(batches) == accumulate * max(1, ceil(len(drawn) / (micro_batch * accumulate)))
    assert all(len(batch.examples) <= micro_batch for batch in batches)


@given(lengths, sizes, sizes)
def test_steps_differ_by_at_most_one_example(drawn, micro_batch: int, accumulate: int) -> None:
    """A last step of a single example would move the policy as far as a full one."""
    counts = [
        len(learnt(step)) for step in by_step(schedule(examples_of(drawn), tokens, micro_batch, accumulate), accumulate)
    ]
    assert max(counts) - min(counts) <= 1


@given(lengths, sizes, sizes)
def test_within_a_step_those_of_like_length_share_a_micro_batch(drawn, micro_batch: int, accumulate: int) -> None:
    for step in by_step(schedule(examples_of(drawn), tokens, micro_batch, accumulate), accumulate):
        spans = [[e.length for e in batch.examples] for batch in step if batch.examples]
        assert list(chain.from_iterable(spans)) == sorted(chain.from_iterable(spans))


@pytest.mark.parametrize("weigh", [tokens, lambda _: (1.0,)], ids=["tokens", "examples"])
@given(parts=st.lists(lengths, min_size=1, max_size=3), micro_batch=sizes, accumulate=sizes)
def test_a_step_is_divided_by_its_weight_over_all_ranks(weigh, parts, micro_batch: int, accumulate: int) -> None:
    ranks = Ranks([examples_of(part) for part in parts], weigh, micro_batch, accumulate).run()
    for step in zip(*(by_step(batches, accumulate) for batches in ranks), strict=True):
        batches = list(chain.from_iterable(step))
        weight = sum(weigh(e)[0] for e in learnt(batches))
        assert {batch.normalisers for batch in batches} == {(weight or 1.0,)}


@given(st.lists(lengths, min_size=2, max_size=3), sizes, sizes)
def test_ranks_with_less_to_learn_stay_in_step(parts, micro_batch: int, accumulate: int) -> None:
    ranks = Ranks([examples_of(part) for part in parts], tokens, micro_batch, accumulate).run()
    assert len({len(batches) for batches in ranks}) == 1
    for part, batches in zip(parts, ranks, strict=True):
        steps = by_step(batches, accumulate)
        assert sorted(e.rows[0].context[0] for step in steps for e in learnt(step)) == list(range(len(part)))


def test_every_rank_reduces_exactly_once_however_little_it_has() -> None:
    calls: list[str] = []
    schedule(
        [], tokens, 4, 2, 1, lambda n: calls.append("highest") or 3, lambda w: calls.append("total") or [1.0] * len(w)
    )
    assert calls == ["highest", "total"]


def test_a_rank_without_examples_has_blank_micro_batches_and_the_others_normaliser() -> None:
    batches = schedule([], tokens, 4, 2, highest=lambda n: 3, total=lambda weights: [10.0, 20.0, 30.0])
    assert [batch.normalisers[0] for batch in batches] == [10.0, 10.0, 20.0, 20.0, 30.0, 30.0]
    batch = batches[0].collate(Demonstrations(), pad_id=0)
    assert not batch.rows.loss_mask.any()
    assert batch.normalisers == (10.0,)


def test_nothing_to_learn_anywhere_is_one_step_divided_by_one() -> None:
    assert schedule([], tokens, 4, 2) == [MicroBatch((), (1.0,), step=((), ())), MicroBatch((), (1.0,))]


@given(lengths, sizes, st.integers(1, 6))
def test_accumulating_instead_of_widening_leaves_every_step_as_it_was(drawn, micro_batch: int, accumulate: int) -> None:
    """Steps of 12 are steps of 12, be they one micro-batch or four of three."""
    examples = examples_of(drawn)
    narrow = by_step(schedule(examples, tokens, micro_batch, accumulate), accumulate)
    wide = schedule(examples, tokens, micro_batch * accumulate, 1)
    assert [(learnt(step), step[0].normalisers) for step in narrow] == [(list(b.examples), b.normalisers) for b in wide]


@given(lengths, sizes, sizes)
def test_each_term_of_a_loss_has_its_own_normaliser(drawn, micro_batch: int, accumulate: int) -> None:
    def both(of: Example) -> tuple[float, ...]:
        return (1.0, float(of.tokens))

    for step in by_step(schedule(examples_of(drawn), both, micro_batch, accumulate, terms=2), accumulate):
        one, other = step[0].normalisers
        assert one == (len(learnt(step)) or 1.0)
        assert other == (sum(e.tokens for e in learnt(step)) or 1.0)


@given(lengths, sizes, sizes)
def test_the_first_micro_batch_of_a_step_knows_the_whole_step(drawn, micro_batch: int, accumulate: int) -> None:
    for first, *others in by_step(schedule(examples_of(drawn), tokens, micro_batch, accumulate), accumulate):
        assert first.step == (first.examples, *(batch.examples for batch in others))
        assert all(batch.step == () for batch in others)


def padded(together: Sequence[Example]) -> int:
    """Tokens of rows that are filled up to the longest."""
    return len(together) * max(e.length for e in together)


budgets = st.integers(1, 60)


@given(lengths, budgets)
def test_a_budget_of_tokens_takes_as_many_examples_as_fit_and_one_in_any_case(drawn, most: int) -> None:
    examples = sorted(examples_of(drawn), key=lambda e: e.length)
    pieces = cut_by_tokens(examples, most, padded)
    assert list(chain.from_iterable(pieces)) == examples
    for piece, later in zip_longest(pieces, pieces[1:]):
        assert len(piece) == 1 or padded(piece) <= most
        assert later is None or padded((*piece, later[0])) > most


@given(lengths, sizes, sizes, budgets)
def test_a_budget_of_tokens_leaves_every_step_its_examples_and_what_they_are_divided_by(
    drawn, micro_batch: int, accumulate: int, most: int
) -> None:
    examples, cut = examples_of(drawn), partial(cut_by_tokens, most=most, computed=padded)
    expected = by_step(schedule(examples, tokens, micro_batch, accumulate), accumulate)
    batches = schedule(examples, tokens, micro_batch, accumulate, cut=cut)
    steps = by_step(batches, len(batches) // len(expected))
    assert [(learnt(step), step[0].normalisers) for step in steps] == [
        (learnt(step), step[0].normalisers) for step in expected
    ]
    assert all(first.step == (first.examples, *(b.examples for b in others)) for first, *others in steps)


def test_ranks_make_as_many_passes_as_the_one_that_needs_most() -> None:
    spoken: list[int] = []

    def highest(count: int) -> int:
        spoken.append(count)
        return 7 if len(spoken) == 2 else count

    cut = partial(cut_by_tokens, most=8, computed=padded)
    batches = schedule(examples_of([3, 3, 5]), tokens, 4, 1, highest=highest, cut=cut)
    assert spoken == [1, 2]
    assert [len(batch.examples) for batch in batches] == [2, 1, 0, 0, 0, 0, 0]
