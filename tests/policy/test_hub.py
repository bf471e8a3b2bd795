"""Base models by hub id: revision, token, shards and cache, of a hub on loopback that keeps private things private."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from transformers import LlamaConfig

from gpo_lightning.errors import ConfigError
from gpo_lightning.policy import Policy, PolicyConfig
from tests.models import LLAMA, own_logprobs, scored, write_model

ID, TOKEN = "someone/tiny-llama", "hf_private"
COMMITS = {"main": "a" * 40, "v1.0": "b" * 40}


class Hub(ThreadingHTTPServer):
    """Serves one private repository with two revisions, of which `v1.0` has other weights.

    Args:
        folders: the files, by commit.
    """

    def __init__(self, folders: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folders, self.asked = folders, list[str]()

    def file(self, path: str) -> tuple[str, Path] | None:
        """Commit and file of `/someone/tiny-llama/resolve/REVISION/NAME`."""
        _, _, rest = path.partition(f"/{ID}/resolve/")
        revision, _, name = rest.partition("/")
        commit = COMMITS.get(revision, revision)
        file = self.folders.get(commit, Path("/nowhere")) / name
        return (commit, file) if name and file.is_file() else None

    def listing(self, path: str) -> Any:
        """Of `/api/models/someone/tiny-llama/revision/REVISION`, or `/tree/`: which files there are."""
        for kind in ("revision", "tree"):
            _, found, rest = path.partition(f"/api/models/{ID}/{kind}/")
            revision, _, folder = rest.partition("/")
            if found and not folder:
                commit = COMMITS.get(revision, revision)
                files = sorted(self.folders[commit].iterdir())
                if kind == "tree":
                    return [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": commit} for f in files]
                return {"id": ID, "sha": commit, "siblings": [{"rfilename": file.name} for file in files]}
        return None


class Answer(BaseHTTPRequestHandler):
    server: Hub  # type: ignore[assignment]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        self.server.asked.append(self.path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            # The hub does not say whether a private repository exists.
            return self.say(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b"")
        if (listed := self.server.listing(self.path.partition("?")[0])) is not None:
            return self.say(200, {"Content-Type": "application/json"}, json.dumps(listed).encode(), body)
        found = self.server.file(self.path.partition("?")[0])
        if found is None:
            return self.say(404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}, b"")
        content = found[1].read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": found[0]}
        return self.say(200, headers, content, body)

    def say(self, status: int, headers: dict[str, str], content: bytes, body: bool = True) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folders = {commit: tmp_path / commit for commit in COMMITS.values()}
    for revision, commit in COMMITS.items():
        settings = LLAMA | {"initializer_range": 0.1 if revision == "main" else 0.3}
        write_model(folders[commit], LlamaConfig(**settings), max_shard_size="20KB")
    served = Hub(folders)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    # What HF_ENDPOINT and HF_HOME set when the library is imported.
    endpoint = f"http://127.0.0.1:{served.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # keeps the address it was made with
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def test_a_private_model_is_had_by_id_revision_and_token_and_then_without_a_network(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PolicyConfig(base=ID, revision="v1.0", dtype="float32")
    policy = Policy(config)
    assert sum("model-0000" in path and f"/{COMMITS['v1.0']}/" in path for path in hub.asked) > 1, "shards"
    assert not [path for path in hub.asked if f"resolve/{COMMITS['main']}" in path or "resolve/main/" in path]
    local = Policy(PolicyConfig(base=str(hub.folders[COMMITS["v1.0"]]), dtype="float32"))
    assert torch.equal(policy.logprobs(*scored()), local.logprobs(*scored()))
    assert torch.allclose(policy.logprobs(*scored())[:, 1:], own_logprobs(policy.causal_lm), atol=1e-5)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.delenv("HF_TOKEN")
    before = len(hub.asked)
    again = Policy(config)
    assert len(hub.asked) == before, "HF_HUB_OFFLINE: the cache is all that is asked"
    assert torch.equal(again.logprobs(*scored()), local.logprobs(*scored()))
    with pytest.raises(ConfigError, match=r"model\.policy\.base.*'someone/tiny-llama'.*HF_HOME"):
        Policy(PolicyConfig(base=ID, dtype="float32"))  # whose newest revision is not in the cache


@pytest.mark.parametrize("token", [None, "hf_wrong"])
def test_without_its_token_a_private_model_is_refused_with_what_to_look_at(
    token: str | None, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ConfigError, match=r"model\.policy\.base.*'someone/tiny-llama'.*HF_TOKEN") as refusal:
        Policy(PolicyConfig(base=ID, dtype="float32"))
    assert "hf_wrong" not in str(refusal.value)


def test_a_quantised_model_on_the_hub_is_refused_by_its_configuration_alone(hub: Hub) -> None:
    settings = hub.folders[COMMITS["main"]] / "config.json"
    written = json.loads(settings.read_text()) | {"quantization_config": {"quant_method": "awq", "bits": 4}}
    settings.write_text(json.dumps(written))
    with pytest.raises(ConfigError, match=r"'someone/tiny-llama' are quantised \(AWQ\)"):
        Policy(PolicyConfig(base=ID, dtype="float32"))
    assert not [path for path in hub.asked if path.endswith(".safetensors")]


def test_a_misspelt_embedded_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"could be loaded from 'tny'\. Did you mean tiny\?"):
        Policy(PolicyConfig("tny", lora=None))
