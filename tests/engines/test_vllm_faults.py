"""What the server engine does when servers fail, refuse or are not what they should be, by a server that is faulty."""

import json
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpo_lightning.engines import Engine, Purpose, Recovery, Request, RestartingEngine, Sampling, VLLMServer
from gpo_lightning.engines.vllm_fleet import _pauses
from gpo_lightning.engines.vllm_http import MalformedError, _answer
from gpo_lightning.engines.vllm_launch import Child, Launch, _free_port
from gpo_lightning.engines.vllm_server import write_adapter
from gpo_lightning.errors import ConfigError, EngineError
from gpo_lightning.policy import Policy, PolicyConfig
from tests.conftest import disturb
from tests.engines import faulty_server
from tests.engines.faulty_server import NO_PAGE, FaultyServer, Reply, tokens

Start = Callable[..., tuple[VLLMServer, list[FaultyServer]]]
COMPLETIONS = "/v1/completions"


def requests(count: int, length: int = 4) -> list[Request]:
    return [Request((40, 107, 101), length, Sampling(length), Purpose.SAMPLE, seed) for seed in range(count)]


@pytest.fixture
def start(tiny_policy: Policy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """An engine over faulty servers; their tokens are not the policy's, which is checked elsewhere."""
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    started: list[Engine | FaultyServer] = []

    def start(*replies: dict[str, Callable[[dict[str, Any], int], Reply]], **settings: Any) -> Any:
        servers = [FaultyServer(reply) for reply in replies or ({},)]
        settings = {"patience": 5.0, "tolerance": 1e9} | settings
        engine = VLLMServer([server.url for server in servers], **settings)
        started.extend([engine, *servers])
        engine.start(tiny_policy)
        engine.sync(tiny_policy, 0)
        return engine, servers

    yield start
    for thing in started:
        thing.shutdown() if isinstance(thing, Engine) else thing.close()


def test_requests_are_repeated_while_a_server_fails_and_none_is_lost(start: Start) -> None:
    def fitful(body: dict[str, Any], seen: int) -> Reply:
        faults: list[Reply] = [(503, {"error": {"message": "starting"}}), (429, {}), (500, {}), (0, {})]
        return faults[seen % 8 // 2] if 2 <= seen < 18 and seen % 2 else tokens(body["max_tokens"])

    engine, _ = start({COMPLETIONS: fitful}, retries=20)
    made = engine.generate(requests(24))
    assert [len(completion.tokens) for completion in made] == [4] * 24
    assert engine.faults["repeated"] >= 4
    assert engine.faults["revived"] >= 1
    booked = engine.ledger.accounts[Purpose.SAMPLE]
    assert (booked.requests, booked.generated) == (24, 96), "repeated requests are booked once"


def _said(token_ids: Any = (5, 5), logprobs: Any = (0.0, -1.0), cached: Any = 0) -> Reply:
    choice = {"token_ids": token_ids, "logprobs": {"token_logprobs": logprobs}, "finish_reason": "stop"}
    return 200, json.loads(
        json.dumps({"choices": [choice], "usage": {"prompt_tokens_details": {"cached_tokens": cached}}})
    )


CANNOT_BE: dict[str, Reply] = {
    "a negative token": _said([5, -5]),
    "a token of no vocabulary": _said([5, 10**12]),
    "a token as text": _said([5, "5"]),
    "a token as truth": _said([5, True]),
    "a token with a fraction": _said([5, 5.5]),
    "NaN": _said(logprobs=[0.0, math.nan]),
    "infinity": _said(logprobs=[0.0, -math.inf]),
    "a probability above one": _said(logprobs=[0.0, 2.0]),
    "a log-probability as text": _said(logprobs=[0.0, "-1"]),
    "none": _said(logprobs=[0.0, None]),
    "a number no float holds": _said(logprobs=[0.0, -(10**400)]),
    "fewer log-probabilities": _said(logprobs=[0.0]),
    "more tokens than asked for": _said([5] * 9, [0.0] * 9),
    "no tokens": _said([], []),
    "tokens that are a number": _said(5, 0.0),
    "tokens that are a mapping": _said({"5": 5}, {"5": 0.0}),
    "a cached prefix longer than the prefix": _said(cached=10**9),
    "another form": (200, {"choices": "many"}),
}
NO_ANSWER: list[Reply] = [(200, [1, 2]), (200, "[" * 100_000), (200, "x" * (33 << 20))]


def test_an_answer_that_cannot_be_is_an_incident_and_asked_for_again(start: Start) -> None:
    wrong = iter([*NO_ANSWER, *list(CANNOT_BE.values())[:3]])

    def odd(body: dict[str, Any], seen: int) -> Reply:
        asked_for_work = body["max_tokens"] == 4 and seen % 2
        return next(wrong, tokens(4)) if asked_for_work else tokens(body["max_tokens"])

    engine, _ = start({COMPLETIONS: odd}, retries=60, concurrency=1)
    made = engine.generate(requests(8))
    assert [(completion.tokens, completion.logprobs) for completion in made] == [((5,) * 4, (0.0,) * 4)] * 8
    assert next(wrong, None) is None
    assert engine.faults["repeated"] == 6


@pytest.mark.parametrize("kind", CANNOT_BE)
def test_each_kind_of_what_cannot_be_is_told_from_an_answer(kind: str) -> None:
    with pytest.raises(MalformedError):
        _answer("http://x", CANNOT_BE[kind][1], prefix=3, most=8, vocabulary=100)
    assert _answer("http://x", _said()[1], prefix=3, most=8, vocabulary=100).tokens == (5, 5)


def test_a_server_that_forgot_the_adapter_gets_it_before_the_next_request(start: Start) -> None:
    forgotten = {"n": 0}

    def forgetful(body: dict[str, Any], seen: int) -> Reply:
        if body["model"] != "base" and seen >= 4 and not forgotten["n"]:
            forgotten["n"] = 1
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist.", "code": 404}}
        return tokens(body["max_tokens"])

    engine, (server,) = start({COMPLETIONS: forgetful}, concurrency=1)
    engine.generate(requests(6))
    assert forgotten["n"] == 1
    loads = [i for i, path in enumerate(server.paths) if path == "/v1/load_lora_adapter"]
    refused = [i for i, path in enumerate(server.paths) if path == COMPLETIONS][4]
    assert loads[-1] > refused, "loaded again"
    assert engine.faults == {"repeated": 1, "revived": 1}


def test_several_servers_share_the_work_and_one_that_dies_leaves_it_to_the_others(start: Start) -> None:
    gone = threading.Event()

    def slow(body: dict[str, Any], seen: int) -> Reply:
        time.sleep(0.02)
        return tokens(body["max_tokens"])

    def dying(body: dict[str, Any], seen: int) -> Reply:
        return (0, {}) if gone.is_set() else slow(body, seen)

    engine, (first, second) = start({COMPLETIONS: slow}, {COMPLETIONS: dying}, concurrency=4, patience=0.5)
    before = first.asked[COMPLETIONS], second.asked[COMPLETIONS]
    engine.generate(requests(40))
    shares = first.asked[COMPLETIONS] - before[0], second.asked[COMPLETIONS] - before[1]
    assert sum(shares) == 40
    assert min(shares) > 10, "the least busy is asked next"
    gone.set()
    assert len(engine.generate(requests(20))) == 20
    assert engine.faults["repeated"] >= 1


def test_what_finished_is_handed_out_before_the_failure(start: Start) -> None:
    def broken(body: dict[str, Any], seen: int) -> Reply:
        return (500, {"error": {"message": "boom"}}) if body["max_tokens"] == 7 else tokens(body["max_tokens"])

    engine, _ = start({COMPLETIONS: broken}, retries=1)
    good = {engine.submit(request) for request in requests(5)}
    engine.submit(requests(1, length=7)[0])
    finished: set[int] = set()
    while len(finished) < len(good):
        finished |= {completion.handle for completion in engine.poll()}
    with pytest.raises(EngineError, match=r"failed 2 times.*boom"):
        engine.poll()
    assert finished == good


def test_servers_that_stay_away_are_given_up_by_name(start: Start) -> None:
    engine, (server,) = start(patience=0.6)
    server.close()
    for path in list(server.replies):
        server.replies[path] = lambda _body, _seen: (0, {})
    with pytest.raises(EngineError, match=rf"Every vLLM server is lost: {server.url}.*resume"):
        engine.generate(requests(2))


def test_a_hung_server_is_noticed_by_time(start: Start) -> None:
    def hung(body: dict[str, Any], seen: int) -> Reply:
        time.sleep(1.5 if seen == 3 else 0)
        return tokens(body["max_tokens"])

    engine, _ = start({COMPLETIONS: hung}, timeout=0.5)
    assert len(engine.generate(requests(4))) == 4
    assert engine.faults["repeated"] == 1


def test_a_hung_server_of_somebody_else_is_given_up_by_time_and_said_so(start: Start) -> None:
    """It cannot be killed from here; every try takes its whole time."""
    hung, end = threading.Event(), threading.Event()

    def silent(body: dict[str, Any], _seen: int) -> Reply:
        if hung.is_set():
            end.wait(30)
        return tokens(body.get("max_tokens", 0))

    def listing(_body: dict[str, Any], seen: int) -> Reply:
        silent(_body, seen)
        return faulty_server.MODELS

    engine, (server,) = start({COMPLETIONS: silent, "/v1/models": listing}, timeout=0.5, patience=2.0)
    subject = RestartingEngine(engine, Recovery(patience=0.5))
    hung.set()
    begin = time.monotonic()
    try:
        with pytest.raises(
            EngineError, match=rf"Every vLLM server is lost: {server.url}/.* did not answer within 0.5 s"
        ):
            subject.generate(requests(2))
        assert time.monotonic() - begin < 15, "patience is what was asked for, and not a multiple of it"
        engine.kill()
        assert engine.alive(), "what is not ours is left alone"
    finally:
        end.set()


@dataclass(frozen=True)
class FaultyLaunch(Launch):
    """Starts a faulty server in the place of vLLM; the first process of a folder hangs, those after it do not."""

    folder: Path = Path()
    mark: str = "hung before"

    def start(self, policy: Policy, seed: int = 0, longest: int | None = None) -> Child:
        port = _free_port()
        command = [sys.executable, str(faulty_server.__file__), str(port), str(self.folder / self.mark)]
        child = Child(command, f"http://127.0.0.1:{port}", self.folder / "log")
        child.ensure_running()
        return child


@pytest.fixture
def launched(tiny_policy: Policy, tmp_path: Path) -> Iterator[tuple[RestartingEngine, VLLMServer]]:
    """An engine whose server is a process of ours, supervised."""
    engine = VLLMServer(launch=FaultyLaunch(folder=tmp_path, seconds=60.0), tolerance=1e9, concurrency=1)
    subject = RestartingEngine(engine, Recovery(patience=3.0))
    subject.start(tiny_policy)
    subject.sync(tiny_policy, 3)
    yield subject, engine
    subject.shutdown()


def test_our_own_server_that_hangs_is_killed_and_revived(
    launched: tuple[RestartingEngine, VLLMServer], tmp_path: Path
) -> None:
    subject, engine = launched
    first = engine._child.pid if engine._child else None
    assert first is not None
    made = subject.generate(requests(20))
    assert (tmp_path / "hung before").exists(), "it did hang"
    assert [len(completion.tokens) for completion in made] == [4] * 20
    assert subject.restarts == 1
    assert engine.ledger.accounts[Purpose.SAMPLE].requests == 20, "each counted once"
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert engine.version == 3, "the weights were handed over again"


def test_our_own_server_that_hangs_while_it_takes_weights_is_killed_and_revived(
    launched: tuple[RestartingEngine, VLLMServer], tiny_policy: Policy, tmp_path: Path
) -> None:
    subject, engine = launched
    (tmp_path / "hung before").touch()
    assert engine._child is not None
    assert engine._child.pid is not None
    os.killpg(engine._child.pid, signal.SIGSTOP)
    disturb(tiny_policy, seed=4)
    subject.sync(tiny_policy, 4)
    assert (subject.restarts, engine.version) == (1, 4)
    assert len(subject.generate(requests(3))) == 3


def test_our_own_server_that_dies_is_there_again_and_nothing_is_lost(
    launched: tuple[RestartingEngine, VLLMServer], tmp_path: Path
) -> None:
    subject, engine = launched
    (tmp_path / "hung before").touch()
    asked = {subject.submit(request) for request in requests(200)}
    arrived = [completion.handle for completion in subject.poll()]
    assert engine._child is not None
    assert engine._child.pid is not None
    os.kill(engine._child.pid, signal.SIGKILL)
    assert len(arrived) < len(asked), "the kill is to come in the middle"
    while made := subject.poll():
        arrived += [completion.handle for completion in made]
    assert sorted(arrived) == sorted(asked)
    assert subject.restarts + engine.faults["revived"] >= 1


def test_a_cancelled_request_is_never_polled_and_closes_its_connection(start: Start) -> None:
    def slow(body: dict[str, Any], seen: int) -> Reply:
        time.sleep(0.4 if body["max_tokens"] == 9 else 0)
        return tokens(body["max_tokens"])

    engine, _ = start({COMPLETIONS: slow})
    dropped = engine.submit(requests(1, length=9)[0])
    kept = engine.submit(requests(1)[0])
    engine.cancel(dropped)
    assert [completion.handle for completion in engine.poll()] == [kept]
    assert engine.poll() == []
    assert engine.ledger.accounts[Purpose.SAMPLE].requests == 1


def test_weights_do_not_change_under_requests_in_flight(start: Start, tiny_policy: Policy) -> None:
    engine, _ = start()
    engine.submit(requests(1)[0])
    with pytest.raises(EngineError, match="in flight"):
        engine.sync(tiny_policy, 1)


def test_new_weights_have_a_new_name_and_the_old_one_is_forgotten(start: Start, tiny_policy: Policy) -> None:
    names: list[str] = []

    def load(body: dict[str, Any], seen: int) -> Reply:
        names.extend([body["lora_name"]] if body else [])
        return (200, {}) if body else (400, {})

    engine, (server,) = start({"/v1/load_lora_adapter": load})
    engine.sync(tiny_policy, 1)
    assert names[0] == names[1], "equal weights are one adapter, whose cached prefixes may be used"
    assert server.asked["/v1/unload_lora_adapter"] == 0
    disturb(tiny_policy, seed=9)
    engine.sync(tiny_policy, 2)
    assert names[2] != names[0]
    assert server.asked["/v1/unload_lora_adapter"] == 1


def test_ranks_that_write_the_same_adapter_agree_on_its_name_and_place(tiny_policy: Policy, tmp_path: Path) -> None:
    assert write_adapter(tiny_policy, tmp_path) == write_adapter(tiny_policy, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_key_comes_from_the_environment(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_KEY", "sesame")
    _, (server,) = start(api_key_variable="OUR_KEY")
    assert server.keys == {"Bearer sesame"}


@pytest.mark.parametrize(
    ("path", "reply", "advice"),
    [
        ("/v1/models", (401, {"error": "Unauthorized"}), "refused the API key"),
        ("/v1/models", NO_PAGE, "lacks an endpoint"),
        ("/v1/models", (200, {"data": []}), "no model is listed"),
        ("/v1/models", (200, {"data": [{"id": "b", "max_model_len": 8192}]}), "another model"),
        ("/v1/load_lora_adapter", NO_PAGE, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"),
        (COMPLETIONS, NO_PAGE, "lacks an endpoint"),
        (
            COMPLETIONS,
            (200, {"choices": [{"text": "hi", "logprobs": {"token_logprobs": [0.0]}, "finish_reason": "stop"}]}),
            "too old",
        ),
        (COMPLETIONS, (200, {"something": "else"}), "another form"),
        (
            COMPLETIONS,
            (
                200,
                {"choices": [{"token_ids": [5], "logprobs": {"token_logprobs": [-1.0]}, "finish_reason": "length"}]},
            ),
            "--logprobs-mode processed_logprobs",
        ),
    ],
)
def test_what_is_wrong_with_a_server_is_said_at_the_start(start: Start, path: str, reply: Reply, advice: str) -> None:
    with pytest.raises(ConfigError, match=advice):
        start({path: lambda _body, _seen: reply})


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("LoRA is not enabled! Use `--enable-lora` to enable LoRA.", "--enable-lora"),
        ("LoRA rank 64 is greater than max_lora_rank 8.", "--max-lora-rank"),
    ],
)
def test_an_adapter_that_is_not_taken_is_explained(start: Start, said: str, advice: str) -> None:
    def refuse(body: dict[str, Any], seen: int) -> Reply:
        return (500, {"error": {"message": said}}) if body else (400, {})

    with pytest.raises(ConfigError, match=advice):
        start({"/v1/load_lora_adapter": refuse})


def test_another_model_is_known_by_its_voice(start: Start) -> None:
    with pytest.raises(ConfigError, match="does not speak as the trainer does"):
        start(tolerance=0.1)


def test_nothing_at_the_url_is_said_with_the_command_that_starts_a_server(tiny_policy: Policy) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ConfigError, match=rf"no vLLM server answers at {url}.*vllm serve MODEL --enable-lora"):
        VLLMServer([url]).start(tiny_policy)


def test_weights_without_an_adapter_need_another_engine() -> None:
    whole = Policy(PolicyConfig(base="tiny", dtype="float32"))
    with pytest.raises(ConfigError, match=r"model\.policy\.lora is null"):
        VLLMServer().start(whole)


@pytest.mark.parametrize("settings", [{"urls": []}, {"concurrency": 0}, {"urls": ["http://x"], "launch": Launch()}])
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"data\.engine"):
        VLLMServer(**settings)


@pytest.mark.parametrize("seconds", [0.0, 0.1, 7.0, 600.0])
def test_pauses_grow_and_end(seconds: float) -> None:
    pauses = list(_pauses(seconds))
    assert pauses
    assert sum(pauses) == pytest.approx(seconds)
    assert pauses[:-1] == sorted(pauses[:-1])


def test_an_engine_that_was_not_started_says_so() -> None:
    with pytest.raises(EngineError, match="started"):
        _ = VLLMServer().capabilities
