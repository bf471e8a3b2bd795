"""What holds for every loss, whatever it minimises."""

from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, replace
from itertools import chain
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gpo_lightning import losses
from gpo_lightning.experience import Batch, LabelledResponses, PreferencePairs, Row, Rows, Scores
from gpo_lightning.experience.actions import ActionBatch, ActionExample, ActionExperience
from gpo_lightning.experience.demonstration import Demonstration
from gpo_lightning.experience.labelled import LabelledBatch
from gpo_lightning.experience.preference import PairBatch, PairExample
from gpo_lightning.losses import (
    CPO,
    DAPO,
    DPO,
    GRPO,
    IPO,
    KL,
    KTO,
    ORPO,
    PPO,
    SFT,
    DrGRPO,
    Loss,
    MaskedWeights,
    ResponseSum,
    TokenClip,
    TruncatedWeights,
)
from gpo_lightning.losses.loss import masked_mean
from gpo_lightning.losses.parts.divergence import kl_estimate
from tests.of_the_package import offered

VARIANTS = [
    GRPO(TokenClip(0.1, 0.28, dual=3.0), kl=KL(0.3)),
    GRPO(kl=KL(0.3, weighted=False, limit=1.0)),
    GRPO(aggregation=ResponseSum(), kl=KL(0.3, "k2")),
    GRPO(importance_correction=TruncatedWeights()),
    GRPO(importance_correction=MaskedWeights("sequence", 1.5)),
    DPO(beta=0.7),
    DPO(beta=0.7, label_smoothing=0.1),
    IPO(per_token=False),
    KTO(desirable_weight=2.0, undesirable_weight=0.5),
]
LOSSES = [*(loss() for loss in offered(losses, Loss)), *VARIANTS]
NAMES = [f"{type(loss).__name__}-{i}" for i, loss in enumerate(LOSSES)]


COLUMNS = ("logprobs", "behaviour", "prior", "reference", "values", "old_values", "returns", "advantages")


@dataclass(frozen=True)
class Numbers:
    """One row of a batch before it is laid into tensors: tokens without loss, and the columns of those with loss."""

    context: int
    columns: Mapping[str, tuple[float, ...]]

    @property
    def actions(self) -> int:
        return len(self.columns["logprobs"])


Example = tuple[Numbers, ...]
"""One row, or the chosen and the rejected row of a pair."""


def numbers(draw: Random, length: int) -> Numbers:
    columns = {name: tuple(draw.uniform(-2, 0) for _ in range(length)) for name in COLUMNS}
    advantage = draw.uniform(-2, 2)
    return Numbers(draw.randint(1, 4), columns | {"advantages": (advantage,) * length})


def examples_for(loss: Loss, seed: int, count: int = 5) -> list[Example]:
    draw = Random(seed)
    rows = 2 if loss.experience is PreferencePairs else 1
    return [tuple(numbers(draw, draw.randint(1, 7)) for _ in range(rows)) for _ in range(count)]


def blank_for(loss: Loss) -> Example:
    return tuple(Numbers(2, dict.fromkeys(COLUMNS, ())) for _ in examples_for(loss, 0)[0])


def lay(examples: list[Example], loss: Loss, padding: int, side: str) -> tuple[Scores, Batch, Tensor]:
    """Scores, batch and the mask of the tokens with loss; everything outside the mask is 0, as the policy leaves it."""
    rows = [row for place in range(len(examples[0])) for row in (example[place] for example in examples)]
    width = max(row.context + row.actions for row in rows) + padding
    table = {name: torch.zeros(len(rows), width, dtype=torch.float64) for name in (*COLUMNS, "mask")}
    attention = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        length = row.context + row.actions
        begin = width - length if side == "left" else 0
        attention[i, begin : begin + length] = 1
        actions = slice(begin + row.context, begin + length)
        for name in COLUMNS:
            table[name][i, actions] = torch.tensor(row.columns[name], dtype=torch.float64)
        table["mask"][i, actions] = 1
    return scores_of(table, loss), batch_of(table, attention, loss), table["mask"]


def scores_of(table: Mapping[str, Tensor], loss: Loss) -> Scores:
    return Scores(
        table["logprobs"].clone().requires_grad_(),
        table["reference"] if loss.needs_reference else None,
        table["values"].clone().requires_grad_() if loss.needs_values else None,
        torch.tensor(0.3) if isinstance(loss, KTO) else None,
    )


def batch_of(table: Mapping[str, Tensor], attention: Tensor, loss: Loss) -> Batch:
    data = Rows(torch.ones_like(attention), attention, table["mask"], table["behaviour"])
    prior = Scores(table["prior"], table["reference"], table["old_values"]) if loss.needs_old_logprobs else None
    firsts = table["advantages"].sum(-1)
    if issubclass(loss.experience, ActionExperience):
        groups, returns = torch.zeros(len(attention)), table["returns"] if loss.needs_values else None
        return ActionBatch(data, (1.0,), table["advantages"], firsts, groups, returns=returns, old_scores=prior)
    if issubclass(loss.experience, LabelledResponses):
        return LabelledBatch(data, (1.0,), firsts > 0)
    return PairBatch(data, (1.0,)) if loss.experience is PreferencePairs else Batch(data, (1.0,))


