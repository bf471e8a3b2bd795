"""GRPO against the equations of LOSSES.md, written out token by token with derivatives taken by hand."""

from math import exp

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import Rows, Scores
from gpo_lightning.experience.actions import ActionBatch
from gpo_lightning.experience.advantages import GroupMean, LeaveOneOut
from gpo_lightning.losses import GRPO, KL, TokenClip

Row = list[tuple[float, float, float]]
"""Log-probability of the policy, of the behaviour and of the reference, a token."""


def grpo(low: float = 0.2, high: float = 0.2, beta: float = 0.0, weighted: bool = True) -> GRPO:
    return GRPO(TokenClip(low, high), kl=KL(beta, weighted=weighted))


def by_hand(rows: list[Row], advantages: list[float], loss: GRPO, correction: bool) -> tuple[float, list[list[float]]]:
    """sum over responses of 1/L sum_t [-min(rA, clip(r, 1-el, 1+eh) A) + beta k3 (times r where corrected)]."""
    total, gradient = 0.0, []
    for row, A in zip(rows, advantages, strict=True):
        slopes = []
        for lp, o, q in row:
            r = exp(lp - o)
            low, high = 1 - loss.surrogate.low, 1 + loss.surrogate.high  # type: ignore[attr-defined]
            clipped = low if r < low else high if r > high else r
            if r * A <= clipped * A:
                value, slope = -r * A, -r * A
            else:
                value, slope = -clipped * A, 0.0
            k3, k3_slope = exp(q - lp) - (q - lp) - 1, 1 - exp(q - lp)
            value += loss.kl.beta * k3 * (r if correction else 1)
            slope += loss.kl.beta * (r * k3 + r * k3_slope if correction else k3_slope)
            total += value / len(row)
            slopes.append(slope / len(row))
        gradient.append(slopes)
    return total, gradient


def by_us(
    rows: list[Row], advantages: list[float], loss: GRPO
) -> tuple[float, list[list[float]], dict[str, torch.Tensor]]:
    width = max(map(len, rows)) + 2
    columns = torch.zeros(5, len(rows), width, dtype=torch.float64)
    for i, row in enumerate(rows):
        for t, (lp, o, q) in enumerate(row, start=1):
            columns[:, i, t] = torch.tensor([lp, o, q, advantages[i], 1.0], dtype=torch.float64)
    logprobs, behaviour, reference, spread, mask = columns
    ids = torch.ones(mask.shape, dtype=torch.long)
    scores = Scores(logprobs.clone().requires_grad_(), reference if loss.needs_reference else None)
    terms = loss(scores, ActionBatch(Rows(ids, ids, mask, behaviour), (1.0,), spread, spread[:, 0], ids[:, 0]))
    (gradient,) = torch.autograd.grad(terms.sums[0], scores.logprobs)
    found = [gradient[i, 1 : len(row) + 1].tolist() for i, row in enumerate(rows)]
    return float(terms.sums[0].detach()), found, terms.metrics


def agree(rows: list[Row], advantages: list[float], loss: GRPO) -> None:
    total, gradient, _ = by_us(rows, advantages, loss)
    expected, slopes = by_hand(rows, advantages, loss, loss.kl.weighted)
    assert total == pytest.approx(expected, rel=1e-6)
    for found, wanted in zip(gradient, slopes, strict=True):
        assert found == pytest.approx(wanted, rel=1e-6, abs=1e-12)


FAR_AND_NEAR: Row = [
    (-1.0, -2.0, -0.5),
    (-2.0, -1.0, -2.5),
    (-1.0, -1.05, -1.2),
    (-0.3, -0.25, -3.0),
    (-1.5, -1.5, -1.5),
]
"""Ratios e, 1/e, 1.05, 0.95 and 1: above the upper cut, below the lower cut, within, and on policy."""

ODD: list[Row] = [FAR_AND_NEAR, FAR_AND_NEAR, FAR_AND_NEAR[:1], FAR_AND_NEAR[1:4], []]
ADVANTAGES = [1.3, -0.7, -2.0, 0.4, 1.0]


@pytest.mark.parametrize("clip", [(0.2, 0.2), (0.2, 0.28), (0.0, 0.0), (0.9, 5.0)])
def test_clipped_surrogate_where_every_cut_bites(clip: tuple[float, float]) -> None:
    agree(ODD, ADVANTAGES, grpo(*clip))


