"""Generation in the trainer's own process, by the trainer's own weights: slow and exact, transformers alone."""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gpo_lightning.engines.decoding import Decoder, choose_decoder
from gpo_lightning.engines.drawing import draw
from gpo_lightning.engines.engine import Capabilities, Completion, Engine, Request
from gpo_lightning.engines.sampling import StopText
from gpo_lightning.errors import EngineError

if TYPE_CHECKING:
    from gpo_lightning.policy import Policy


class Transformers(Engine):
    """Batched sampling with a key-value cache, where the model's can be used; a shared prefix is computed once.

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
        self.decoder: type[Decoder] | None = None
        """How texts grow; known once something was generated."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("transformers", self._served().context, reproducible=True, slots=self.batch_size)

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
        self._policy = policy.own_copy() if self.beside_training else policy.standalone()
        self.version = version

    def poll(self) -> list[Completion]:
        if not self._queue:
            return []
        batch = [self._queue.popleft() for _ in range(min(self.batch_size, len(self._queue)))]
        policy = self._served()
        with policy.still():
            self.decoder = self.decoder or choose_decoder(policy)
            completions = _decode(policy, self.decoder, batch)
        for (_, request), completion in zip(batch, completions, strict=True):
            self.ledger.book(request, completion)
        return completions

    def shutdown(self) -> None:
        self._queue.clear()

    def _served(self) -> "Policy":
        if self._policy is None:
            raise EngineError("The transformers engine was used before it was started.")
        return self._policy


@torch.no_grad()
def _decode(policy: "Policy", decoder: type[Decoder], batch: Sequence[tuple[int, Request]]) -> list[Completion]:
    requests = [request for _, request in batch]
    device = policy.device
    limits = torch.tensor([request.max_tokens for request in requests], device=device)
    uniforms = _uniforms(requests).to(device)  # [B, longest]
    ends = _Ends(policy, requests)
    penalised = any(request.sampling.repetition_penalty != 1 for request in requests)
    texts = decoder(policy, [request.prefix for request in requests])
    index = torch.arange(len(batch), device=device)  # [R] place in the batch of each row that goes on
    tokens = torch.zeros(len(batch), int(limits.max()), dtype=torch.long, device=device)
    logprobs = torch.zeros(tokens.shape, dtype=torch.float64, device=device)
    lengths = torch.zeros(len(batch), dtype=torch.long, device=device)
    ended = torch.zeros(len(batch), dtype=torch.bool, device=device)
    for step in range(tokens.shape[1]):
        rows = index.tolist()
        seen = [(*requests[i].prefix, *tokens[i, :step].tolist()) for i in rows] if penalised else None
        drawn, drawn_logprobs = draw(texts.logits, uniforms[index, step], [requests[i].sampling for i in rows], seen)
        tokens[index, step], logprobs[index, step] = drawn, drawn_logprobs
        lengths[index] = step + 1
        ended[index] = ends.reached(rows, tokens[:, : step + 1])
        going = torch.nonzero(~ended[index] & (limits[index] > step + 1)).squeeze(-1)
        if not len(going):
            break
        if len(going) < len(index):
            index, drawn = index[going], drawn[going]
            texts.keep(going)
        texts.feed(drawn)
    cached = _shared(requests)
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


class _Ends:
    """What ends each request of a batch: the policy's end tokens, and its own tokens and texts."""

    def __init__(self, policy: "Policy", requests: Sequence[Request]) -> None:
        self._eos = torch.tensor(policy.eos_ids, device=policy.device)
        self._own = {i: set(r.sampling.stop_token_ids) for i, r in enumerate(requests) if r.sampling.stop_token_ids}
        self._texts = {
            i: StopText(policy.tokenizer, r.sampling.stop) for i, r in enumerate(requests) if r.sampling.stop
        }

    def reached(self, rows: Sequence[int], tokens: Tensor) -> Tensor:
        """``[R]`` whether the last of ``tokens[B, n]`` ends each of these rows."""
        ended = torch.isin(tokens[rows, -1], self._eos)
        for place, row in enumerate(rows):
            if row in self._own:
                ended[place] |= int(tokens[row, -1]) in self._own[row]
            if row in self._texts:
                ended[place] |= self._texts[row].ends(tokens[row].tolist())
        return ended


def _shared(requests: Sequence[Request]) -> list[int]:
    """Prefix tokens of each request that were computed for another one of the batch."""
    seen: set[tuple[int, ...]] = set()
    shared: list[int] = []
    for request in requests:
        shared.append(len(request.prefix) if request.prefix in seen else 0)
        seen.add(request.prefix)
    return shared


def _uniforms(requests: Sequence[Request]) -> Tensor:
    """``[B, longest]`` uniform numbers in [0, 1), each row from its request's seed."""
    longest = max(request.max_tokens for request in requests)
    rows = torch.zeros(len(requests), longest, dtype=torch.float64)
    for row, request in zip(rows, requests, strict=True):
        generator = torch.Generator().manual_seed(request.seed)
        row[: request.max_tokens] = torch.rand(request.max_tokens, generator=generator, dtype=torch.float64)
    return rows
