"""An engine that plays a given next-token distribution, so that true values are known in tests."""

import random
from collections import deque
from collections.abc import Callable, Mapping
from math import log
from typing import TYPE_CHECKING

from gpo_lightning.engines.engine import Capabilities, Completion, Engine, Request

if TYPE_CHECKING:
    from gpo_lightning.policy import Policy

NextToken = Callable[[tuple[int, ...]], Mapping[int, float]]


class Scripted(Engine):
    """Draws from ``next_token(prefix) -> {token: probability}`` until ``eos`` or the limit.

    Args:
        next_token: the policy it plays; given prompt and response so far.
        eos: id that ends a response.
        context: most tokens of prefix and continuation.
    """

    def __init__(self, next_token: NextToken, eos: int, context: int = 1 << 20) -> None:
        super().__init__()
        self.next_token, self.eos, self.context = next_token, eos, context
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
        draw = random.Random(request.seed)
        tokens: list[int] = []
        logprobs: list[float] = []
        while len(tokens) < request.max_tokens and self.eos not in tokens[-1:]:
            distribution = self.next_token(request.prefix + tuple(tokens))
            token = draw.choices(list(distribution), weights=list(distribution.values()))[0]
            tokens.append(token)
            logprobs.append(log(distribution[token]))
        completion = Completion(handle, tuple(tokens), tuple(logprobs), truncated=tokens[-1] != self.eos)
        self.ledger.book(request, completion)
        return [completion]