def learn(loss: Loss, examples: list[Example], padding: int = 0, side: str = "right") -> tuple[float, list[float]]:
    """The loss's sum, and its gradient by every token with loss: example by example, row by row."""
    scores, batch, mask = lay(examples, loss, padding, side)
    total = torch.stack(loss(scores, batch).sums).sum()
    inputs = [scores.logprobs] if scores.values is None else [scores.logprobs, scores.values]
    gradients = torch.autograd.grad(total, inputs)
    assert not any(gradient[mask == 0].any() for gradient in gradients), "tokens outside the mask have no gradient"
    gradient = torch.stack(gradients, -1).flatten(1)  # [R, T * inputs]
    kept = mask.repeat_interleave(len(inputs), 1)
    by_row = [row[there == 1].tolist() for row, there in zip(gradient, kept, strict=True)]
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
    blank = blank_for(loss)
    total, gradient = learn(loss, examples[:2])
    found, gradient_found = learn(loss, [examples[0], blank, examples[1]])
    assert found == pytest.approx(total, rel=1e-12)
    assert gradient_found == pytest.approx(gradient, rel=1e-12)
    assert learn(loss, [blank]) == (0.0, [])


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
def test_metrics_are_detached_scalars_and_finite_on_a_blank_batch(loss: Loss) -> None:
    for examples in (examples_for(loss, seed=1), [blank_for(loss)]):
        scores, batch, _ = lay(examples, loss, 0, "right")
        for value in loss(scores, batch).metrics.values():
            assert value.shape == ()
            assert not value.requires_grad
            assert torch.isfinite(value)


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
def test_the_builder_of_the_loss_makes_batches_the_loss_reads(loss: Loss) -> None:
    builder = loss.default_experience()
    assert isinstance(builder, loss.experience)
    batch = builder.collate([builder.blank(), builder.blank()], pad_id=0, normalisers=(2.0,))
    zeros = torch.zeros(batch.rows.loss_mask.shape)
    table = {**dict.fromkeys(COLUMNS, zeros), "mask": batch.rows.loss_mask}
    if isinstance(batch, ActionBatch):
        prior = Scores(zeros, zeros, zeros) if loss.needs_old_logprobs else None
        batch = replace(batch, returns=zeros if loss.needs_values else None, old_scores=prior)
    terms = loss(scores_of(table, loss), batch)
    assert [float(term.detach()) for term in terms.sums] == [0.0] * len(loss.weights(builder.blank()))


ROW = Row((1, 2, 3), (4, 5), (-0.1, -0.2))
ACTIONS = ActionExample(ROW, (1.0, 1.0))
PAIR = PairExample(ROW, replace(ROW, actions=(4, 5, 6, 7)))


@pytest.mark.parametrize(
    ("loss", "example", "weights"),
    [
        (GRPO(), ACTIONS, (1.0,)),
        (DAPO(), ACTIONS, (2.0,)),
        (DrGRPO(), ACTIONS, (1024.0,)),
        (PPO(), ACTIONS, (2.0, 2.0)),
        (DPO(), PAIR, (1.0,)),
        (CPO(), PAIR, (1.0, 2.0)),
        (ORPO(), PAIR, (1.0, 1.0)),
        (ORPO(likelihood="prompt_and_response"), PAIR, (1.0, 4.0)),
        (SFT(), Demonstration(ROW), (2.0,)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_example_weighs_what_its_term_is_a_mean_over(loss: Loss, example: Any, weights: tuple[float, ...]) -> None:
    assert loss.weights(example) == weights


@pytest.mark.parametrize("loss", [SFT(), DAPO(), PPO()], ids=lambda loss: type(loss).__name__)
def test_blank_examples_of_a_token_mean_weigh_nothing(loss: Loss) -> None:
    assert not any(loss.weights(loss.default_experience().blank()))


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
def test_settings_are_frozen(loss: Loss) -> None:
    with pytest.raises(FrozenInstanceError):
        loss.experience = None  # type: ignore[misc, assignment]


def test_means_count_only_the_masked_and_are_zero_where_nothing_is() -> None:
    values = torch.tensor([[1.0, 2.0, 9.0], [3.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert float(masked_mean(values, mask)) == 2.0
    assert float(masked_mean(values, torch.zeros(3, 3))) == 0.0


@given(st.floats(-20, 0), st.floats(-20, 0))
def test_k3_is_zero_where_the_policies_agree_and_never_negative(logprob: float, reference: float) -> None:
    found = float(kl_estimate(torch.tensor(logprob), torch.tensor(reference), "k3"))
    assert found >= 0
    assert float(kl_estimate(torch.tensor(logprob), torch.tensor(logprob), "k3")) == 0.0


def _part(gradient: list[float], examples: list[Example], index: int) -> list[float]:
    sizes = [sum(row.actions for row in example) for example in examples]
    sizes = [size * len(gradient) // sum(sizes) for size in sizes]
    return gradient[sum(sizes[:index]) : sum(sizes[: index + 1])]
