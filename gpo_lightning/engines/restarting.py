"""An engine that is started again when it dies or hangs, with whatever was unfinished asked for again."""

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from gpo_lightning.engines.engine import Capabilities, Completion, Engine, Request
from gpo_lightning.errors import ConfigError, EngineDied, EngineError

if TYPE_CHECKING:
    from gpo_lightning.policy import Policy, PolicyConfig

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Recovery:
    """What is done about an engine whose process dies or hangs.

    Args:
        restarts: most restarts with nothing finished in between; then the run stops.
        patience: seconds without a sign of life after which the engine counts as hung and is killed.
    """

    restarts: int = 3
    patience: float = 900.0

    def __post_init__(self) -> None:
        if self.restarts < 0 or self.patience <= 0:
            raise ConfigError("data.recovery.restarts must be at least 0, and data.recovery.patience above 0.")


class RestartingEngine(Engine):
    """Stands in front of an engine and keeps it running.

    Args:
        engine: who generates.
        recovery: how often, and how patiently.
    """

    def __init__(self, engine: Engine, recovery: Recovery = Recovery()) -> None:
        super().__init__()
        self.engine, self.recovery = engine, recovery
        self.ledger, self.version = engine.ledger, engine.version
        self.restarts = 0
        self.revives = True
        """Whether an engine that dies is started again; not while the policy's weights move on."""
        self._in_a_row = 0
        self._policy: Policy | None = None
        self._seed = 0
        self._next_handle = 0
        self._unfinished: dict[int, Request] = {}
        self._mine: dict[int, int] = {}
        self._waiting_since: float | None = None
        self._ended = threading.Event()
        self._watch: threading.Thread | None = None

    @property
    def capabilities(self) -> Capabilities:
        return self.engine.capabilities

    @property
    def faults(self) -> dict[str, int]:
        inside = {f"server_{name}": count for name, count in self.engine.faults.items()}
        return {"engine_restarts": self.restarts, **inside}

    def check_policy(self, config: "PolicyConfig") -> None:
        self.engine.check_policy(config)

    def start(self, policy: "Policy", seed: int = 0) -> None:
        self.engine.longest = self.longest
        self._policy, self._seed = policy, seed
        self.engine.start(policy, seed)
        if self._watch is None:
            self._ended.clear()
            self._watch = threading.Thread(target=self._look, name="gpo-engine-watch", daemon=True)
            self._watch.start()

    def submit(self, request: Request) -> int:
        handle, self._next_handle = self._next_handle, self._next_handle + 1
        self._unfinished[handle] = request
        try:
            self._mine[self.engine.submit(request)] = handle
        except EngineDied as error:
            self._revive(error)
        return handle

    def poll(self) -> list[Completion]:
        while True:
            try:
                with self._waiting():
                    made = self.engine.poll()
                break
            except EngineDied as error:
                self._revive(error)
        completions: list[Completion] = []
        for completion in made:
            handle = self._mine.pop(completion.handle)
            del self._unfinished[handle]
            completions.append(
                Completion(handle, completion.tokens, completion.logprobs, completion.truncated, completion.cached)
            )
        if made:
            self._in_a_row = 0
        return completions

    def cancel(self, handle: int) -> None:
        del self._unfinished[handle]
        (inner,) = [inner for inner, mine in self._mine.items() if mine == handle]
        del self._mine[inner]
        self.engine.cancel(inner)

    def sync(self, policy: "Policy", version: int) -> None:
        self._policy, self.version = policy, version
        try:
            with self._waiting():
                self.engine.sync(policy, version)
        except EngineDied as error:
            self._revive(error)

    def _revive(self, error: Exception) -> None:
        """Start the engine again, give it the weights, and ask again for what is unfinished."""
        policy = self._policy
        if policy is None or not self.revives:
            raise error
        while True:
            self._in_a_row += 1
            if self._in_a_row > self.recovery.restarts:
                raise EngineError(
                    f"The engine failed {self._in_a_row} times with nothing finished in between, the last time "
                    f"because: {error} What was finished before is journaled; mend the cause and go on "
                    "with --ckpt_path last."
                ) from error
            self.restarts += 1
            _LOG.warning("Engine restart %d, %d requests asked again: %s", self.restarts, len(self._unfinished), error)
            try:
                self.engine.shutdown()
                # Where seeds are not a request's own, the same ones would be drawn with again.
                self.engine.start(policy, self._seed + 7919 * self.restarts)
                with self._waiting():
                    self.engine.sync(policy, self.version)
                self._mine = {self.engine.submit(request): mine for mine, request in self._unfinished.items()}
                return
            except (EngineDied, RuntimeError, OSError) as again:
                error = again

    @contextmanager
    def _waiting(self) -> Generator[None]:
        self._waiting_since = monotonic()
        try:
            yield
        finally:
            self._waiting_since = None

    def _look(self) -> None:
        """In a thread of its own: end the wait for an engine from which nothing will come."""
        while not self._ended.wait(min(_LOOK_SECONDS, self.recovery.patience / 4)):
            since = self._waiting_since
            if since is None:
                continue
            silent = monotonic() - max(since, self.engine.sign_of_life)
            if not self.engine.alive() or silent > self.recovery.patience:
                self.engine.kill()

    def offload(self) -> None:
        self.engine.offload()

    def onload(self) -> None:
        try:
            self.engine.onload()
        except EngineDied as error:
            self._revive(error)

    def shutdown(self) -> None:
        self._ended.set()
        if self._watch is not None:
            self._watch.join()
            self._watch = None
        self._unfinished.clear()
        self._mine.clear()
        self.engine.shutdown()
