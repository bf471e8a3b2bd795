"""A server that answers as vLLM does, and goes wrong on demand: faults that a sound server cannot be asked for.

    python faulty_server.py PORT MARK

is one as a process of its own, which hangs in its ninth completion unless the file MARK is there, and leaves that file.
"""

import json
import sys
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Reply = tuple[int, Any]
MODELS: Reply = (200, {"data": [{"id": "base", "max_model_len": 512, "parent": None}]})
ELSEWHERE = "http://127.0.0.1:9/elsewhere"
NO_PAGE: Reply = (404, {"detail": "Not Found"})


def tokens(count: int, cached: int | None = 0) -> Reply:
    """`count` tokens, each the only one possible."""
    choice = {"token_ids": [5] * count, "logprobs": {"token_logprobs": [0.0] * count}, "finish_reason": "length"}
    return 200, {"choices": [choice], "usage": {"prompt_tokens_details": {"cached_tokens": cached}}}


class FaultyServer:
    """Answers each path by a function of the request's body and of how often the path was asked before.

    Args:
        replies: what differs from a sound server.
        port: where it listens; 0 takes a free one.
    """

    def __init__(self, replies: dict[str, Callable[[dict[str, Any], int], Reply]] | None = None, port: int = 0) -> None:
        sound: dict[str, Callable[[dict[str, Any], int], Reply]] = {
            "/v1/models": lambda _body, _n: MODELS,
            "/v1/load_lora_adapter": lambda body, _n: (200, {}) if body else (400, {"error": "lora_name is missing"}),
            "/v1/unload_lora_adapter": lambda _body, _n: (200, {}),
            "/v1/completions": lambda body, _n: tokens(body["max_tokens"]),
            "/health": lambda _body, _n: (200, {}),
        }
        self.replies = sound | (replies or {})
        self.asked: Counter[str] = Counter()
        self.keys: set[str | None] = set()
        self.paths: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self, {})

            def do_POST(self) -> None:
                server.answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, format: str, *args: Any) -> None:
                """Silent."""

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        path = handler.path
        self.paths.append(path)
        self.keys.add(handler.headers.get("Authorization"))
        seen, self.asked[path] = self.asked[path], self.asked[path] + 1
        status, said = self.replies.get(path, lambda _body, _n: NO_PAGE)(body, seen)
        if status == 0:  # as a server that dies in the middle
            handler.close_connection = True
            handler.connection.close()
            return
        content = said if isinstance(said, bytes) else json.dumps(said).encode()
        handler.send_response(status)
        if 300 <= status < 400:
            handler.send_header("Location", ELSEWHERE)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def hang_once(port: int, mark: Path) -> None:
    """Serve, and hang for good where no process before this one did."""

    def completions(body: dict[str, Any], seen: int) -> Reply:
        if seen >= 8 and not mark.exists():
            mark.touch()
            threading.Event().wait()
        return tokens(body["max_tokens"])

    FaultyServer({"/v1/completions": completions}, port)
    threading.Event().wait()


if __name__ == "__main__":
    hang_once(int(sys.argv[1]), Path(sys.argv[2]))
