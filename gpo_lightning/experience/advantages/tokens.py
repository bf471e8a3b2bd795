"""Advantages token by token: returns, generalised advantage estimation, whitening. Pure functions of tensors."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Sum = Callable[[list[float]], list[float]]
"""Element-wise sum over ranks."""


def returns_to_go(rewards: Tensor, mask: Tensor, gamma: float = 1.0) -> Tensor:
    """``[R, T]`` discounted rewards from each token on; 0 outside the mask.

    Args:
        rewards: ``[R, T]``.
        mask: ``[R, T]`` 1 for actions.
        gamma: discount a token.
    """
    returns, following = torch.zeros_like(rewards), torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        following = torch.where(mask[:, t] > 0, rewards[:, t] + gamma * following, following)
        returns[:, t] = following
    return returns * mask


def generalised_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """GAE (Schulman et al. 2016, arXiv 1506.02438): A_t = delta_t + gamma lam A_{t+1}, over the actions only.

    Tokens outside the mask are passed over, as in verl: the value after an action is that before the next one, and 0
    after the last.

    Args:
        rewards: ``[R, T]``.
        values: ``[R, T]`` V before each token.
        mask: ``[R, T]`` 1 for actions.
        gamma: discount a token.
        lam: 1 trusts returns, 0 the next value.

    Returns:
        ``[R, T]`` advantages and ``[R, T]`` returns (advantage + value), 0 outside the mask.
    """
    advantages = torch.zeros_like(values)
    next_value, following = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        acted = mask[:, t] > 0
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        following = torch.where(acted, delta + gamma * lam * following, following)
        next_value = torch.where(acted, values[:, t], next_value)
        advantages[:, t] = following
    return advantages * mask, (advantages + values) * mask


def whiten(values: Sequence[Tensor], masks: Sequence[Tensor], total: Sum = lambda sums: sums) -> list[Tensor]:
    """Values shifted and scaled to mean 0 and variance 1 over the masked tokens of all batches and ranks.

    As verl and trl: unbiased variance, 1e-8 added to it. Fewer than two tokens stay as they are.

    Args:
        values: ``[R, T]`` of each micro-batch.
        masks: ``[R, T]`` of each micro-batch.
        total: element-wise sum over ranks; every rank calls it.
    """
    pairs = list(zip(values, masks, strict=True))
    count, amount = total([sum(float(m.sum()) for m in masks), sum(float((v * m).sum()) for v, m in pairs)])
    mean = amount / max(count, 1.0)
    (squares,) = total([sum(float(((v - mean) ** 2 * m).sum()) for v, m in pairs)])
    if count < 2:
        return list(values)
    unit = (squares / (count - 1) + 1e-8) ** 0.5
    return [(v - mean) / unit * m for v, m in pairs]
