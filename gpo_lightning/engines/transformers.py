"""Generation in the trainer's own process, by the trainer's own weights: slow and exact, transformers alone."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache

from gpo_lightning.engines.engine import Capabilities, Completion, Engine, Request
from gpo_lightning.errors import EngineError

if TYPE_CHECKING:
    from gpo_lightning.policy import Policy


class Transformers(Engine):
    """Batched sampling with a key-value cache; a prefix shared by several requests is computed once.

    Each request draws by inverting the cumulative distribution at its own uniform numbers, made from its seed, so
    its tokens do not depend on what else is in the batch.

    Args:
        batch_size: continuations decoded together.
    """

    def __init__(self, batch_size: int = 128) -> None:
        super().__init__()
        self.batch_size = batch_size
        self._policy: Policy | None = None
        self._queue: deque[tuple[int, Request]] = deque()
        self._next_handle = 0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("transformers", context=self._served().context, reproducible=True)

    def start(self, policy: "Policy", seed: int = 0) -> None:
        self._policy = policy

    def submit(self, request: Request) -> int:
        handle = self._next_handle
        self._next_handle += 1
        self._queue.append((handle, request))
        return handle

    def cancel(self, handle: int) -> None:
        self._queue = deque(item for item in self._queue if item[0] != handle)

    def sync(self, policy: "Policy", version: int) -> None:
        self._policy = policy.standalone()
        self.version = version

    def poll(self) -> list[Completion]:
        if not self._queue:
            return []
        batch = [self._queue.popleft() for _ in range(min(self.batch_size, len(self._queue)))]
        policy = self._served()
        training = policy.training
        policy.eval()
        try:
            completions = _decode(policy, batch)
        finally:
            policy.train(training)
        for (_, request), completion in zip(batch, completions, strict=True):
            self.ledger.book(request, completion)
        return completions

    def _served(self) -> "Policy":
        if self._policy is None:
            raise EngineError("The transformers engine was used before it was started.")
        return self._policy


@dataclass
class _Rows:
    """Decoding state of the unfinished continuations, row by row."""

    index: Tensor  # [R] position in the batch
    mask: Tensor  # [R, T] attention mask of cache and next token
    logits: Tensor  # [R, V]
    positions: Tensor  # [R] position id of the next token

    def keep(self, rows: Tensor, cache: DynamicCache) -> None:
        self.index, self.mask, self.positions = self.index[rows], self.mask[rows], self.positions[rows]
        cache.batch_select_indices(rows)


@torch.no_grad()
def _decode(policy: "Policy", batch: Sequence[tuple[int, Request]]) -> list[Completion]:
    requests = [request for _, request in batch]
    device = policy.device
    limits = torch.tensor([request.max_tokens for request in requests], device=device)
    uniforms = _uniforms(requests).to(device)  # [B, longest]
    eos = torch.tensor(policy.eos_ids, device=device)
    cache = DynamicCache(config=policy.causal_lm.config)
    rows, cached = _prefill(policy, requests, cache)
    tokens = torch.zeros(len(batch), int(limits.max()), dtype=torch.long, device=device)
    logprobs = torch.zeros(tokens.shape, dtype=torch.float64, device=device)
    lengths = torch.zeros(len(batch), dtype=torch.long, device=device)
    ended = torch.zeros(len(batch), dtype=torch.bool, device=device)
    for step in range(tokens.shape[1]):
        drawn, drawn_logprobs = _draw(
            rows.logits, uniforms[rows.index, step], [requests[i] for i in rows.index.tolist()]
        )
        tokens[rows.index, step], logprobs[rows.index, step] = drawn, drawn_logprobs
        lengths[rows.index] = step + 1
        ended[rows.index] = torch.isin(drawn, eos)
        going = torch.nonzero(~ended[rows.index] & (limits[rows.index] > step + 1)).squeeze(-1)
        if not len(going):
            break
        drawn = drawn[going]
        if len(going) < len(rows.index):
            rows.keep(going, cache)
        rows.mask = torch.cat([rows.mask, rows.mask.new_ones(len(going), 1)], dim=1)
        rows.logits = policy.causal_lm(
            input_ids=drawn[:, None],
            attention_mask=rows.mask,
            position_ids=rows.positions[:, None],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        rows.positions = rows.positions + 1
    return [
        Completion(
            handle=handle,
            tokens=tuple(tokens[i, :length].tolist()),
            logprobs=tuple(logprobs[i, :length].tolist()),
            truncated=not bool(ended[i]),
            cached=cached[i],
        )
        for i, ((handle, _), length) in enumerate(zip(batch, lengths.tolist(), strict=True))
    ]


def _prefill(policy: "Policy", requests: Sequence[Request], cache: DynamicCache) -> tuple[_Rows, list[int]]:
    """Compute each distinct prefix once, left-padded, then give every request its row of the cache."""
    distinct = list(dict.fromkeys(request.prefix for request in requests))
    width = max(len(prefix) for prefix in distinct)
    ids = torch.full((len(distinct), width), policy.pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prefix in enumerate(distinct):
        ids[row, width - len(prefix) :] = torch.tensor(prefix)
        mask[row, width - len(prefix) :] = 1
    ids, mask = ids.to(policy.device), mask.to(policy.device)
    logits = policy.causal_lm(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    place = {prefix: row for row, prefix in enumerate(distinct)}
    owners = [place[request.prefix] for request in requests]
    row_of = torch.tensor(owners, device=policy.device)
    cache.batch_select_indices(row_of)
    seen: set[int] = set()
    cached = [
        len(r.prefix) if owner in seen else seen.add(owner) or 0 for r, owner in zip(requests, owners, strict=True)
    ]
    rows = _Rows(
        index=torch.arange(len(requests), device=policy.device),
        mask=mask[row_of],
        logits=logits[row_of],
        positions=mask.sum(-1)[row_of],
    )
    return rows, cached


def _uniforms(requests: Sequence[Request]) -> Tensor:
    """``[B, longest]`` uniform numbers in [0, 1), each row from its request's seed."""
    longest = max(request.max_tokens for request in requests)
    rows = torch.zeros(len(requests), longest, dtype=torch.float64)
    for row, request in zip(rows, requests, strict=True):
        generator = torch.Generator().manual_seed(request.seed)
        row[: request.max_tokens] = torch.rand(request.max_tokens, generator=generator, dtype=torch.float64)
    return rows


