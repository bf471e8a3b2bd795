"""Log-probabilities of given tokens from hidden states, in chunks: logits of [N, V] never stand whole in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

Logits = Callable[[Tensor], Tensor]
_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Scored:
    """Tokens of rows ``[R, T]`` that were scored, those that rows share once.

    Args:
        logprobs: ``[N]``.
        states: ``[N, H]`` hidden states that predict them.
        wanted: ``[R, T]`` bool, which tokens of the rows were asked for.
        order: ``[M]`` which of the ``N`` each of them is.
    """

    logprobs: Tensor
    states: Tensor
    wanted: Tensor
    order: Tensor

    def spread(self, values: Tensor) -> Tensor:
        """``[R, T]`` from ``[N]``; 0 where nothing was asked for."""
        result = torch.zeros(self.wanted.shape, dtype=values.dtype, device=values.device)
        result[self.wanted] = values[self.order]
        return result


def token_logprobs(hidden: Tensor, targets: Tensor, head: Logits, chunk: int = 1024, frozen: bool = False) -> Tensor:
    """Log-probability of each target token.

    Memory peaks at ``[chunk, V]`` in both passes. Where the head is frozen, its gradient is taken in the forward pass,
    while a chunk's logits are at hand; where it learns, each chunk's logits are computed again in the backward pass.
    Softmax accumulates in float32 at least, since bf16 rounding would bias training.

    Args:
        hidden: ``[N, H]`` last hidden states at the positions that predict the targets.
        targets: ``[N]`` token ids.
        head: ``[n, H] -> [n, V]`` logits, temperature and soft-capping included; each row by its own hidden state.
        chunk: rows computed at once.
        frozen: nothing inside the head wants a gradient.

    Returns:
        ``[N]`` log-probabilities.
    """
    if torch.is_grad_enabled() and frozen:
        return _FrozenHead.apply(hidden, targets, head, chunk)  # pyright: ignore[reportReturnType]
    pieces = [
        checkpoint(_chunk_logprobs, rows, ids, head, use_reentrant=False)
        if torch.is_grad_enabled()
        else _chunk_logprobs(rows, ids, head)
        for rows, ids in zip(hidden.split(chunk), targets.split(chunk), strict=True)
    ]
    return torch.cat(pieces)  # pyright: ignore[reportArgumentType]


def picked_logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """``[N]`` log-probabilities of target tokens from ``[N, V]`` logits."""
    return _log_softmax(logits).gather(-1, targets[:, None]).squeeze(-1)


def _log_softmax(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits, -1, dtype=torch.float32 if logits.dtype in _HALF else logits.dtype)


def _chunk_logprobs(hidden: Tensor, targets: Tensor, head: Logits) -> Tensor:
    return picked_logprobs(head(hidden), targets)


class _FrozenHead(torch.autograd.Function):
    """Multiplies by a frozen head twice, once for logits and once for their gradient; a checkpoint needs three.

    A row's log-probability depends on its own hidden state alone, so the gradient that comes in later only scales
    the row's derivative ``[H]``, which is kept.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, targets: Tensor, head: Logits, chunk: int) -> Tensor:
        pieces = zip(hidden.split(chunk), targets.split(chunk), strict=True)
        if not ctx.needs_input_grad[0]:
            return torch.cat([_chunk_logprobs(rows, ids, head) for rows, ids in pieces])
        found = [_logprobs_and_slopes(rows, ids, head) for rows, ids in pieces]
        ctx.save_for_backward(torch.cat([slopes for _, slopes in found]))
        return torch.cat([logprobs for logprobs, _ in found])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slopes,) = ctx.saved_tensors
        return (grads[0][:, None] * slopes).to(slopes.dtype), None, None, None


def _logprobs_and_slopes(hidden: Tensor, targets: Tensor, head: Logits) -> tuple[Tensor, Tensor]:
    """``[n]`` log-probabilities, and ``[n, H]`` the derivative of each by its hidden state."""
    with torch.enable_grad():
        leaf = hidden.detach().requires_grad_()
        logits = head(leaf)
    logprobs, column = _log_softmax(logits.detach()), targets[:, None]
    picked = logprobs.gather(-1, column).squeeze(-1)
    slopes = logprobs.exp_().neg_()  # by the logits: one at the target, less each token's probability
    slopes.scatter_add_(-1, column, torch.ones_like(column, dtype=slopes.dtype))
    return picked, torch.autograd.grad(logits, leaf, slopes.to(logits.dtype))[0]
