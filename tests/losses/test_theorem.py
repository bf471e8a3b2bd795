"""GPO-DPO is advantage-weighted reinforcement learning (GPO, theorem 5.3), on a problem small enough to enumerate.

One start state, the critical prefix, and four continuations, of which each is right with a known chance. Everything
below is an exact expectation over continuations and outcomes; our loss function gives the value of every pair.
"""

from itertools import product

import pytest
import torch
from torch import Tensor

from gpo_lightning.experience import Rows, Scores
from gpo_lightning.experience.preference import PairBatch
from gpo_lightning.losses import DPO

SUCCESS = torch.tensor([0.9, 0.6, 0.3, 0.05], dtype=torch.float64)
"""Q(s, a): the chance that each continuation ends right."""
REFERENCE = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).log()
BETA = 0.3


def pair_losses(logits: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """Our DPO on pairs of continuations of the shared prefix, each a single token; ``[P]``."""
    logprobs = logits.log_softmax(-1)
    tokens = torch.tensor([won for won, _ in pairs] + [lost for _, lost in pairs])
    mask = torch.ones(len(tokens), 1, dtype=torch.float64)
    ids = torch.ones(mask.shape, dtype=torch.long)
    scores = Scores(logprobs[tokens][:, None], REFERENCE[tokens][:, None])
    losses: list[Tensor] = []
    for i in range(len(pairs)):
        both = torch.tensor([i, i + len(pairs)])
        one = Scores(scores.logprobs[both], scores.reference[both])  # type: ignore[index]
        rows = Rows(ids[both], ids[both], mask[both], mask[both] * 0)
        losses.append(DPO(BETA)(one, PairBatch(rows, (1.0,))).sums[0])
    return torch.stack(losses)


PAIRS = list(product(range(4), repeat=2))


def gpo_dpo(logits: Tensor) -> Tensor:
    """E over pairs that the reference draws from the prefix and a grader orders: one right, the other wrong."""
    weights = torch.stack(
        [(REFERENCE[won] + REFERENCE[lost]).exp() * SUCCESS[won] * (1 - SUCCESS[lost]) for won, lost in PAIRS]
    )
    return (weights * pair_losses(logits, PAIRS)).sum()


def gradient(objective: Tensor, logits: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(objective, logits, retain_graph=True)
    return found


def test_at_the_reference_its_gradient_is_the_advantage_weighted_one() -> None:
    """d/dtheta -E log sigmoid(...) = -beta/2 E[A(s, a) d/dtheta log pi(a | s)], A = Q - V under the reference."""
    logits = REFERENCE.clone().requires_grad_()
    value = (REFERENCE.exp() * SUCCESS).sum()
    weighted = (REFERENCE.exp() * (SUCCESS - value) * logits.log_softmax(-1)).sum()
    assert torch.allclose(gradient(gpo_dpo(logits), logits), -BETA / 2 * gradient(weighted, logits), rtol=1e-12)
    assert gradient(weighted, logits).abs().max() > 1e-3


def test_it_is_the_first_order_of_the_exponential_weights() -> None:
    """The paper weighs log pi by exp(A / beta); where advantages are small against beta, the two gradients agree."""
    logits = REFERENCE.clone().requires_grad_()
    value = (REFERENCE.exp() * SUCCESS).sum()
    large = 1e4
    exponential = (REFERENCE.exp() * ((SUCCESS - value) / large).exp() * logits.log_softmax(-1)).sum()
    wanted = gradient(exponential, logits) * large
    assert torch.allclose(gradient(gpo_dpo(logits), logits) * -2 / BETA, wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_both_are_stationary_at_the_same_policy_when_preferences_follow_advantages(scale: float) -> None:
    """pi*(a | s) ~ pi_ref(a | s) exp(A(s, a) / beta), with P(w > l) = sigmoid(A_w - A_l)."""
    advantages = scale * (SUCCESS - (REFERENCE.exp() * SUCCESS).sum())
    logits = (REFERENCE + advantages / BETA).requires_grad_()
    chance = torch.stack([torch.sigmoid(advantages[won] - advantages[lost]) for won, lost in PAIRS])
    drawn = torch.stack([(REFERENCE[won] + REFERENCE[lost]).exp() for won, lost in PAIRS])
    preferences = (drawn * chance * pair_losses(logits, PAIRS)).sum()
    weights = REFERENCE.exp() * (advantages / BETA).exp()
    weighted = (weights * logits.log_softmax(-1)).sum()
    assert gradient(preferences, logits).abs().max() < 1e-12
    assert gradient(weighted, logits).abs().max() < 1e-12
    elsewhere = REFERENCE.clone().requires_grad_()
    moved = (drawn * chance * pair_losses(elsewhere, PAIRS)).sum()
    assert gradient(moved, elsewhere).abs().max() > 1e-3
