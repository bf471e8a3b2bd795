"""SFT: the negative log-likelihood of the tokens that carry loss, and of no other."""

from math import exp

import pytest
import torch

from gpo_lightning.experience import Batch, Row, Rows, Scores
from gpo_lightning.experience.demonstration import Demonstration
from gpo_lightning.losses import SFT

LENGTHS = (3, 1, 0, 5)


def batch_of(lengths: tuple[int, ...]) -> tuple[torch.Tensor, Batch]:
    mask = torch.zeros(len(lengths), 7, dtype=torch.float64)
    for i, length in enumerate(lengths):
        mask[i, 2 : 2 + length] = 1
    ids = torch.ones(mask.shape, dtype=torch.long)
    drawn = torch.empty(mask.shape, dtype=torch.float64).uniform_(-4, 0, generator=torch.Generator().manual_seed(0))
    return (drawn * mask).requires_grad_(), Batch(Rows(ids, ids, mask, torch.zeros_like(mask)), (1.0,))


def test_value_and_gradient_are_those_of_the_likelihood() -> None:
    logprobs, batch = batch_of(LENGTHS)
    terms = SFT()(Scores(logprobs), batch)
    (gradient,) = torch.autograd.grad(terms.sums[0], logprobs)
    expected = 0.0
    for i, length in enumerate(LENGTHS):
        for t in range(7):
            carries_loss = 2 <= t < 2 + length
            expected -= logprobs[i, t].item() if carries_loss else 0
            assert gradient[i, t].item() == (-1.0 if carries_loss else 0.0)
    assert terms.sums[0].item() == pytest.approx(expected, rel=1e-6)


def test_divided_by_the_weights_it_is_the_mean_over_tokens_not_over_responses() -> None:
    logprobs, batch = batch_of(LENGTHS)
    weight = sum(SFT().weights(Demonstration(Row((1, 1), (4,) * length)))[0] for length in LENGTHS)
    found = SFT()(Scores(logprobs), batch).sums[0].item() / weight
    assert found == pytest.approx(-logprobs[batch.rows.loss_mask.bool()].mean().item(), rel=1e-12)


def test_token_probability_is_the_mean_over_tokens() -> None:
    logprobs, batch = batch_of((2, 1))
    drawn = logprobs[batch.rows.loss_mask.bool()].tolist()
    found = SFT()(Scores(logprobs), batch).metrics["token_probability"].item()
    assert found == pytest.approx(sum(map(exp, drawn)) / 3)


def test_it_needs_neither_reference_nor_behaviour() -> None:
    assert not SFT().needs_reference
    assert not SFT.reads_rollout_logprobs
