"""What is said to one vLLM server over HTTP, and what its answers mean. Nothing is repeated here, nothing waited for.

A completion is asked for as::

    POST /v1/completions {"model": "gpo-3f0c...", "prompt": [40, 107, 101], "max_tokens": 16, "logprobs": 0,
                          "return_token_ids": true, "stop_token_ids": [2], ...}

and answered with ``choices[0].token_ids``, ``choices[0].logprobs.token_logprobs``, ``choices[0].finish_reason`` and
``usage.prompt_tokens_details.cached_tokens``.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import aiohttp

from gpo_lightning.engines.engine import Request
from gpo_lightning.errors import printable

_QUICK = 60.0
"""Seconds in which a server answers what needs no long generation."""
_MOST_BYTES = 32 << 20
"""Of one answer: some hundred bytes a token, for the longest contexts there are."""
_MOST_ROUNDING = 1e-3
"""By which the logarithm of a probability may come out above 0."""

_LEAST_LIKELY = 1e5
"""The negative logarithm of a probability; vLLM says 9999 where it is infinite."""


class UnavailableError(Exception):
    """The server is away, overloaded or broken: the same words may succeed later, or elsewhere."""


class MalformedError(UnavailableError):
    """The server answered what cannot be: bytes were lost, or something is wrong with it. It is asked again."""


class RefusedError(Exception):
    """The server understood and said no: asking again will not help."""

    def __init__(self, url: str, status: int, message: str) -> None:
        super().__init__(f"{url} answered {status}: {message}")
        self.status, self.message = status, message


@dataclass(frozen=True, slots=True)
class Adapter:
    """LoRA weights as a server knows them: equal names are equal weights."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The base model behind a URL."""

    name: str
    context: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server generated; ``cached`` is ``None`` where it does not say."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    truncated: bool
    cached: int | None


class Client:
    """One server.

    Args:
        url: where it listens, without a path.
        session: connections, with the key in their headers.
        timeout: seconds a completion may take, the server's queue included.
        vocabulary: token ids are below it.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession, timeout: float, vocabulary: int) -> None:
        self.url, self._session, self._timeout = url.rstrip("/"), session, timeout
        self.vocabulary = vocabulary
        self._quick = min(_QUICK, timeout)

    async def model(self) -> ServedModel:
        """The base model; adapters are listed with it, and name it as their parent."""
        said = await self._ask("GET", "/v1/models")
        try:
            base = next((card for card in said["data"] if not card.get("parent")), None)
            if base is None:
                raise RefusedError(self.url, 200, "no model is listed")
            name, context = base["id"], base["max_model_len"]
            if not isinstance(name, str) or type(context) is not int or context <= 0:
                raise ValueError(f"a model {name!r:.80} with a context of {context!r:.40}")
            return ServedModel(name, context)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MalformedError(f"{self.url} lists no model; is it a vLLM server?") from error

    async def loads_adapters(self) -> bool:
        """Whether the server has the endpoint at all. An empty request is refused, but not as an unknown page."""
        try:
            await self._ask("POST", "/v1/load_lora_adapter", {})
        except RefusedError as refusal:
            return refusal.status not in (404, 405)
        return True

    async def load(self, adapter: Adapter) -> None:
        """Serve an adapter. Loaded before, by this process or another, is as good."""
        body = {"lora_name": adapter.name, "lora_path": adapter.path}
        status, said = await self._say("POST", "/v1/load_lora_adapter", body, self._timeout)
        if status < 400 or "already been loaded" in said:
            return
        if status >= 500 and not await self._healthy():
            raise UnavailableError(f"{self.url} broke while it loaded an adapter: {said}")
        # What a sound server answers by an internal error is a refusal as well: LoRA is disabled, the rank too high.
        raise RefusedError(self.url, status, said)

    async def unload(self, adapter: Adapter) -> None:
        await self._say("POST", "/v1/unload_lora_adapter", {"lora_name": adapter.name})

    async def complete(self, model: str, body: dict[str, Any]) -> Answer:
        """Continue a prefix by a model or adapter; ``body`` is of :func:`completion`."""
        try:
            said = await self._ask("POST", "/v1/completions", {"model": model, **body}, self._timeout)
        except RefusedError as refusal:
            if refusal.status == 404 and "does not exist" in refusal.message:
                raise UnavailableError(f"{self.url} does not know {model} any more") from refusal
            raise
        return _answer(self.url, said, len(body["prompt"]), body["max_tokens"], self.vocabulary)

    async def _healthy(self) -> bool:
        try:
            return (await self._say("GET", "/health"))[0] == 200
        except UnavailableError:
            return False

    async def _ask(self, method: str, path: str, body: Any = None, timeout: float | None = None) -> dict[str, Any]:
        status, said = await self._say(method, path, body, timeout)
        if status == 429 or status >= 500:
            raise UnavailableError(f"{self.url} answered {status}: {said}")
        if status >= 400:
            raise RefusedError(self.url, status, said)
        try:
            parsed: object = json.loads(said)
        except (ValueError, RecursionError) as error:
            raise MalformedError(f"{self.url}{path}: no JSON came back; is it a vLLM server?") from error
        if not isinstance(parsed, dict):
            raise MalformedError(f"{self.url}{path}: an answer of another form: {said[:200]}")
        return cast(dict[str, Any], parsed)

    async def _say(self, method: str, path: str, body: Any = None, timeout: float | None = None) -> tuple[int, str]:
        """Status and text; of an error, its message. Without a timeout it is something quick."""
        timeout = timeout or self._quick
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            # A redirection is not followed: prompts, weights' names and the key are for this server alone.
            async with self._session.request(
                method, self.url + path, json=body, timeout=limit, allow_redirects=False
            ) as response:
                text = (await self._read(response, path)).decode()
        except TimeoutError as error:
            raise UnavailableError(f"{self.url}{path} did not answer within {timeout:g} s") from error
        except (aiohttp.ClientError, OSError, UnicodeDecodeError) as error:
            raise UnavailableError(f"{self.url}{path}: {error or type(error).__name__}") from error
        if 300 <= response.status < 400:
            elsewhere = response.headers.get("Location", "nowhere")
            raise RefusedError(self.url, response.status, f"it sends requests elsewhere, to {elsewhere!r:.200}")
        return response.status, text if response.status < 400 else _message(text)

    async def _read(self, response: aiohttp.ClientResponse, path: str) -> bytes:
        """The body, up to what an answer may take: memory is not the server's to fill."""
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > _MOST_BYTES:
                response.close()
                raise MalformedError(f"{self.url}{path} answers with more than {_MOST_BYTES >> 20} MiB")
        return bytes(body)


