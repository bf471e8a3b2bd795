"""Several vLLM servers of one model as one: who is asked next, what is repeated, when a server is given up.

A server is up, down or lost. Down, it is tried again at growing intervals; it gets requests again only after it has
passed every check of :func:`inspect` and loaded the present adapter, so that no request meets older weights.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from gpo_lightning.engines.engine import Purpose, Request, Sampling
from gpo_lightning.engines.vllm_http import (
    Adapter,
    Answer,
    Client,
    MalformedError,
    RefusedError,
    ServedModel,
    UnavailableError,
    completion,
)
from gpo_lightning.engines.vllm_launch import NEEDED_FLAGS, NEEDED_VARIABLE, Child
from gpo_lightning.errors import ConfigError, EngineError

_log = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 15.0


class Server:
    """One server and how it is doing.

    Args:
        client: speaks to it.
        child: its process, where it is ours.
    """

    def __init__(self, client: Client, child: Child | None = None) -> None:
        self.client, self.child = client, child
        self.model: ServedModel | None = None
        self.in_flight = 0
        self.up = False
        self.lost: str | None = None
        self.revival: asyncio.Task[None] | None = None


class Fleet:
    """The servers. Lives on one event loop.

    Args:
        servers: at least one.
        concurrency: requests in flight at once, per server.
        retries: times one request is sent again.
        patience: seconds a server may stay away before it is lost.
    """

    def __init__(self, servers: Sequence[Server], concurrency: int, retries: int, patience: float) -> None:
        self.servers, self.retries, self.patience = list(servers), retries, patience
        self.adapter: Adapter | None = None
        self.repeated = self.revived = 0
        self._permits = asyncio.Semaphore(concurrency * len(self.servers))
        self._settled = asyncio.Event()  # set while a server is up, or all are lost

    async def open(self, wait: float) -> None:
        """Check every server, and wait for those that are still loading.

        Args:
            wait: seconds.

        Raises:
            ConfigError: one cannot be used; the message says why and what to do.
        """
        await asyncio.gather(*(self._open(server, wait) for server in self.servers))

    async def _open(self, server: Server, wait: float) -> None:
        failure: UnavailableError | None = None
        for pause in _pauses(wait):
            try:
                server.model = await inspect(server.client)
                self._mark(server, up=True)
                return
            except MalformedError as error:
                raise ConfigError(f"data.engine.urls: {error}") from error
            except UnavailableError as error:
                failure = error
            if server.child is not None and (ended := server.child.ended()):
                raise ConfigError(f"data.engine.launch: {ended}")
            await asyncio.sleep(pause)
        raise ConfigError(
            f"data.engine.urls: no vLLM server answers at {server.client.url} ({failure}). Start one: "
            f"`{NEEDED_VARIABLE}=1 vllm serve MODEL {' '.join(NEEDED_FLAGS)} --max-lora-rank RANK`, "
            "or set data.engine.init_args.wait to the seconds it needs to load."
        ) from failure

    async def serve(self, adapter: Adapter) -> None:
        """Load an adapter on every server, and forget the one before."""
        before, self.adapter = self.adapter, adapter
        await asyncio.gather(*(self._hand_over(server) for server in self.servers))
        await self._least_busy()
        if before is not None and before.name != adapter.name:
            await asyncio.gather(*(self._forget(server, before) for server in self.servers if server.up))

    async def _hand_over(self, server: Server) -> None:
        if server.lost is not None:
            server.lost = None
            self._down(server, UnavailableError("it was lost before"))
        elif server.up and self.adapter is not None:
            try:
                await server.client.load(self.adapter)
            except UnavailableError as error:
                self._down(server, error)
            except RefusedError as refusal:
                raise ConfigError(_why_no_adapter(refusal, self.adapter)) from refusal

    async def _forget(self, server: Server, adapter: Adapter) -> None:
        try:
            await server.client.unload(adapter)
        except UnavailableError as error:
            self._down(server, error)

    async def close(self) -> None:
        """Take the adapter back from the servers that are up."""
        if self.adapter is not None:
            for server in self.servers:
                # One that is ours ends anyway, and may be hung.
                if server.up and server.child is None:
                    await self._forget(server, self.adapter)

    async def complete(self, body: dict[str, Any]) -> Answer:
        """One continuation by whichever server is least busy, repeated where one fails."""
        async with self._permits:
            failure: UnavailableError | None = None
            for _ in range(self.retries + 1):
                server = await self._least_busy()
                server.in_flight += 1
                try:
                    return await self._ask(server, body)
                except UnavailableError as error:
                    failure = error
                    self.repeated += 1
                    self._down(server, error)
                finally:
                    server.in_flight -= 1
            raise EngineError(
                f"A request failed {self.retries + 1} times, last because {failure}. The server's log says why; "
                "data.engine.init_args.retries allows more."
            )

    async def everywhere(self, body: dict[str, Any]) -> list[tuple[str, Answer]]:
        """One continuation by each server that is up, with its URL."""
        up = [server for server in self.servers if server.up]
        answers = await asyncio.gather(*(self._ask(server, body) for server in up))
        return [(server.client.url, answer) for server, answer in zip(up, answers, strict=True)]

    async def _ask(self, server: Server, body: dict[str, Any]) -> Answer:
        if self.adapter is None:
            raise EngineError("The vLLM server was asked before it was given weights.")
        try:
            return await server.client.complete(self.adapter.name, body)
        except RefusedError as refusal:
            raise EngineError(f"A request was refused: {refusal}") from refusal

    async def _least_busy(self) -> Server:
        """The server with the fewest requests, once one is up."""
        while True:
            await self._settled.wait()
            up = [server for server in self.servers if server.up]
            if up:
                return min(up, key=lambda server: server.in_flight)
            if all(server.lost is not None for server in self.servers):
                reasons = "; ".join(str(server.lost) for server in self.servers)
                raise EngineError(
                    f"Every vLLM server is lost: {reasons}. Start them again and resume the run; "
                    f"data.engine.init_args.patience ({self.patience:.0f} s) says how long they may stay away."
                )

    def _mark(self, server: Server, up: bool) -> None:
        server.up = up
        if any(s.up for s in self.servers) or all(s.lost is not None for s in self.servers):
            self._settled.set()
        else:
            self._settled.clear()

    def _down(self, server: Server, cause: UnavailableError) -> None:
        """No more requests for it until it is revived; of many requests that fail together, the first counts."""
        if server.revival is None:
            _log.warning("vLLM server down: %s. Its requests will be repeated.", cause)
            self._mark(server, up=False)
            server.revival = asyncio.create_task(self._revive(server, cause))

    async def _revive(self, server: Server, cause: Exception) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self.patience
        try:
            for pause in _pauses(self.patience):
                await asyncio.sleep(pause)
                if loop.time() > until + pause:
                    # A hung server takes every attempt's whole time.
                    break
                if server.child is not None:
                    server.child.ensure_running()
                adapter = self.adapter
                try:
                    server.model = await inspect(server.client)
                    if adapter is not None:
                        await server.client.load(adapter)
                except UnavailableError as error:
                    cause = error
                    continue
                except (ConfigError, RefusedError) as error:
                    cause = error
                    break
                if adapter is self.adapter:
                    self.revived += 1
                    _log.warning("vLLM server %s is back; %d requests were repeated.", server.client.url, self.repeated)
                    self._mark(server, up=True)
                    return
            server.lost = str(cause)
            self._mark(server, up=False)
        finally:
            server.revival = None


async def inspect(client: Client) -> ServedModel:
    """Look at everything that training needs of a server.

    Raises:
        ConfigError: it cannot be used; the message says what to do.
        UnavailableError: it does not answer.
    """
    try:
        model = await client.model()
        if not await client.loads_adapters():
            raise ConfigError(
                f"data.engine.urls: {client.url} has no /v1/load_lora_adapter, by which new weights reach it. Start it "
                f"with {NEEDED_VARIABLE}=1 in its environment and with --enable-lora."
            )
        alone = Request((0,), 1, Sampling(1), Purpose.EVALUATION, 0)
        answer = await client.complete(model.name, completion(alone, ()) | {"allowed_token_ids": [1]})
    except RefusedError as refusal:
        raise ConfigError(_why_refused(client.url, refusal)) from refusal
    if answer.logprobs != (0.0,):
        # Where only one token may be drawn, its log-probability is 0; raw ones know nothing of what may be drawn.
        raise ConfigError(
            f"data.engine.urls: {client.url} reports log-probabilities before temperature and nucleus. Start it with "
            "--logprobs-mode processed_logprobs."
        )
    if answer.cached is None:
        _log.warning(
            "%s does not say what its prefix cache saved; every prefix counts as computed. Start it with "
            "--enable-prompt-tokens-details.",
            client.url,
        )
    return model


def _why_refused(url: str, refusal: RefusedError) -> str:
    if refusal.status in (401, 403):
        return (
            f"data.engine.urls: {url} refused the API key. Put the server's key into the environment variable that "
            "data.engine.init_args.api_key_variable names (VLLM_API_KEY if not set otherwise)."
        )
    if refusal.status in (404, 405):
        return f"data.engine.urls: {url} lacks an endpoint of vLLM's HTTP server. 0.32 is known to work. ({refusal})"
    return f"data.engine.urls: {url} cannot be used: {refusal}"


def _why_no_adapter(refusal: RefusedError, adapter: Adapter) -> str:
    said = refusal.message.lower()
    if "rank" in said:
        advice = "Start it with a higher --max-lora-rank, or lower model.policy.lora.r."
    elif "no adapter found" in said or refusal.status == 404:
        advice = f"It does not see {adapter.path}: set data.engine.init_args.adapters to a folder shared with it."
    elif "enabled" in said or "lora" in said:
        advice = "Start it with --enable-lora, and see that it serves the base model of model.policy.base."
    else:
        advice = "Its log says why."
    return f"data.engine.urls: the adapter could not be loaded: {refusal}. {advice}"


def _pauses(seconds: float) -> Iterator[float]:
    """Growing pauses whose sum is ``seconds``, one at least."""
    pause, left = _FIRST_PAUSE, seconds
    while left > 0:
        yield min(pause, left)
        left -= pause
        pause = min(2 * pause, _LONGEST_PAUSE)
    if seconds <= 0:
        yield 0.0
