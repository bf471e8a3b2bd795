"""Log-probabilities of given tokens from hidden states, in chunks: logits of [N, V] never stand whole in memory."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Logits = Callable[[Tensor], Tensor]


def token_logprobs(hidden: Tensor, targets: Tensor, head: Logits, chunk: int = 1024) -> Tensor:
    """Log-probability of each target token.

    Each chunk's logits are recomputed in the backward pass, so memory peaks at ``[chunk, V]`` in both passes.
    Softmax accumulates in float32 at least, since bf16 rounding would bias training.

    Args:
        hidden: ``[N, H]`` last hidden states at the positions that predict the targets.
        targets: ``[N]`` token ids.
        head: ``[n, H] -> [n, V]`` logits, temperature and soft-capping included.
        chunk: rows computed at once.

    Returns:
        ``[N]`` log-probabilities.
    """
    pieces = [
        checkpoint(_chunk_logprobs, rows, ids, head, use_reentrant=False)
        if torch.is_grad_enabled()
        else _chunk_logprobs(rows, ids, head)
        for rows, ids in zip(hidden.split(chunk), targets.split(chunk), strict=True)
    ]
    return torch.cat(pieces)  # pyright: ignore[reportArgumentType]


def picked_logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """``[N]`` log-probabilities of target tokens from ``[N, V]`` logits."""
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    return logits.gather(-1, targets[:, None]).squeeze(-1) - logits.logsumexp(-1)


def _chunk_logprobs(hidden: Tensor, targets: Tensor, head: Logits) -> Tensor:
    return picked_logprobs(head(hidden), targets)