def completion(request: Request, stop_ids: Sequence[int]) -> dict[str, Any]:
    """The body that asks for one continuation. Everything is said, for a server has defaults of its own."""
    sampling = request.sampling
    return {
        "prompt": list(request.prefix),
        "max_tokens": request.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop": list(sampling.stop),
        "include_stop_str_in_output": True,
        "stop_token_ids": [*stop_ids, *sampling.stop_token_ids],
        "logprobs": 0,
        "return_token_ids": True,
        # Log-probabilities come with their tokens' text, which is not wanted either.
        "return_tokens_as_token_ids": True,
    }


def _answer(url: str, said: dict[str, Any], prefix: int, most: int, vocabulary: int) -> Answer:
    """What was generated after a prefix of so many tokens, if it can have been.

    Raises:
        MalformedError: it cannot.
    """
    try:
        choice = said["choices"][0]
        tokens, logprobs = choice.get("token_ids"), choice["logprobs"]["token_logprobs"]
        reason = choice["finish_reason"]
        cached = ((said.get("usage") or {}).get("prompt_tokens_details") or {}).get("cached_tokens")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise MalformedError(f"{url}: an answer of another form: {', '.join(map(repr, said))[:200]}") from error
    if tokens is None:
        raise RefusedError(url, 200, "no token ids came back (`return_token_ids`): this vLLM is too old; 0.32 works")
    if reason not in ("stop", "length"):
        raise UnavailableError(f"{url} gave up on a request ({str(reason)[:80]})")
    if not isinstance(tokens, list) or not isinstance(logprobs, list):
        raise MalformedError(f"{url}: tokens and log-probabilities are no lists")
    wrong = _wrong(cast(list[object], tokens), cast(list[object], logprobs), most, vocabulary)
    if cached is not None and not (type(cached) is int and 0 <= cached <= prefix):
        wrong = f"{str(cached)[:40]} of {prefix} prefix tokens were cached"
    if wrong:
        raise MalformedError(f"{url}: an answer that cannot be: {wrong}")
    return Answer(tuple(tokens), tuple(logprobs), reason == "length", cached)


def _wrong(tokens: list[object], logprobs: list[object], most: int, vocabulary: int) -> str | None:
    """Why these are no tokens with their log-probabilities."""
    if not 0 < len(tokens) <= most or len(tokens) != len(logprobs):
        return f"{len(tokens)} tokens with {len(logprobs)} log-probabilities, where at most {most} were asked for"
    for token in tokens:
        if type(token) is not int or not 0 <= token < vocabulary:
            return f"token {str(token)[:40]} of a vocabulary of {vocabulary}"
    for value in logprobs:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not -_LEAST_LIKELY < value <= _MOST_ROUNDING
        ):
            return f"log-probability {str(value)[:40]}"
    return None


def _message(text: str) -> str:
    """What an error's body says, in one line."""
    try:
        error = json.loads(text)["error"]
        said = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError, RecursionError):
        said = text
    return printable(" ".join(said.split())[:500])


def open_session(key: str | None) -> aiohttp.ClientSession:
    """Connections for any number of requests at once, on the running event loop."""
    return aiohttp.ClientSession(
        # Servers drop connections that were idle for 5 s; one dropped while it is taken up again looks like a failure.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=2.0),
        # Nothing is inflated: a few compressed bytes may hold gigabytes.
        headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {}),
        auto_decompress=False,
    )
