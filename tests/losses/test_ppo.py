"""PPO's own parts: rewards a token, advantages over a value head, whitening over the whole iteration."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import Rows, Scores
from gpo_lightning.experience.actions import ActionBatch
from gpo_lightning.losses import KL, PPO


def batch(lengths: list[int], rewards: list[float], seed: int = 0, width: int = 6) -> ActionBatch:
    draw = torch.Generator().manual_seed(seed)
    mask = torch.zeros(len(lengths), width, dtype=torch.float64)
    for i, length in enumerate(lengths):
        mask[i, 1 : 1 + length] = 1

    def column() -> Tensor:
        return -torch.rand(mask.shape, generator=draw, dtype=torch.float64) * mask

    ids = torch.ones(mask.shape, dtype=torch.long)
    prior = Scores(column(), column(), -column())
    rows, none = Rows(ids, ids, mask, column()), mask * 0
    return ActionBatch(rows, (1.0, 1.0), none, torch.tensor(rewards, dtype=torch.float64), ids[:, 0], old_scores=prior)


def prepared(loss: PPO, batches: list[ActionBatch]) -> list[ActionBatch]:
    return loss.prepare(batches, loss.default_experience(), lambda sums: sums)  # type: ignore[return-value]


def test_the_reward_comes_on_the_last_action() -> None:
    found = PPO(kl=KL()).token_rewards(batch([3, 1, 0], [1.0, 0.5, 1.0]))
    assert found.tolist() == [[0, 0, 0, 1, 0, 0], [0, 0.5, 0, 0, 0, 0], [0] * 6]


def test_advantages_and_returns_by_hand() -> None:
    loss = PPO(kl=KL(0.5, "k1", "reward"), gamma=0.9, lam=0.8)
    given = batch([2], [1.0])
    (made,) = prepared(loss, [given])
    prior = given.old_scores
    assert prior is not None
    assert prior.reference is not None
    assert prior.values is not None
    (k1, k2), (v1, v2) = (prior.logprobs - prior.reference)[0, 1:3].tolist(), prior.values[0, 1:3].tolist()
    last = (1.0 - 0.5 * k2) - v2
    first = (-0.5 * k1 + 0.9 * v2 - v1) + 0.9 * 0.8 * last
    mean, unit = (first + last) / 2, (((first - last) ** 2) / 2 + 1e-8) ** 0.5
    assert made.advantages[0, 1:3].tolist() == pytest.approx([(first - mean) / unit, (last - mean) / unit])
    assert made.returns is not None
    assert made.returns[0, 1:3].tolist() == pytest.approx([first + v1, last + v2])


def test_cutting_the_iteration_into_micro_batches_changes_no_advantage() -> None:
    """Whitening is over all of them."""
    whole = batch([3, 1, 5, 2], [1.0, 0.0, 0.0, 1.0])
    pieces = [part(whole, [0, 1]), part(whole, [2]), part(whole, [3])]
    (one,), several = prepared(PPO(), [whole]), prepared(PPO(), pieces)
    assert torch.allclose(torch.cat([b.advantages for b in several]), one.advantages, rtol=1e-12)
    tokens = one.advantages[whole.rows.loss_mask > 0]
    assert float(tokens.mean()) == pytest.approx(0, abs=1e-12)
    assert float(tokens.var()) == pytest.approx(1, rel=1e-6)


def test_sums_over_ranks_enter_the_whitening() -> None:
    whole = batch([3, 1, 5, 2], [1.0, 0.0, 0.0, 1.0])
    ranks = [part(whole, [0, 1]), part(whole, [2, 3])]
    loss = PPO()
    spoken: list[list[float]] = []
    for rank in ranks:
        loss.prepare([rank], loss.default_experience(), lambda sums: spoken.append(sums) or sums)
    # Every rank says count and amount, and, knowing those of all, its squares.
    first = [a + b for a, b in zip(spoken[0], spoken[2], strict=True)]
    squares: list[float] = []
    for rank in ranks:
        hears = iter([first])
        answer = lambda sums, h=hears: next(h, None) or squares.append(*sums) or sums  # noqa: E731
        loss.prepare([rank], loss.default_experience(), answer)
    made: list[ActionBatch] = []
    for rank in ranks:
        hears = iter([first, [sum(squares)]])
        made += loss.prepare([rank], loss.default_experience(), lambda sums, h=hears: next(h))  # type: ignore[arg-type]
    (wanted,) = prepared(loss, [whole])
    assert torch.allclose(torch.cat([b.advantages for b in made]), wanted.advantages, rtol=1e-12)


def test_the_value_head_learns_towards_the_returns() -> None:
    (given,) = prepared(PPO(), [batch([3, 2], [1.0, 0.0])])
    assert given.old_scores is not None
    assert given.old_scores.values is not None
    values = given.old_scores.values.clone().requires_grad_()
    terms = PPO(value_weight=0.5)(Scores(given.old_scores.logprobs, given.old_scores.reference, values), given)
    (slope,) = torch.autograd.grad(terms.sums[1], values)
    assert given.returns is not None
    assert torch.allclose(slope, 0.5 * (values.detach() - given.returns) * given.rows.loss_mask)


def test_without_values_it_says_so() -> None:
    given = batch([2], [1.0])
    with pytest.raises(ConfigError, match="value head"):
        PPO()(Scores(torch.zeros(1, 6)), given)


@pytest.mark.parametrize(
    ("field", "value"),
    [("gamma", 0.0), ("gamma", 1.1), ("lam", -0.1), ("value_clip", 0.0), ("value_weight", 0.0)],
)
def test_bad_settings_name_the_field(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"model\.loss \(PPO\).*{field}"):
        PPO(**{field: value})


def part(whole: ActionBatch, rows: list[int]) -> ActionBatch:
    def of(thing: Tensor) -> Tensor:
        return thing[rows]

    assert whole.old_scores is not None
    columns = {name: of(value) for name, value in vars(whole.rows).items()}
    prior = Scores(
        *(of(value) for value in (whole.old_scores.logprobs, whole.old_scores.reference, whole.old_scores.values))
    )  # type: ignore[arg-type]
    return replace(
        whole,
        rows=Rows(**columns),
        advantages=of(whole.advantages),
        rewards=of(whole.rewards),
        groups=of(whole.groups),
        old_scores=prior,
    )
