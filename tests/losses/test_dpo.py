"""DPO against the equations of LOSSES.md, written out pair by pair with derivatives taken by hand."""

from math import exp, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import Rows, Scores
from gpo_lightning.experience.preference import PairBatch
from gpo_lightning.losses import DPO
from gpo_lightning.losses.dpo import dpo_loss

Row = list[tuple[float, float]]
"""Log-probability of the policy and of the reference, a token."""
Pair = tuple[Row, Row]


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def by_hand(pairs: list[Pair], loss: DPO) -> tuple[float, list[float]]:
    """-(1-e) log sigma(beta D) - e log sigma(-beta D), D = (c - c_ref) - (w - w_ref) on summed log-probabilities.

    Also its slope by D, which is the slope by every chosen token's log-probability, and less that of every rejected.
    """
    total, slopes = 0.0, []
    for chosen, rejected in pairs:
        margin = sum(lp - q for lp, q in chosen) - sum(lp - q for lp, q in rejected)
        e, x = loss.label_smoothing, loss.beta * margin
        total += -(1 - e) * log(sigmoid(x)) - e * log(sigmoid(-x))
        slopes.append(loss.beta * (-(1 - e) * sigmoid(-x) + e * sigmoid(x)))
    return total, slopes


def by_us(pairs: list[Pair], loss: DPO) -> tuple[float, list[list[float]], dict[str, torch.Tensor]]:
    rows = [chosen for chosen, _ in pairs] + [rejected for _, rejected in pairs]
    columns = torch.zeros(3, len(rows), max(map(len, rows)) + 3, dtype=torch.float64)
    for i, row in enumerate(rows):
        for t, (lp, q) in enumerate(row, start=2):
            columns[:, i, t] = torch.tensor([lp, q, 1.0], dtype=torch.float64)
    logprobs, reference, mask = columns
    ids = torch.ones(mask.shape, dtype=torch.long)
    scores = Scores(logprobs.clone().requires_grad_(), reference)
    terms = loss(scores, PairBatch(Rows(ids, ids, mask, torch.zeros_like(mask)), (1.0,)))
    (gradient,) = torch.autograd.grad(terms.sums[0], scores.logprobs)
    assert not gradient[mask == 0].any()
    found = [gradient[i, 2 : len(row) + 2].tolist() for i, row in enumerate(rows)]
    return float(terms.sums[0].detach()), found, terms.metrics


def agree(pairs: list[Pair], loss: DPO) -> None:
    total, gradient, _ = by_us(pairs, loss)
    expected, slopes = by_hand(pairs, loss)
    assert total == pytest.approx(expected, rel=1e-6)
    for i, ((chosen, rejected), slope) in enumerate(zip(pairs, slopes, strict=True)):
        assert gradient[i] == pytest.approx([slope] * len(chosen), rel=1e-6)
        assert gradient[i + len(pairs)] == pytest.approx([-slope] * len(rejected), rel=1e-6)


ODD: list[Pair] = [
    ([(-1.0, -2.0), (-0.5, -0.4), (-3.0, -1.0)], [(-0.2, -0.9)]),
    ([(-0.1, -5.0)], [(-4.0, -0.3), (-2.0, -2.0)]),
    ([(-2.0, -0.1), (-2.5, -0.2)], [(-0.1, -2.0), (-0.1, -2.5), (-1.0, -1.0)]),
]
"""Pairs of unequal lengths: one near the middle, one long learnt, one ranked the wrong way round."""


@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_sigmoid(beta: float) -> None:
    agree(ODD, DPO(beta=beta))


@pytest.mark.parametrize("smoothing", [0.1, 0.4])
def test_conservative_form(smoothing: float) -> None:
    agree(ODD, DPO(beta=0.5, label_smoothing=smoothing))


logprob = st.floats(-4, -0.01)
row = st.lists(st.tuples(logprob, logprob), min_size=1, max_size=5)


@given(st.lists(st.tuples(row, row), min_size=1, max_size=4), st.floats(0.01, 2), st.floats(0, 0.49))
def test_any_batch(pairs: list[Pair], beta: float, smoothing: float) -> None:
    agree(pairs, DPO(beta, smoothing))


def test_padding_pairs_are_not_pairs() -> None:
    total, gradient, metrics = by_us([*ODD, ([], [])], DPO())
    alone, gradient_alone, metrics_alone = by_us(ODD, DPO())
    assert total == alone
    assert [row for row in gradient if row] == gradient_alone
    assert metrics == metrics_alone


def test_metrics_rank_pairs_by_implicit_reward() -> None:
    _, _, metrics = by_us(ODD, DPO(beta=0.5))
    margins = [sum(lp - q for lp, q in c) - sum(lp - q for lp, q in w) for c, w in ODD]
    assert float(metrics["pair_accuracy"]) == pytest.approx(sum(m > 0 for m in margins) / 3)
    assert float(metrics["margin"]) == pytest.approx(0.5 * sum(margins) / 3)


def test_smoothing_pulls_back_a_pair_that_is_too_sure() -> None:
    margin = torch.tensor([20.0], dtype=torch.float64, requires_grad=True)
    (plain,) = torch.autograd.grad(dpo_loss(margin, 1.0).sum(), margin)
    (smoothed,) = torch.autograd.grad(dpo_loss(margin, 1.0, 0.1).sum(), margin)
    assert float(plain) < 0 < float(smoothed)


def test_a_far_margin_neither_overflows_nor_loses_its_gradient() -> None:
    margin = torch.tensor([-5000.0, 5000.0], dtype=torch.float64, requires_grad=True)
    losses = dpo_loss(margin, 1.0)
    (gradient,) = torch.autograd.grad(losses.sum(), margin)
    assert losses.tolist() == [5000.0, 0.0]
    assert gradient.tolist() == [-1.0, 0.0]


def test_without_a_reference_the_loss_says_so() -> None:
    mask = torch.ones(2, 3)
    ids = mask.long()
    with pytest.raises(ConfigError, match="reference"):
        DPO()(Scores(torch.zeros(2, 3)), PairBatch(Rows(ids, ids, mask, mask), (1.0,)))


def test_it_reads_a_reference_but_no_behaviour() -> None:
    assert DPO().needs_reference
    assert not DPO.reads_rollout_logprobs


@pytest.mark.parametrize(
    ("field", "value"), [("beta", 0.0), ("beta", -1.0), ("label_smoothing", -0.1), ("label_smoothing", 0.5)]
)
def test_bad_settings_name_the_field(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"model\.loss.*{field}"):
        DPO(**{field: value})
