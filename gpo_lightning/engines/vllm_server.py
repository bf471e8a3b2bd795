"""Generation by vLLM servers over HTTP: on this machine, on others, or a cluster that vLLM spreads itself over.

Only adapters travel: written to a folder that trainer and servers share, and loaded by vLLM's runtime LoRA endpoints.
An adapter is named by the hash of its weights, so that ranks which share a server load it once, and a cached prefix
of other weights can never be found under its name.
"""

import asyncio
import hashlib
import itertools
import os
import queue
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import torch

from gpo_lightning.engines.engine import Capabilities, Completion, Engine, Purpose, Request, Sampling
from gpo_lightning.engines.vllm_fleet import Fleet, Server
from gpo_lightning.engines.vllm_http import Adapter, Answer, Client, completion, open_session
from gpo_lightning.engines.vllm_launch import Child, Launch
from gpo_lightning.engines.vllm_weights import refuse_adapter, served_rank
from gpo_lightning.errors import ConfigError, EngineDied, EngineError
from gpo_lightning.leftovers import own_folder
from gpo_lightning.policy.adapters import largest_rank, only_merged

if TYPE_CHECKING:
    from gpo_lightning.policy import Policy, PolicyConfig

T = TypeVar("T")
_NOBODY = -1
"""Handle of news that answer no request."""


