"""The role of an engine: it turns token prefixes into continuations, and knows nothing of text, rewards or trees.

Token ids in, token ids out: a prefix is never decoded and encoded again.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpo_lightning.engines.sampling import Purpose, Sampling

if TYPE_CHECKING:
    from gpo_lightning.policy import Policy, PolicyConfig


@dataclass(frozen=True, slots=True)
class Request:
    """One continuation that is asked for.

    Args:
        prefix: prompt and response tokens so far.
        max_tokens: most tokens to generate.
        sampling: how to draw them (its own ``max_tokens`` is the caller's budget, and its temperatures of phases the
            caller's too; neither is read here).
        purpose: account on which the tokens are booked.
        seed: draws the same tokens again on engines that are ``reproducible``.
    """

    prefix: tuple[int, ...]
    max_tokens: int
    sampling: Sampling
    purpose: Purpose
    seed: int


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished continuation.

    Args:
        handle: what :meth:`Engine.submit` returned.
        tokens: generated ids; what ended them, an end-of-sequence id or a stop text, is included.
        logprobs: log-probability of each under the distribution it was drawn from (:mod:`.sampling`).
        truncated: ended by the token limit, and by nothing else.
        cached: prefix tokens whose computation a cache saved.
    """

    handle: int
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    truncated: bool
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do.

    Args:
        name: shown to the user.
        context: most tokens of prefix and continuation together.
        reproducible: equal seeds give equal tokens, whatever else is in the batch.
        slots: continuations it works on at once; more wait for their turn.
    """

    name: str
    context: int
    reproducible: bool
    slots: int = 128


@dataclass(slots=True)
class Tokens:
    """Token counts of one purpose: ``generated``, ``prefilled`` (computed) and ``cached`` (prefill saved)."""

    requests: int = 0
    generated: int = 0
    prefilled: int = 0
    cached: int = 0

    def __iadd__(self, other: "Tokens") -> "Tokens":
        self.requests += other.requests
        self.generated += other.generated
        self.prefilled += other.prefilled
        self.cached += other.cached
        return self


class Ledger:
    """Tokens by purpose, since the engine started."""

    def __init__(self) -> None:
        self.accounts = {purpose: Tokens() for purpose in Purpose}
        self._aside: Ledger | None = None

    def book(self, request: Request, completion: Completion) -> None:
        accounts = self.accounts if self._aside is None else self._aside.accounts
        accounts[request.purpose] += Tokens(
            requests=1,
            generated=len(completion.tokens),
            prefilled=len(request.prefix) - completion.cached,
            cached=completion.cached,
        )

    @contextmanager
    def as_evaluation(self) -> Generator[None]:
        """Whatever is booked meanwhile counts as evaluation: training does not learn from it.

        >>> ledger, request = Ledger(), Request((5,), 2, Sampling(), seed=0, purpose=Purpose.PROBE)
        >>> with ledger.as_evaluation():
        ...     ledger.book(request, Completion(0, (7, 8), (0.0, 0.0), truncated=False))
        >>> ledger.accounts[Purpose.PROBE].generated, ledger.accounts[Purpose.EVALUATION].generated
        (0, 2)
        """
        before, self.accounts = self.accounts, {purpose: Tokens() for purpose in Purpose}
        try:
            yield
        finally:
            for spent in self.accounts.values():
                before[Purpose.EVALUATION] += spent
            self.accounts = before

    def put_aside(self) -> None:
        """Book apart from now on, until :meth:`take_aside`: it is for an iteration that has not begun."""
        self._aside = Ledger()

    def take_aside(self) -> "Ledger":
        """What was booked apart."""
        aside, self._aside = self._aside or Ledger(), None
        return aside

    def add(self, other: "Ledger") -> None:
        for purpose, tokens in other.accounts.items():
            self.accounts[purpose] += tokens

    def state_dict(self) -> dict[str, dict[str, int]]:
        return {
            str(purpose): {
                "requests": tokens.requests,
                "generated": tokens.generated,
                "prefilled": tokens.prefilled,
                "cached": tokens.cached,
            }
            for purpose, tokens in self.accounts.items()
        }

    def load_state_dict(self, state: dict[str, dict[str, int]]) -> None:
        self.accounts = {Purpose(purpose): Tokens(**counts) for purpose, counts in state.items()}


class Engine(ABC):
    """Generates tokens. An instance is only a description until :meth:`start` gives it a policy to serve."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.version = -1
        self.sign_of_life = 0.0
        """``time.monotonic()`` of when a process of its own was last heard of, where it has one."""
        self.longest: int | None = None
        """Most tokens of prefix and continuation that will be asked for, where somebody knows before the start."""
        self.beside_training = False
        """Whether it generates while the policy learns: with weights of its own, and without giving memory back."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the started engine can do."""

    def check_policy(self, config: "PolicyConfig") -> None:
        """Refuse a policy that cannot be served, before any weights are loaded.

        Raises:
            ConfigError: it is one.
        """

    def expect(self, longest: int) -> None:
        """Be ready for texts of ``longest`` tokens. One that was started for shorter ones ends, to start again."""
        if self.longest is not None and longest > self.longest:
            self.shutdown()
        self.longest = max(longest, self.longest or 0)

    @abstractmethod
    def start(self, policy: "Policy", seed: int = 0) -> None:
        """Make ready to serve ``policy``. Idempotent."""

    @abstractmethod
    def submit(self, request: Request) -> int:
        """Queue one continuation; returns its handle."""

    @abstractmethod
    def poll(self) -> list[Completion]:
        """Wait until something finishes and return all that has; an empty list means nothing is in flight."""

    @abstractmethod
    def cancel(self, handle: int) -> None:
        """Give up on an unfinished request; its tokens are lost, its handle never polled."""

    @abstractmethod
    def sync(self, policy: "Policy", version: int) -> None:
        """Serve the policy's present weights: the next token comes from them, and no older prefix cache survives."""

    def offload(self) -> None:
        """Free accelerator memory while the trainer needs it; a no-op where the engine holds none."""

    def onload(self) -> None:
        """Undo :meth:`offload`."""

    @property
    def faults(self) -> dict[str, int]:
        """What went wrong inside and was mended there, by name."""
        return {}

    def alive(self) -> bool:
        """Whether its processes run; called from another thread."""
        return True

    def kill(self) -> None:
        """End its processes at once, from another thread; whoever waits for the engine gets ``EngineDied``."""

    def shutdown(self) -> None:
        """End the engine and whatever processes it owns. Idempotent."""

    def generate(
        self, requests: Iterable[Request], progress: Callable[[Completion], None] | None = None
    ) -> list[Completion]:
        """Continuations in the order of ``requests``.

        Args:
            requests: what to generate.
            progress: called with each completion as it finishes.
        """
        order = [self.submit(request) for request in requests]
        finished: dict[int, Completion] = {}
        while len(finished) < len(order):
            for completion in self.poll():
                finished[completion.handle] = completion
                if progress is not None:
                    progress(completion)
        return [finished[handle] for handle in order]


def remaining_tokens(sampling: Sampling, prompt: Sequence[int], response: Sequence[int], context: int) -> int:
    """Tokens that may still be generated after ``prompt + response``; at most 0 means there is no room."""
    return min(sampling.max_tokens - len(response), context - len(prompt) - len(response))
