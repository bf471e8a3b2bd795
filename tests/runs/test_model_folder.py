"""What a trained policy leaves behind can be used, understood and uploaded by others."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

from gpo_lightning.errors import ConfigError
from gpo_lightning.policy import Policy
from gpo_lightning.runs.model_folder import Training, push_model, write_model

TRAINING = Training("resets to critical steps", "gpo_lightning.losses.GRPO", "gpo_lightning.problems.ModularChains")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with what the card reads."""
    from gpo_lightning.evaluation import Estimate, Report
    from gpo_lightning.evaluation.report import Figures

    reports = {m: Report(Figures({"accuracy": Estimate(*a)}, 0)).to_dict() for m, a in MEASURED.items()}
    folder = tmp_path / "run"
    (folder / "evaluation").mkdir(parents=True)
    (folder / "evaluation" / "results.json").write_text(json.dumps({"heldout": reports}))
    (folder / "summary.json").write_text(json.dumps({"tokens": {"sample": 1234567, "probe": 89}}))
    return folder


MEASURED = {"0": (0.125, 0.1, 0.15, 512), "4": (0.5, 0.46, 0.54, 512), "8": (0.75, 0.71, 0.79, 512)}


def test_the_adapter_is_complete_and_loads_from_anywhere(
    tiny_policy: Policy, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "adapter"
    write_model(folder, tiny_policy, TRAINING, run)
    monkeypatch.chdir(tmp_path)
    loaded: Any = AutoPeftModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.get_vocab() == tiny_policy.tokenizer.get_vocab()
    assert tokenizer.chat_template == tiny_policy.tokenizer.chat_template
    ids = torch.tensor([[40, 107, 101, 8, 105, 100]])
    with torch.no_grad():
        gap = loaded.eval()(ids).logits - tiny_policy.eval().model(ids).logits
    assert gap.abs().max() < 1e-4
    assert Path(json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]).is_absolute()


def test_the_card_says_where_it_came_from(tiny_policy: Policy, run: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "adapter", tiny_policy, TRAINING, run)
    card = ModelCard.load(tmp_path / "adapter" / "README.md")
    for said in ("gpo_lightning.losses.GRPO", "ModularChains", "1,234,567 sample, 89 probe", "critical steps"):
        assert said in card.text, said
    assert "| heldout | 12.5 % (10.0 to 15.0, n = 512) | 75.0 % (71.0 to 79.0, n = 512) |" in card.text
    assert card.data.to_dict()["library_name"] == "peft"
    assert "base_model" not in card.data.to_dict(), "the hub knows no paths of this machine"


def test_a_whole_model_says_so_and_no_run_is_no_results(tiny_policy: Policy, tmp_path: Path) -> None:
    write_model(tmp_path / "model", tiny_policy, TRAINING, run=None, merged=True)
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert "Not measured in this run." in card.text
    assert card.data.to_dict()["library_name"] == "transformers"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload needs."""

    made: dict[str, Any]

    def do_GET(self) -> None:
        self._answer({"sha": "0" * 40, "id": "me/adapter", "siblings": []})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.made["tokens"].add(self.headers.get("Authorization"))
        if self.path == "/api/repos/create":
            self.made["repo"] = json.loads(body)
            self._answer({"url": f"http://{self.headers['Host']}/me/adapter", "name": "me/adapter", "id": "1"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None} for f in files]
            self._answer({"files": modes})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.made["files"][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._answer(
                {"commitUrl": f"http://{self.headers['Host']}/me/adapter/commit/1", "commitOid": "1", "success": True}
            )
        else:
            self._answer({})

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(403 if self.headers.get("Authorization") == "Bearer wrong" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[str, dict[str, Any]]]:
    made: dict[str, Any] = {"files": {}, "tokens": set()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHub", (Hub,), {"made": made}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", made
    server.shutdown()
    server.server_close()


def test_a_push_brings_every_file_to_the_hub(
    tiny_policy: Policy, tmp_path: Path, hub: tuple[str, dict[str, Any]]
) -> None:
    address, made = hub
    write_model(tmp_path / "adapter", tiny_policy, TRAINING, run=None)
    url = push_model(tmp_path / "adapter", "me/adapter", api=HfApi(address, token="right"))
    assert url.startswith("http")
    assert made["repo"].get("visibility", made["repo"].get("private")) in ("private", True)
    written = {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}
    assert made["files"] == written
    assert {"README.md", "adapter_model.safetensors", "tokenizer.json"} <= set(written)
    assert made["tokens"] == {"Bearer right"}


def test_what_the_hub_refuses_is_explained(tmp_path: Path, hub: tuple[str, dict[str, Any]]) -> None:
    (tmp_path / "README.md").write_text("x")
    with pytest.raises(ConfigError, match="hf auth login"):
        push_model(tmp_path, "me/adapter", api=HfApi(hub[0], token="wrong"))
    with pytest.raises(ConfigError, match="OWNER/NAME"):
        push_model(tmp_path, "not a name!", api=HfApi(hub[0], token="right"))
