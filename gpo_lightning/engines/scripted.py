"""An engine that plays a given next-token distribution, so that true values are known in tests."""

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import log
from typing import TYPE_CHECKING, Any

import torch

from gpo_lightning.engines.drawing import draw
from gpo_lightning.engines.engine import Capabilities, Completion, Engine, Request
from gpo_lightning.engines.sampling import Sampling, StopText
from gpo_lightning.errors import ConfigError

if TYPE_CHECKING:
    from gpo_lightning.policy import Policy

NextToken = Callable[[tuple[int, ...]], Mapping[int, float]]


class Scripted(Engine):
    """Draws from ``next_token(prefix) -> {token: probability}`` until ``eos``, a stop or the limit.

    Args:
        next_token: the policy it plays; given prompt and response so far.
        eos: id that ends a response.
        context: most tokens of prefix and continuation.
        tokenizer: gives the text in which ``sampling.stop`` is looked for; only needed for that.
    """

    def __init__(self, next_token: NextToken, eos: int, context: int = 1 << 20, tokenizer: Any = None) -> None:
        super().__init__()
        self.next_token, self.eos, self.context, self.tokenizer = next_token, eos, context, tokenizer
        self._queue: deque[tuple[int, Request]] = deque()
        self._next_handle = 0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("scripted", context=self.context, reproducible=True)

    def start(self, policy: "Policy", seed: int = 0) -> None:
        """Nothing to start: the script is the policy."""

    def sync(self, policy: "Policy", version: int) -> None:
        self.version = version

    def submit(self, request: Request) -> int:
        self._next_handle += 1
        self._queue.append((self._next_handle, request))
        return self._next_handle

    def cancel(self, handle: int) -> None:
        self._queue = deque(item for item in self._queue if item[0] != handle)

    def poll(self) -> list[Completion]:
        if not self._queue:
            return []
        handle, request = self._queue.popleft()
        ends, luck = self._stop_text(request.sampling), random.Random(request.seed)
        tokens: list[int] = []
        logprobs: list[float] = []
        ended = False
        while len(tokens) < request.max_tokens and not ended:
            token, logprob = self._draw(request, tokens, luck)
            tokens.append(token)
            logprobs.append(logprob)
            ended = token == self.eos or token in request.sampling.stop_token_ids or ends.ends(tokens)
        completion = Completion(handle, tuple(tokens), tuple(logprobs), truncated=not ended)
        self.ledger.book(request, completion)
        return [completion]

    def _draw(self, request: Request, tokens: Sequence[int], luck: random.Random) -> tuple[int, float]:
        """A token, and its log-probability under what the script's distribution becomes by the sampling."""
        context, sampling = (*request.prefix, *tokens), request.sampling
        script = self.next_token(context)
        names, weights = list(script), list(script.values())
        if sampling.temperature == 1 and not sampling.of(request.purpose).reshaped:
            token = luck.choices(names, weights=weights)[0]
            return token, log(script[token])
        seen = [names.index(token) for token in context if token in script]
        logits = torch.tensor([weights], dtype=torch.float64).log()
        uniform = torch.tensor([luck.random()], dtype=torch.float64)
        sampling = sampling if seen else replace(sampling, repetition_penalty=1.0)
        ids, logprobs = draw(logits, uniform, [sampling], [seen])
        return names[int(ids)], float(logprobs)

    def _stop_text(self, sampling: Sampling) -> StopText:
        if sampling.stop and self.tokenizer is None:
            raise ConfigError("Scripted: sampling.stop needs texts. Give the engine a tokenizer, or stop_token_ids.")
        return StopText(self.tokenizer, sampling.stop)
