"""A headless Chromium, spoken to in its own protocol (CDP): a page is opened, keys are pressed, scripts answer."""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_chromium() -> str | None:
    """The program that GPO_CHROMIUM names, or one of the usual ones."""
    named = os.environ.get("GPO_CHROMIUM")
    return named or next((found for name in _NAMES if (found := shutil.which(name))), None)


def chromium_or_skip() -> str:
    """The browser's program; without one the test is skipped."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium is installed (apt-get install chromium, or GPO_CHROMIUM names one)")
    return program


class Page:
    """One tab.

    Args:
        program: of the browser.
        folder: for its profile.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        flags = (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
        )
        switches = (
            *flags,
            "--remote-debugging-port=0",
            "--remote-allow-origins=*",
            f"--user-data-dir={folder}",
            "about:blank",
        )
        self._process = subprocess.Popen(
            (program, *switches), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._events: list[dict[str, Any]] = []
        self._number = 0
        self._do(self._connect(self._port()))
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _port(self) -> int:
        lines = iter(self._process.stderr or ())
        address = next(line for line in lines if "DevTools listening on" in line)
        return int(address.split("://")[1].split("/")[0].split(":")[1])

    async def _connect(self, port: int) -> None:
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            tabs = await answer.json()
        address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        self._socket = await self._session.ws_connect(address, max_msg_size=0)

    def _do(self, work: Any) -> Any:
        return self._loop.run_until_complete(asyncio.wait_for(work, 60))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        return self._do(self._call(method, parameters))

    async def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        number = self._number
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = json.loads((await self._socket.receive()).data)
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"])[:2000])
        if event["method"] == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.complaints.append(parameters["entry"]["text"])
        if event["method"] == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(parameters["args"]))
        if event["method"] == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])

    def size(self, width: int, height: int, dark: bool = False) -> None:
        """Set the viewport and the colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, path: Path, fragment: str = "") -> None:
        """Load a file, and wait until the page says that it is ready."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=f"{path.resolve().as_uri()}{fragment}")
        self.wait("document.querySelector('gpo-explorer')?.dataset.ready !== undefined")

    def evaluate(self, script: str) -> Any:
        """The value of an expression, awaited where it is a promise."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {json.dumps(result['exceptionDetails'])[:2000]}")
        return result["result"].get("value")

    def wait(self, condition: str, seconds: float = 20) -> None:
        """Until an expression is true."""
        script = f"""new Promise((resolve) => {{
            const end = performance.now() + {1000 * seconds};
            const late = () => performance.now() > end;
            const look = () => (({condition}) ? resolve(true) : late() ? resolve(false) : setTimeout(look, 10));
            look();
        }})"""
        for _ in range(50):
            with contextlib.suppress(RuntimeError):  # the page is being replaced
                assert self.evaluate(script), f"not within {seconds} s: {condition}"
                return
        raise AssertionError(condition)

    def press(self, key: str) -> None:
        """Press a key, wherever the focus is."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def picture(self, path: Path) -> None:
        """Write what is seen as a PNG file."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(Exception):
            self.call("Browser.close")
        self._do(self._session.close())
        self._loop.close()
        self._process.terminate()
        self._process.wait(10)
        if self._process.stderr is not None:
            self._process.stderr.close()


@contextlib.contextmanager
def browser(folder: Path) -> Generator[Page]:
    """A tab that is closed at the end."""
    page = Page(chromium_or_skip(), folder)
    try:
        yield page
    finally:
        page.close()