class VLLMServer(Engine):
    """Servers that someone else started with ``vllm serve``, or one that is started here.

    Args:
        urls: where the servers listen; ``null`` means one on this machine, ``http://127.0.0.1:8000``.
        launch: start a server here instead, for this process alone; ``urls`` must then be ``null``.
        api_key_variable: environment variable that holds the servers' key; the key itself is never configured.
        adapters: folder for adapters, seen under the same path by every server; ``null`` takes a temporary one, which
            serves on one machine.
        concurrency: requests in flight at once, per server.
        timeout: seconds a request may take, the server's queue included.
        retries: times one request is sent again.
        patience: seconds a server may stay away, as while it restarts, before it is given up.
        wait: seconds to wait at the start for servers that still load.
        tolerance: mean difference of log-probabilities between server and trainer above which the server is refused,
            for it serves another model.
    """

    def __init__(
        self,
        urls: list[str] | None = None,
        launch: Launch | None = None,
        api_key_variable: str = "VLLM_API_KEY",
        adapters: Path | None = None,
        concurrency: int = 256,
        timeout: float = 1800.0,
        retries: int = 5,
        patience: float = 600.0,
        wait: float = 0.0,
        tolerance: float = 0.1,
    ) -> None:
        super().__init__()
        if launch is not None and urls is not None:
            raise ConfigError("data.engine: give urls of servers that run, or launch to start one, not both.")
        if urls == [] or concurrency < 1 or retries < 0 or timeout <= 0:
            raise ConfigError(
                "data.engine: urls must not be empty, concurrency and timeout positive, retries at least 0."
            )
        self.urls, self.launch, self.api_key_variable = urls or ["http://127.0.0.1:8000"], launch, api_key_variable
        self.adapters, self.concurrency, self.timeout = adapters, concurrency, timeout
        self.retries, self.patience, self.wait, self.tolerance = retries, patience, wait, tolerance
        self._background: _Background | None = None
        self._fleet: Fleet | None = None
        self._session: aiohttp.ClientSession | None = None
        self._child: Child | None = None
        self._folder: Path | None = None
        self._written: list[Path] = []
        self._agreed = False
        self._handles = itertools.count()
        self._pending: dict[int, tuple[Request, Future[Any]]] = {}
        self._finished: queue.SimpleQueue[tuple[int, Answer | BaseException]] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._stop_ids: tuple[int, ...] = ()
        self._mended: Counter[str] = Counter()

    @property
    def capabilities(self) -> Capabilities:
        servers = self._running().servers
        contexts = [server.model.context for server in servers if server.model is not None]
        return Capabilities("vllm_server", min(contexts), reproducible=False, slots=self.concurrency * len(servers))

    @property
    def faults(self) -> dict[str, int]:
        """Requests repeated, servers revived."""
        mended = Counter(self._mended)
        if self._fleet is not None:
            mended.update(repeated=self._fleet.repeated, revived=self._fleet.revived)
        return dict(mended)

    def check_policy(self, config: "PolicyConfig") -> None:
        settings = config.adapter_settings
        if settings is None:
            raise ConfigError(
                "model.policy.lora is null, but a vLLM server takes new weights as LoRA adapters only. Give "
                "model.policy.lora, or choose `--data.engine gpo_lightning.engines.VLLM`."
            )
        refuse_adapter(only_merged(config))
        served_rank(largest_rank(settings))

    def start(self, policy: "Policy", seed: int = 0) -> None:
        if self._fleet is not None:
            return
        self.check_policy(policy.config)
        self._stop_ids = policy.eos_ids
        self._background = _Background()
        try:
            if self.launch is not None:
                self._child = self.launch.start(policy, seed, self.longest)
            self._fleet = self._background.run(self._open(_vocabulary(policy)))
            self._compare_contexts(policy)
            self._folder = self._adapter_folder()
        except BaseException:
            self.shutdown()
            raise

    async def _open(self, vocabulary: int) -> Fleet:
        child = self._child
        self._session = open_session(os.environ.get(self.api_key_variable) if child is None else child.key)
        urls = self.urls if self._child is None else [self._child.url]
        servers = [Server(Client(url, self._session, self.timeout, vocabulary), self._child) for url in urls]
        fleet = Fleet(servers, self.concurrency, self.retries, self.patience)
        await fleet.open(self.wait if self.launch is None else self.launch.seconds)
        return fleet

    def _compare_contexts(self, policy: "Policy") -> None:
        for server in self._running().servers:
            if server.model is not None and server.model.context > policy.context:
                raise ConfigError(
                    f"data.engine.urls: {server.client.url} serves {server.model.name} with a context of "
                    f"{server.model.context} tokens, but model.policy.base has {policy.context}: another model. "
                    f"Serve {policy.config.base} there."
                )

    def _adapter_folder(self) -> Path:
        if self.adapters is None:
            return Path(tempfile.mkdtemp(dir=own_folder("gpo-adapters")))
        try:
            self.adapters.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"data.engine.init_args.adapters: {self.adapters} cannot be made: {error}") from error
        return self.adapters.resolve()

    def submit(self, request: Request) -> int:
        fleet, background = self._running(), self._background
        if background is None:
            raise EngineError("The vLLM server engine was used before it was started.")
        handle = next(self._handles)
        work = background.begin(fleet.complete(completion(request, self._stop_ids)))
        self._pending[handle] = (request, work)
        work.add_done_callback(lambda done: self._arrived(handle, done))
        return handle

    def _arrived(self, handle: int, work: Future[Answer]) -> None:
        outcome = _outcome(work)
        if not isinstance(outcome, BaseException):
            self.sign_of_life = monotonic()
        self._finished.put((handle, outcome))

    def poll(self) -> list[Completion]:
        found: list[Completion] = []
        while self._pending and not found and self._failure is None:
            found = self._collect(self._finished.get())
            while not self._finished.empty():
                found += self._collect(self._finished.get())
        if not found and self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return found

    def _collect(self, finished: tuple[int, Answer | BaseException]) -> list[Completion]:
        """What finished, if anyone still waits for it. A failure is kept until all that finished was handed out."""
        handle, outcome = finished
        request, _ = self._pending.pop(handle, (None, None))
        if isinstance(outcome, EngineDied):
            self._failure = outcome
        if request is None:
            return []
        if isinstance(outcome, BaseException):
            self._failure = self._failure or outcome
            return []
        made = Completion(handle, outcome.tokens, outcome.logprobs, outcome.truncated, outcome.cached or 0)
        self.ledger.book(request, made)
        return [made]

    def cancel(self, handle: int) -> None:
        _, work = self._pending.pop(handle, (None, None))
        if work is not None:
            # Closes the connection, upon which the server gives up too.
            work.cancel()

    def sync(self, policy: "Policy", version: int) -> None:
        if self._pending:
            raise EngineError(f"Weights cannot change while {len(self._pending)} requests are in flight.")
        fleet, background = self._running(), self._background
        if background is None or self._folder is None:
            raise EngineError("The vLLM server engine was used before it was started.")
        adapter = write_adapter(policy, self._folder)
        background.run(fleet.serve(adapter))
        # A sharded policy computes on all ranks at once, and one that starts its server again would do so alone.
        if not self._agreed and not policy.sharded:
            self._compare_voices(policy)
        self._discard_but(Path(adapter.path))
        self.version = version

    def _compare_voices(self, policy: "Policy") -> None:
        """The one proof that a server has the model, the tokens and the adapter of the trainer."""
        fleet, background = self._running(), self._background
        prefix = (policy.start_id,)
        request = Request(prefix, 32, Sampling(32), Purpose.EVALUATION, 0)
        body = completion(request, ()) | {"ignore_eos": True}
        for url, answer in background.run(fleet.everywhere(body)) if background is not None else []:
            gap = _difference(policy, prefix, answer)
            if not gap <= self.tolerance:
                raise ConfigError(
                    f"data.engine.urls: {url} does not speak as the trainer does: log-probabilities of the same tokens "
                    f"differ by {gap:.2g} on average. Serve {policy.config.base!r} there, in the precision of "
                    "model.policy.dtype; or raise data.engine.init_args.tolerance "
                    f"({self.tolerance:g}) if this is rounding."
                )
        self._agreed = True

    def _discard_but(self, present: Path) -> None:
        """Keep the adapter before, too: another rank may not have loaded the present one yet."""
        self._written = [path for path in self._written if path != present] + [present]
        while len(self._written) > 2:
            shutil.rmtree(self._written.pop(0), ignore_errors=True)

    def alive(self) -> bool:
        """Whether the server runs, where it is ours; of others' servers only their answers tell."""
        return self._child is None or self._child.ended() is None

    def kill(self) -> None:
        """End the server, where it is ours. Others' servers are given up by ``timeout`` and ``patience``."""
        child, background = self._child, self._background
        if child is None or background is None:
            return
        child.kill()
        died = EngineDied(f"the vLLM server at {child.url} died, or hung and was killed; {child.log} may say why.")
        self._finished.put((_NOBODY, died))
        background.abandon(died)

    def shutdown(self) -> None:
        background, self._background = self._background, None
        if background is not None:
            background.run(self._close())
            background.stop()
        if self._child is not None:
            self._child.end()
        self._mended = Counter(self.faults)
        self._child = self._fleet = self._session = None
        if self._folder is not None and self.adapters is None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder, self._written, self._agreed = None, [], False
        self._pending, self._failure, self._finished = {}, None, queue.SimpleQueue()

    async def _close(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._fleet is not None:
            await self._fleet.close()
        if self._session is not None:
            await self._session.close()

    def _running(self) -> Fleet:
        if self._fleet is None:
            raise EngineError("The vLLM server engine was used before it was started.")
        return self._fleet


class _Background:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._awaited: Future[Any] | None = None
        self._died: EngineDied | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm-server", daemon=True)
        self._thread.start()

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What ``work`` returns.

        Raises:
            EngineDied: it was abandoned.
        """
        self._awaited = self.begin(work)
        try:
            return self._awaited.result()
        except CancelledError as error:
            raise self._died or EngineError("The vLLM server engine was ended while it was waited for.") from error
        finally:
            self._awaited = None

    def abandon(self, reason: EngineDied) -> None:
        """Wait no longer for what is run; from another thread."""
        self._died, awaited = reason, self._awaited
        if awaited is not None:
            awaited.cancel()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def write_adapter(policy: "Policy", folder: Path) -> Adapter:
    """The adapter in a folder named by its content; ranks that write the same one end up with one."""
    fresh = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    policy.export_adapter(fresh)
    fresh.chmod(0o755)  # a server may run as another user
    content = hashlib.sha256()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        content.update((fresh / name).read_bytes())
    place = folder / f"gpo-{content.hexdigest()[:20]}"
    try:
        fresh.rename(place)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        if not place.is_dir():
            raise
    return Adapter(place.name, str(place))


def _difference(policy: "Policy", prefix: tuple[int, ...], answer: Answer) -> float:
    """Mean absolute difference of log-probabilities between server and trainer."""
    ids = torch.tensor([prefix + answer.tokens], device=policy.device)
    mask = torch.zeros_like(ids)
    mask[:, len(prefix) :] = 1
    training = policy.training
    policy.eval()
    try:
        with torch.no_grad():
            ours = policy.logprobs(ids, torch.ones_like(ids), mask)[0, len(prefix) :].double().cpu()
    finally:
        policy.train(training)
    return float((ours - torch.tensor(answer.logprobs, dtype=torch.float64)).abs().mean())


def _vocabulary(policy: "Policy") -> int:
    return int(policy.causal_lm.get_input_embeddings().weight.shape[0])  # pyright: ignore


def _outcome(work: Future[Answer]) -> Answer | BaseException:
    if work.cancelled():
        return EngineError("The request was cancelled.")
    return work.exception() or work.result()
