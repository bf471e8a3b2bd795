"""An engine that keeps what it has made: after a kill, the same requests get the same answers without being made again.

It stands in front of any engine. What the engine finishes is written to a journal before anybody sees it. In a run that
was killed and goes on, requests that the journal answers never reach the engine.
"""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import astuple, replace
from hashlib import blake2b
from typing import TYPE_CHECKING

import torch

from gpo_lightning.engines.engine import Capabilities, Completion, Engine, Request
from gpo_lightning.engines.journal import CompletionJournal, JournalEntry

if TYPE_CHECKING:
    from gpo_lightning.policy import Policy, PolicyConfig


class JournaledEngine(Engine):
    """Answers from a journal where it can, and from an engine where it must.

    Answers come back in the groups in which they came back the first time, so that whoever asked does what it did
    then: asks for the same in the same order. An answer is kept under a digest of the request and of the weights; so
    what other weights answered is never taken, whatever number their version has.

    The engine's ledger is this one's too. An answer from the journal is booked as if it were made now: the ledger of a
    run that was killed counts every continuation once, like that of a run that was not.

    Args:
        engine: who generates.
        journal: where finished continuations lie.
        check: called between polls, when nothing that is finished could be lost; may raise to stop the run.
    """

    def __init__(self, engine: Engine, journal: CompletionJournal, check: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.engine, self.journal, self.check = engine, journal, check
        self.ledger, self.version = engine.ledger, engine.version
        self.reused = 0
        self._weights = ""
        self._next_handle = 0
        self._asked: dict[int, tuple[int, str]] = {}
        self._kept: defaultdict[str, deque[tuple[int, int, JournalEntry]]] = defaultdict(deque)
        self._ready: defaultdict[int, list[tuple[int, int, Request, JournalEntry]]] = defaultdict(list)

    @property
    def capabilities(self) -> Capabilities:
        return self.engine.capabilities

    def check_policy(self, config: "PolicyConfig") -> None:
        self.engine.check_policy(config)

    def start(self, policy: "Policy", seed: int = 0) -> None:
        self.engine.longest = self.longest
        self.engine.start(policy, seed)

    def submit(self, request: Request) -> int:
        handle, self._next_handle = self._next_handle, self._next_handle + 1
        key = _key(request, self._weights)
        if kept := self._kept.get(key):
            group, place, finished = kept.popleft()
            self._ready[group].append((place, handle, request, finished))
        else:
            self._asked[self.engine.submit(request)] = (handle, key)
        return handle

    def poll(self) -> list[Completion]:
        self.check()
        if self._ready:
            return self._replay()
        made = self.engine.poll()
        asked = [self._asked.pop(completion.handle) for completion in made]
        if made:
            self.journal.append([_finished(key, completion) for (_, key), completion in zip(asked, made, strict=True)])
        return [
            _completion(handle, _finished(key, completion))
            for (handle, key), completion in zip(asked, made, strict=True)
        ]

    def _replay(self) -> list[Completion]:
        completions: list[Completion] = []
        for _, handle, request, finished in sorted(self._ready.pop(min(self._ready)), key=lambda item: item[0]):
            completions.append(_completion(handle, finished))
            self.ledger.book(request, completions[-1])
        self.reused += len(completions)
        return completions

    def cancel(self, handle: int) -> None:
        for inner, (mine, _) in list(self._asked.items()):
            if mine == handle:
                self.engine.cancel(inner)
                del self._asked[inner]
        for group, waiting in list(self._ready.items()):
            self._ready[group] = [item for item in waiting if item[1] != handle]
            if not self._ready[group]:
                del self._ready[group]

    def sync(self, policy: "Policy", version: int) -> None:
        self.engine.sync(policy, version)
        self.version = version
        self._weights = _weights_digest(policy)
        lines = self.journal.turn_to(version)
        if lines is None:
            return
        self._kept.clear()
        for group, line in enumerate(lines):
            for place, finished in enumerate(line):
                self._kept[finished.key].append((group, place, finished))

    def offload(self) -> None:
        self.engine.offload()

    def onload(self) -> None:
        self.engine.onload()

    def shutdown(self) -> None:
        self.journal.close()
        self._asked.clear()
        self._ready.clear()
        self._kept.clear()
        self.engine.shutdown()


def _completion(handle: int, finished: JournalEntry) -> Completion:
    return Completion(handle, finished.tokens, finished.logprobs, finished.truncated, finished.cached)


def _finished(key: str, made: Completion) -> JournalEntry:
    return JournalEntry(key, made.tokens, made.logprobs, made.truncated, made.cached)


def _key(request: Request, weights: str) -> str:
    # By all that is read of the sampling.
    sampling = replace(request.sampling, max_tokens=0, probe_temperature=None, reset_temperature=None)
    what = (weights, str(request.purpose), request.seed, request.max_tokens, astuple(sampling))
    return blake2b(repr((what, request.prefix)).encode(), digest_size=12).hexdigest()


@torch.no_grad()
def _weights_digest(policy: "Policy") -> str:
    """Of everything training changes, and of the name of what it does not."""
    digest = blake2b(
        repr((policy.config.base, policy.config.revision, policy.config.adapter, policy.config.dtype)).encode()
    )
    for name, value in policy.trainable_state().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
