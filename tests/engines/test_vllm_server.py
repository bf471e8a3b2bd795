"""The server engine against a real vLLM server on loopback: one for the whole file, started once more when killed."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpo_lightning.engines import Completion, Purpose, Recovery, Request, RestartingEngine, Sampling, VLLMServer
from gpo_lightning.engines.vllm_launch import Child, Launch, _free_port
from gpo_lightning.errors import ConfigError
from gpo_lightning.policy import Policy, PolicyConfig
from tests.conftest import disturb, lora
from tests.engines.definitions import check_log_probs, check_stop_texts, check_stop_tokens
from tests.engines.test_agreement import PREFIX, largest_gap, requests, trainer_logprobs

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

KEY = "sesame"


def policy_of(base: str = "tiny", rank: int = 4) -> Policy:
    return Policy(PolicyConfig(base=base, lora=lora(rank), dtype="float32"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    folder = tmp_path_factory.mktemp("server")
    os.environ["VLLM_API_KEY"] = KEY
    child = Launch(memory_gib=0.25, log=folder / "log").start(policy_of())
    yield child
    child.end()
    os.environ.pop("VLLM_API_KEY", None)


@pytest.fixture(scope="module")
def plain_server(server: Child, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """One that was started without LoRA; nothing else differs."""
    without = [flag for flag in server.command if flag != "--enable-lora"]
    port = str(_free_port())
    without[without.index("--port") + 1] = port
    child = Child(without, f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("plain") / "log")
    child.ensure_running()
    yield child
    child.end()


@pytest.fixture
def policy() -> Policy:
    return policy_of()


@pytest.fixture
def engine(server: Child, policy: Policy) -> Iterator[VLLMServer]:
    started = VLLMServer([server.url], wait=300)
    started.start(policy)
    yield started
    started.shutdown()


def test_server_and_trainer_agree_after_every_sync(engine: VLLMServer, policy: Policy) -> None:
    fixed = Completion(0, tuple(range(5, 25)), (), truncated=True)
    engine.sync(policy, 0)
    assert largest_gap(policy, engine.generate(requests())) < 1e-3
    for version in (1, 2):
        before = trainer_logprobs(policy, fixed)
        disturb(policy, size=0.1, seed=version)
        moved = (trainer_logprobs(policy, fixed) - before).abs().max()
        assert moved > 0.1, "weights that hardly move would let a stale server pass"
        engine.sync(policy, version)
        # The prefix was computed and cached with the old weights; the first answer must not know that.
        first = engine.generate(requests(1))
        assert first[0].cached == 0
        assert largest_gap(policy, first + engine.generate(requests())) < 1e-3
        assert engine.version == version
    assert engine.capabilities.context == policy.context


def test_token_ids_go_in_and_out_exactly_and_the_ledger_adds_up(engine: VLLMServer, policy: Policy) -> None:
    disturb(policy, size=0.1, seed=77)
    engine.sync(policy, 0)
    wanted = [
        Request(PREFIX[: 9 * n], length, Sampling(48), Purpose.PROBE, n) for n in range(1, 9) for length in (3, 48)
    ]
    made = engine.generate(wanted)
    for request, completion in zip(wanted, made, strict=True):
        assert 0 < len(completion.tokens) <= request.max_tokens
        assert len(completion.logprobs) == len(completion.tokens)
        assert completion.truncated == (completion.tokens[-1] not in policy.eos_ids)
        assert not set(completion.tokens[:-1]) & set(policy.eos_ids), "ends where it should"
    assert largest_gap_of(policy, wanted, made) < 1e-3
    booked = engine.ledger.accounts[Purpose.PROBE]
    assert booked.requests == len(wanted)
    assert booked.generated == sum(len(completion.tokens) for completion in made)
    assert booked.prefilled + booked.cached == sum(len(request.prefix) for request in wanted)
    assert booked.cached > 0, "prefixes of more than a block are shared"


def largest_gap_of(policy: Policy, wanted: list[Request], made: list[Completion]) -> float:
    gaps: list[float] = []
    for request, completion in zip(wanted, made, strict=True):
        ids = torch.tensor([request.prefix + completion.tokens])
        mask = torch.zeros_like(ids)
        mask[:, len(request.prefix) :] = 1
        with torch.no_grad():
            ours = policy.logprobs(ids, torch.ones_like(ids), mask)[0, len(request.prefix) :]
        gaps.append(float((ours - torch.tensor(completion.logprobs)).abs().max()))
    return max(gaps)


def test_behaviour_logprobs_are_those_after_temperature(engine: VLLMServer, policy: Policy) -> None:
    engine.sync(policy, 0)
    (made,) = engine.generate([Request(PREFIX, 16, Sampling(16, temperature=0.5), Purpose.SAMPLE, 0)])
    ids = torch.tensor([PREFIX + made.tokens])
    mask = torch.zeros_like(ids)
    mask[:, len(PREFIX) :] = 1
    with torch.no_grad():
        ours = policy.logprobs(ids, torch.ones_like(ids), mask, temperature=0.5)[0, len(PREFIX) :]
    assert (ours - torch.tensor(made.logprobs)).abs().max() < 1e-3


def test_the_server_draws_by_the_definitions(engine: VLLMServer, policy: Policy) -> None:
    engine.sync(policy, 0)
    check_log_probs(engine, policy)
    check_stop_texts(engine, policy)
    check_stop_tokens(engine)


def test_work_goes_on_while_others_run_and_cancelled_requests_are_forgotten(engine: VLLMServer, policy: Policy) -> None:
    engine.sync(policy, 0)
    waiting = {engine.submit(request) for request in requests(3)}
    cancelled = engine.submit(Request(PREFIX, 400, Sampling(400), Purpose.SAMPLE, 0))
    engine.cancel(cancelled)
    finished = {completion.handle for completion in engine.poll()}
    late = engine.submit(requests(1)[0])
    while found := engine.poll():
        finished |= {completion.handle for completion in found}
    assert finished == waiting | {late}
    assert engine.ledger.accounts[Purpose.SAMPLE].requests == 4


def test_a_wrong_key_is_refused(engine: VLLMServer, policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOTHER_KEY", "guess")
    with pytest.raises(ConfigError, match="refused the API key"):
        VLLMServer(engine.urls, api_key_variable="ANOTHER_KEY").start(policy)


def test_another_model_behind_the_url_is_known_by_its_voice(engine: VLLMServer, tmp_path: Path) -> None:
    """The same shape and tokens, other weights: only what it says gives it away."""
    shutil.copytree(policy_of().directory, tmp_path / "other")
    file = tmp_path / "other" / "model.safetensors"
    torch.manual_seed(0)
    save_file(
        {name: w + 0.3 * w.std() * torch.randn(w.shape) for name, w in load_file(file).items()}, file, {"format": "pt"}
    )
    other = policy_of(str(tmp_path / "other"))
    stranger = VLLMServer(engine.urls)
    stranger.start(other)
    try:
        with pytest.raises(ConfigError, match="does not speak as the trainer does"):
            stranger.sync(other, 0)
    finally:
        stranger.shutdown()


def start_and_sync(engine: VLLMServer, policy: Policy) -> None:
    engine.start(policy)
    engine.sync(policy, 0)


def test_a_rank_that_the_server_does_not_hold_is_explained(engine: VLLMServer) -> None:
    wide = policy_of(rank=16)
    asking = VLLMServer(engine.urls)
    asking.start(wide)
    try:
        with pytest.raises(ConfigError, match="--max-lora-rank"):
            asking.sync(wide, 0)
    finally:
        asking.shutdown()


@pytest.mark.long
def test_a_server_without_lora_is_explained(plain_server: Child, policy: Policy) -> None:
    asking = VLLMServer([plain_server.url], wait=300)
    try:
        with pytest.raises(ConfigError, match="--enable-lora"):
            start_and_sync(asking, policy)
    finally:
        asking.shutdown()


def test_adapters_the_server_cannot_see_are_explained(
    engine: VLLMServer, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpo_lightning.engines import vllm_server

    def elsewhere(*_: Any) -> Any:
        return vllm_server.Adapter("gpo-elsewhere", "/on/another/machine")

    monkeypatch.setattr(vllm_server, "write_adapter", elsewhere)
    with pytest.raises(ConfigError, match=r"data\.engine\.init_args\.adapters to a folder shared"):
        engine.sync(policy, 0)


@pytest.mark.long
def test_a_server_killed_in_the_middle_of_a_phase_comes_back_and_nothing_is_lost(
    engine: VLLMServer, server: Child, policy: Policy
) -> None:
    """Last, for it replaces the process."""
    disturb(policy, size=0.1, seed=5)
    engine.sync(policy, 0)
    wanted = [Request(PREFIX, 300, Sampling(300), Purpose.SAMPLE, seed) for seed in range(24)]
    handles = {engine.submit(request) for request in wanted}
    finished = {completion.handle: completion for completion in engine.poll()}
    assert len(finished) < len(handles), "the kill is to come in the middle"
    killed = server.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    while server.ended() is None:
        time.sleep(0.01)
    server.ensure_running()
    while found := engine.poll():
        finished |= {completion.handle: completion for completion in found}
    assert set(finished) == handles
    assert engine.faults["repeated"] >= 1
    assert engine.faults["revived"] == 1
    # Answers from before and after the kill are of the same weights: the adapter was loaded again.
    assert largest_gap(policy, list(finished.values())) < 1e-3
    booked = engine.ledger.accounts[Purpose.SAMPLE]
    assert booked.requests == len(wanted)
    assert booked.generated == sum(len(completion.tokens) for completion in finished.values())


@pytest.mark.long
def test_a_server_of_ours_that_hangs_in_the_middle_of_a_phase_is_killed_and_revived(
    policy: Policy, tmp_path: Path
) -> None:
    disturb(policy, size=0.1, seed=5)
    engine = VLLMServer(launch=Launch(memory_gib=0.25, log=tmp_path / "log"))
    subject = RestartingEngine(engine, Recovery(patience=45))
    subject.start(policy)
    try:
        subject.sync(policy, 0)
        wanted = [Request(PREFIX, 300, Sampling(300), Purpose.SAMPLE, seed) for seed in range(24)]
        asked = {subject.submit(request) for request in (*wanted, *requests(1))}
        finished = {completion.handle: completion for completion in subject.poll()}
        assert engine._child is not None
        assert engine._child.pid is not None
        os.killpg(engine._child.pid, signal.SIGSTOP)
        assert len(finished) < len(asked), "it is to hang in the middle"
        while found := subject.poll():
            finished |= {completion.handle: completion for completion in found}
        assert set(finished) == asked
        # A machine that is very busy may be taken for a hung server once more.
        assert subject.restarts >= 1
        assert largest_gap(policy, list(finished.values())) < 1e-3
    finally:
        subject.shutdown()
