"""A server does not send prompts elsewhere, nor end the run by how it says no."""

from collections.abc import Iterator

import pytest

from gpo_lightning.engines import VLLMServer
from gpo_lightning.errors import ConfigError
from gpo_lightning.policy import Policy
from tests.engines.faulty_server import ELSEWHERE, FaultyServer, Reply


@pytest.fixture(params=["/v1/models", "/v1/completions"])
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[(307, {}), (308, {}), (400, b"[" * 100_000)], ids=["307", "308", "nested"])
def server(request: pytest.FixtureRequest, path: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    reply: Reply = request.param
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    server = FaultyServer({path: lambda _body, _seen: reply})
    yield server
    server.close()


def test_what_is_no_answer_is_refused_by_what_it_is(server: FaultyServer, tiny_policy: Policy) -> None:
    engine = VLLMServer([server.url], patience=5.0, tolerance=1e9)

    def ask() -> None:
        engine.start(tiny_policy)
        engine.sync(tiny_policy, 0)

    with pytest.raises(ConfigError) as refusal:
        ask()
    engine.shutdown()
    said = str(refusal.value)
    assert f"sends requests elsewhere, to '{ELSEWHERE}'" in said or "[[[" in said
