"""What stands between data and surrogate: KL in the reward, whitening, corrections, and settings out of order."""

from collections import Counter
from dataclasses import replace
from math import exp, nan
from typing import Any

import pytest
import torch

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import PolicyGradient, Scores, ValuedSteps
from gpo_lightning.experience.actions import ActionBatch
from gpo_lightning.experience.advantages import LeaveOneOut
from gpo_lightning.losses import (
    GRPO,
    KL,
    RLOO,
    ClippedWeight,
    FixedLengthMean,
    MaskedWeights,
    ReinforcePlusPlus,
    ReinforcePlusPlusBaseline,
    SequenceClip,
    TokenClip,
    TruncatedWeights,
)
from tests.conftest import tree_of

BUILDER = PolicyGradient(starts=("prompt",), estimator=LeaveOneOut(), keep_uniform=True)


def batches(cuts: tuple[int, ...] = (6,)) -> list[ActionBatch]:
    """Two problems with three responses each, cut into micro-batches of the given sizes."""
    trees = [
        tree_of([((3, 4), 0, 1.0), ((5,), 0, 0.0), ((6, 7, 8), 0, 0.0)]),
        tree_of([((3,), 0, 1.0), ((9, 9), 0, 1.0), ((4,), 0, 1.0)]),
    ]
    examples = BUILDER.build(trees, Counter())
    made, begin = [], 0
    for cut in cuts:
        batch = BUILDER.collate(examples[begin : begin + cut], 0, (1.0,))
        ids = torch.arange(batch.rows.loss_mask.numel(), dtype=torch.float64).reshape(batch.rows.loss_mask.shape)
        mask = batch.rows.loss_mask
        made.append(replace(batch, old_scores=Scores(-batch.rows.input_ids * 0.02 * mask, ids * 0 - 0.2 * mask)))
        begin += cut
    return made


def total(sums: list[float]) -> list[float]:
    return sums


def test_the_kl_is_taken_from_the_reward_and_enters_the_baseline() -> None:
    loss = RLOO(kl=KL(0.5, "k1", "reward"))
    (given,) = batches()
    (made,) = loss.prepare([given], BUILDER, total)
    kl = ((given.old_scores.logprobs - given.old_scores.reference) * given.rows.loss_mask).sum(-1)  # type: ignore[union-attr, operator]
    rewards = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    left = [r - 0.5 * float(k) for r, k in zip(rewards, kl, strict=True)]
    wanted = LeaveOneOut().advantages(left[:3]) + LeaveOneOut().advantages(left[3:])
    found = [float(row.max() if row.max() > 0 else row.min()) for row in made.advantages]  # type: ignore[attr-defined]
    assert found == pytest.approx(wanted)
    assert wanted[3] != 0, "a group of equal rewards is told apart by its KL"


@pytest.mark.parametrize(
    "loss", [RLOO(), ReinforcePlusPlus(), ReinforcePlusPlusBaseline()], ids=lambda x: type(x).__name__
)
def test_groups_and_whitening_reach_over_micro_batches(loss: Any) -> None:
    (whole,) = loss.prepare(batches(), BUILDER, total)
    cut = loss.prepare(batches((2, 1, 3)), BUILDER, total)
    rows = [row[row != 0].tolist() for row in whole.advantages]
    assert [row[row != 0].tolist() for batch in cut for row in batch.advantages] == [pytest.approx(row) for row in rows]


def test_a_kl_in_the_reward_needs_advantages_made_of_rewards() -> None:
    with pytest.raises(ConfigError, match=r"model\.loss\.kl\.place"):
        RLOO().prepare(batches(), ValuedSteps(), total)


def test_losses_without_need_of_it_ask_for_no_extra_pass() -> None:
    assert not GRPO().needs_old_logprobs
    assert not GRPO(kl=KL(0.1)).needs_old_logprobs
    assert RLOO().needs_old_logprobs
    assert GRPO(importance_correction=TruncatedWeights()).needs_old_logprobs


def test_a_correction_takes_ratios_against_the_trainer_and_weighs_by_the_gap_to_the_engine() -> None:
    (given,) = batches()
    prior = given.old_scores
    assert prior is not None
    logprobs = prior.logprobs.clone().requires_grad_()
    batch = replace(given, advantages=given.rows.loss_mask.double())
    terms = GRPO(importance_correction=TruncatedWeights(cap=1.05))(Scores(logprobs), batch)
    gap = (prior.logprobs - given.rows.rollout_logprobs) * given.rows.loss_mask
    weights = gap.exp().clamp(max=1.05)
    mean = ((weights * given.rows.loss_mask).sum(-1) / given.rows.loss_mask.sum(-1)).sum()
    assert float(terms.sums[0].detach()) == pytest.approx(-float(mean)), "on policy every ratio is 1"
    assert float(terms.metrics["mismatch_max"]) == pytest.approx(float(gap.abs().max()))
    assert 0 < float(terms.metrics["mismatch_cut"]) < 1


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_an_unknown_engine_logprob_weighs_one(level: Any) -> None:
    mask = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
    weights = TruncatedWeights(level).weights(torch.zeros(1, 4), torch.tensor([[0.0, nan, -0.5, 9.0]]), mask)
    assert torch.isfinite(weights).all()
    assert float(weights[0, 1]) == pytest.approx(1.0 if level == "token" else exp(0.5))


def test_masked_weights_take_tokens_or_whole_responses_out() -> None:
    mask, engine = torch.ones(2, 2), torch.tensor([[-2.0, 0.0], [0.0, 0.0]])
    trainer = torch.zeros(2, 2)
    assert MaskedWeights("token", 2.0).weights(trainer, engine, mask).tolist() == [[0, 1], [1, 1]]
    assert MaskedWeights("sequence", 2.0).weights(trainer, engine, mask).tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenClip(dual=1.1), r"surrogate \(TokenClip\): dual"),
        (lambda: SequenceClip(low=1.5), r"surrogate \(SequenceClip\): low"),
        (lambda: ClippedWeight(lowest=1.5), r"surrogate \(ClippedWeight\): lowest"),
        (lambda: ClippedWeight(highest=0.5), r"surrogate \(ClippedWeight\)"),
        (lambda: FixedLengthMean(0), r"aggregation \(FixedLengthMean\): tokens"),
        (lambda: TruncatedWeights(cap=0.0), r"importance_correction: floor is 0.0 and cap 0.0"),
        (lambda: MaskedWeights(floor=3.0), r"importance_correction: floor"),
        (lambda: KL(limit=0.0), r"kl\.limit"),
        (lambda: ReinforcePlusPlus(gamma=0.0), r"\(ReinforcePlusPlus\): gamma"),
    ],
)
def test_settings_out_of_order_are_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.loss[. ]{message}"):
        make()
