"""What holds for every loss, whatever it minimises."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, replace
from itertools import chain
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gpo_lightning.experience import ActionBatch, ActionExample, Batch, Demonstration, PairBatch, PairExample, Row, Rows
from gpo_lightning.losses import DPO, GRPO, SFT, Loss, Scores
from gpo_lightning.losses.loss import k3_divergence, masked_mean, sequence_mean

LOSSES = [
    GRPO(),
    GRPO(clip_low=0.1, clip_high=0.28, beta=0.3),
    GRPO(beta=0.3, kl_correction=False),
    DPO(beta=0.7),
    DPO(beta=0.7, label_smoothing=0.1),
    SFT(),
]
NAMES = [f"{type(loss).__name__}-{i}" for i, loss in enumerate(LOSSES)]


@dataclass(frozen=True)
class Numbers:
    """One row of a batch before it is laid into tensors: tokens without loss, then four numbers a token with loss."""

    context: int
    logprobs: tuple[float, ...]
    behaviour: tuple[float, ...]
    reference: tuple[float, ...]
    advantages: tuple[float, ...]


Example = tuple[Numbers, ...]
"""One row, or the chosen and the rejected row of a pair."""


def numbers(draw: Random, length: int) -> Numbers:
    def column(low: float, high: float) -> tuple[float, ...]:
        return tuple(draw.uniform(low, high) for _ in range(length))

    advantage = draw.uniform(-2, 2)
    return Numbers(draw.randint(1, 4), column(-2, 0), column(-2, 0), column(-2, 0), (advantage,) * length)


def examples_for(loss: Loss, seed: int, count: int = 5) -> list[Example]:
    draw = Random(seed)
    rows = 2 if isinstance(loss, DPO) else 1
    return [tuple(numbers(draw, draw.randint(1, 7)) for _ in range(rows)) for _ in range(count)]


def lay(examples: list[Example], loss: Loss, padding: int, side: str) -> tuple[Scores, Batch, Tensor]:
    """Scores, batch and the mask of the tokens with loss; everything outside the mask is 0, as the policy leaves it."""
    rows = [row for place in range(len(examples[0])) for row in (example[place] for example in examples)]
    width = max(row.context + len(row.logprobs) for row in rows) + padding
    table = torch.zeros(5, len(rows), width, dtype=torch.float64)
    attention = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        length = row.context + len(row.logprobs)
        begin = width - length if side == "left" else 0
        attention[i, begin : begin + length] = 1
        actions = slice(begin + row.context, begin + length)
        for column, values in enumerate((row.logprobs, row.behaviour, row.reference, row.advantages)):
            table[column, i, actions] = torch.tensor(values, dtype=torch.float64)
        table[4, i, actions] = 1
    logprobs, behaviour, reference, advantages, mask = table
    data = Rows(torch.ones_like(attention), attention, mask, behaviour)
    kinds: dict[type[Loss], Callable[[], Batch]] = {
        GRPO: lambda: ActionBatch(data, 1.0, advantages),
        DPO: lambda: PairBatch(data, 1.0),
        SFT: lambda: Batch(data, 1.0),
    }
    scores = Scores(logprobs.clone().requires_grad_(), reference if loss.needs_reference else None)
    return scores, kinds[type(loss)](), mask


def learn(loss: Loss, examples: list[Example], padding: int = 0, side: str = "right") -> tuple[float, list[float]]:
    """The loss's sum, and its gradient by every token with loss: example by example, row by row."""
    scores, batch, mask = lay(examples, loss, padding, side)
    total = loss(scores, batch).total
    (gradient,) = torch.autograd.grad(total, scores.logprobs)
    assert not gradient[mask == 0].any(), "tokens outside the mask have no gradient"
    by_row = [row[kept == 1].tolist() for row, kept in zip(gradient, mask, strict=True)]
    by_example = [by_row[i :: len(examples)] for i in range(len(examples))]
    return float(total.detach()), list(chain.from_iterable(chain.from_iterable(by_example)))


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
@given(seed=st.integers(0, 10**6), padding=st.integers(0, 5), side=st.sampled_from(["left", "right"]))
def test_padding_changes_neither_loss_nor_gradient(loss: Loss, seed: int, padding: int, side: str) -> None:
    examples = examples_for(loss, seed)
    total, gradient = learn(loss, examples)
    padded, gradient_padded = learn(loss, examples, padding, side)
    assert padded == pytest.approx(total, rel=1e-12)
    assert gradient_padded == pytest.approx(gradient, rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
@given(seed=st.integers(0, 10**6))
def test_order_within_the_batch_changes_neither_loss_nor_gradient(loss: Loss, seed: int) -> None:
    examples = examples_for(loss, seed)
    order = Random(seed).sample(range(len(examples)), len(examples))
    total, gradient = learn(loss, examples)
    shuffled, gradient_shuffled = learn(loss, [examples[i] for i in order])
    expected = [value for i in order for value in _part(gradient, examples, i)]
    assert shuffled == pytest.approx(total, rel=1e-12)
    assert gradient_shuffled == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
@given(seed=st.integers(0, 10**6), cut=st.integers(1, 4))
def test_micro_batches_add_up_to_the_whole_batch(loss: Loss, seed: int, cut: int) -> None:
    examples = examples_for(loss, seed)
    total, gradient = learn(loss, examples)
    (first, gradient_first), (second, gradient_second) = learn(loss, examples[:cut]), learn(loss, examples[cut:])
    assert first + second == pytest.approx(total, rel=1e-12)
    assert gradient_first + gradient_second == pytest.approx(gradient, rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
def test_a_blank_example_adds_exactly_nothing(loss: Loss) -> None:
    examples = examples_for(loss, seed=3)
    blank = tuple(Numbers(2, (), (), (), ()) for _ in examples[0])
    total, gradient = learn(loss, examples[:2])
    found, gradient_found = learn(loss, [examples[0], blank, examples[1]])
    assert found == pytest.approx(total, rel=1e-12)
    assert gradient_found == pytest.approx(gradient, rel=1e-12)
    assert learn(loss, [blank]) == (0.0, [])


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
def test_metrics_are_detached_scalars_and_finite_on_a_blank_batch(loss: Loss) -> None:
    blank = tuple(Numbers(2, (), (), (), ()) for _ in examples_for(loss, 0)[0])
    for examples in (examples_for(loss, seed=1), [blank]):
        scores, batch, _ = lay(examples, loss, 0, "right")
        for value in loss(scores, batch).metrics.values():
            assert value.shape == ()
            assert not value.requires_grad
            assert torch.isfinite(value)


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
def test_the_builder_of_the_loss_makes_batches_the_loss_reads(loss: Loss) -> None:
    builder = loss.experience()
    batch = builder.collate([builder.blank(), builder.blank()], pad_id=0, normaliser=2.0)
    zeros = torch.zeros(batch.rows.mask.shape, requires_grad=True)
    assert float(loss(Scores(zeros, zeros.detach() if loss.needs_reference else None), batch).total.detach()) == 0.0


def test_an_example_weighs_one_and_a_demonstration_its_tokens() -> None:
    row = Row((1, 2, 3), (4, 5), (-0.1, -0.2))
    assert GRPO().weight(ActionExample(row, (1.0, 1.0))) == 1.0
    assert DPO().weight(PairExample(row, replace(row, actions=(4, 5, 6, 7)))) == 1.0
    assert SFT().weight(Demonstration(row)) == 2.0


def test_blank_examples_of_a_token_mean_weigh_nothing() -> None:
    assert SFT().weight(SFT().experience().blank()) == 0.0


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
def test_settings_are_frozen(loss: Loss) -> None:
    with pytest.raises(FrozenInstanceError):
        loss.beta = 1.0  # type: ignore[attr-defined]


def test_means_count_only_the_masked_and_are_zero_where_nothing_is() -> None:
    values = torch.tensor([[1.0, 2.0, 9.0], [3.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert float(masked_mean(values, mask)) == 2.0
    assert sequence_mean(values, mask).tolist() == [1.5, 3.0, 0.0]
    assert float(masked_mean(values, torch.zeros(3, 3))) == 0.0


@given(st.floats(-20, 0), st.floats(-20, 0))
def test_k3_is_zero_where_the_policies_agree_and_never_negative(logprob: float, reference: float) -> None:
    found = float(k3_divergence(torch.tensor(logprob), torch.tensor(reference)))
    assert found >= 0
    assert float(k3_divergence(torch.tensor(logprob), torch.tensor(logprob))) == 0.0


def _part(gradient: list[float], examples: list[Example], index: int) -> list[float]:
    sizes = [sum(len(row.logprobs) for row in example) for example in examples]
    return gradient[sum(sizes[:index]) : sum(sizes[: index + 1])]