def _draw(logits: Tensor, uniforms: Tensor, requests: Sequence[Request]) -> tuple[Tensor, Tensor]:
    """One token a row: ``(ids [R], log-probabilities [R])`` after temperature and nucleus cut."""
    temperature = torch.tensor([r.sampling.temperature for r in requests], dtype=torch.float64, device=logits.device)
    greedy = temperature == 0
    scores = logits.double() / torch.where(greedy, 1.0, temperature)[:, None]
    top_p = torch.tensor([r.sampling.top_p for r in requests], dtype=torch.float64, device=logits.device)
    if bool((top_p < 1).any()):
        scores = _nucleus(scores, top_p)
    logprobs = scores.log_softmax(-1)  # [R, V]
    cumulative = logprobs.exp().cumsum(-1)
    sampled = torch.searchsorted(cumulative, (uniforms * cumulative[:, -1])[:, None], right=True).squeeze(-1)
    ids = torch.where(greedy, logits.argmax(-1), sampled.clamp(max=logits.shape[-1] - 1))
    return ids, logprobs.gather(-1, ids[:, None]).squeeze(-1)


def _nucleus(scores: Tensor, top_p: Tensor) -> Tensor:
    """Keep, a row, the fewest likeliest tokens whose mass reaches ``top_p``; the rest get -inf."""
    ordered, order = scores.softmax(-1).sort(descending=True, dim=-1)
    outside = (ordered.cumsum(-1) - ordered) >= top_p[:, None]
    return scores.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), float("-inf"))
