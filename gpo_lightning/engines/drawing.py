"""One token drawn from logits, by a uniform number; ``transformers``' own processors reshape the distribution."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from gpo_lightning.engines.sampling import Sampling

Context = Sequence[int]


def draw(
    logits: Tensor, uniforms: Tensor, samplings: Sequence[Sampling], contexts: Sequence[Context] | None = None
) -> tuple[Tensor, Tensor]:
    """One token a row, and its log-probability under the distribution it was drawn from.

    >>> logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    >>> ids, logprobs = draw(logits, torch.tensor([0.9]).double(), [Sampling(top_k=2)])
    >>> ids.tolist(), round(logprobs.exp().item(), 3)
    ([1], 0.375)

    Args:
        logits: ``[R, V]``.
        uniforms: ``[R]`` in [0, 1); equal numbers draw equal tokens, whatever the other rows are.
        samplings: one a row.
        contexts: prompt and response so far of each row, where some sampling has a repetition penalty.

    Returns:
        ``([R] ids, [R] float64)``.
    """
    scores = logits.double()
    kinds = list(dict.fromkeys(samplings))
    for kind in kinds:
        rows = [row for row, sampling in enumerate(samplings) if sampling == kind]
        processors = _processors(kind)
        if not processors:
            continue
        seen = None
        if contexts is not None and kind.repetition_penalty != 1:
            seen = _padded([contexts[row] for row in rows], scores.device)
        whole = len(kinds) == 1
        changed = processors(seen, scores if whole else scores[rows])  # pyright: ignore[reportArgumentType]
        if whole:
            scores = changed
        else:
            scores[rows] = changed
    logprobs = scores.log_softmax(-1)
    cumulative = logprobs.exp().cumsum(-1)
    drawn = torch.searchsorted(cumulative, (uniforms * cumulative[:, -1])[:, None], right=True).squeeze(-1)
    greedy = torch.tensor([sampling.temperature == 0 for sampling in samplings], device=logits.device)
    ids = torch.where(greedy, scores.argmax(-1), drawn.clamp(max=logits.shape[-1] - 1))
    return ids, logprobs.gather(-1, ids[:, None]).squeeze(-1)


def _processors(sampling: Sampling) -> LogitsProcessorList:
    found = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        found.append(RepetitionPenaltyLogitsProcessor(float(sampling.repetition_penalty)))
    if sampling.temperature == 0:
        return found
    if sampling.temperature != 1:
        found.append(TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.min_p > 0:
        found.append(MinPLogitsWarper(sampling.min_p))
    if sampling.top_k > 0:
        found.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        found.append(TopPLogitsWarper(sampling.top_p))
    return found


def _padded(contexts: Sequence[Context], device: torch.device) -> Tensor:
    """``[R, L]`` ids; rows are filled up with a token of their own, which the penalty knows already."""
    longest = max(len(context) for context in contexts)
    rows = [[*context, *[context[0]] * (longest - len(context))] for context in contexts]
    return torch.tensor(rows, device=device)