@pytest.mark.parametrize("correction", [True, False])
@pytest.mark.parametrize("beta", [0.04, 1.0])
def test_kl_to_the_reference(beta: float, correction: bool) -> None:
    agree(ODD, ADVANTAGES, grpo(beta=beta, weighted=correction))


logprob = st.floats(-6, -0.01)
rows = st.lists(st.lists(st.tuples(logprob, logprob, logprob), max_size=6), min_size=1, max_size=4)


@given(rows, st.data(), st.sampled_from([0.0, 0.5]), st.booleans())
def test_any_batch(drawn: list[Row], data: st.DataObject, beta: float, correction: bool) -> None:
    advantages = data.draw(st.lists(st.floats(-3, 3), min_size=len(drawn), max_size=len(drawn)))
    # On a cut's very edge the two agree in value while the slope is a matter of rounding.
    for row in drawn:
        for t, (lp, o, q) in enumerate(row):
            if min(abs(exp(lp - o) - edge) for edge in (0.8, 1.28)) < 1e-9:
                row[t] = (lp, lp, q)
    agree(drawn, advantages, grpo(0.2, 0.28, beta, correction))


def test_the_cut_takes_the_gradient_only_where_the_policy_has_gone_far_enough() -> None:
    """A right token that is already likelier, a wrong one that is already rarer; never one that moved the wrong way."""
    up, down, near = FAR_AND_NEAR[:3]
    _, gradient, metrics = by_us([[up, up, down, near], [up, down], [up]], [1.0, -1.0, 0.0], GRPO())
    assert [[slope != 0 for slope in row] for row in gradient[:2]] == [[False, False, True, True], [True, False]]
    assert float(metrics["clip_fraction"]) == pytest.approx(3 / 7), "where there is no advantage nothing is cut"


def test_each_response_counts_the_same_however_long_it_is() -> None:
    on_policy = (-1.0, -1.0, -1.0)
    total, gradient, _ = by_us([[on_policy], [on_policy] * 5], [1.0, 1.0], GRPO())
    assert total == -2.0
    assert [sum(row) for row in gradient] == pytest.approx([-1.0, -1.0])


@pytest.mark.parametrize("estimator", [GroupMean(), GroupMean(scale=False), LeaveOneOut()])
@pytest.mark.parametrize("reward", [0.0, 0.1, 1.0])
def test_a_group_of_equal_rewards_gives_exactly_no_gradient(estimator: GroupMean | LeaveOneOut, reward: float) -> None:
    advantages = estimator.advantages([reward] * 3)
    total, gradient, _ = by_us([FAR_AND_NEAR, FAR_AND_NEAR[:3], FAR_AND_NEAR[2:]], advantages, GRPO())
    assert total == 0.0
    assert all(slope == 0.0 for row in gradient for slope in row)


def test_the_kl_alone_still_teaches_a_group_of_equal_rewards() -> None:
    _, gradient, _ = by_us([FAR_AND_NEAR], [0.0], grpo(beta=0.1))
    assert any(gradient[0])


def test_metrics_say_how_far_the_policy_has_moved() -> None:
    _, _, metrics = by_us([FAR_AND_NEAR, []], [2.0, 0.0], grpo(beta=0.1))
    drifts = [lp - o for lp, o, _ in FAR_AND_NEAR]
    gaps = [q - lp for lp, _, q in FAR_AND_NEAR]
    assert float(metrics["rollout_kl"]) == pytest.approx(sum(exp(d) - 1 - d for d in drifts) / 5)
    assert float(metrics["reference_kl"]) == pytest.approx(sum(exp(g) - 1 - g for g in gaps) / 5)
    assert float(metrics["advantage_size"]) == 2.0


def test_a_reference_is_read_only_where_it_is_weighed() -> None:
    assert not GRPO().needs_reference
    assert grpo(beta=0.01).needs_reference
    assert GRPO.reads_rollout_logprobs


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.2), (1.0, 0.2), (0.2, -0.1)])
def test_a_clip_range_out_of_order_is_refused(low: float, high: float) -> None:
    with pytest.raises(ConfigError, match=r"model\.loss\.surrogate.*low is"):
        grpo(low, high)


@pytest.mark.parametrize("beta", [-0.1, float("nan"), float("inf")])
def test_a_kl_weight_that_is_no_weight_is_refused(beta: float) -> None:
    with pytest.raises(ConfigError, match=r"model\.loss\.kl\.beta"):
        grpo(beta=beta)
