"""Debian's chromium without a window, driven over its own protocol (CDP) by Tornado's client."""

import asyncio
import base64
import contextlib
import itertools
import json
import re
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import WebSocketClientConnection, websocket_connect

PROGRAM = "chromium"
DESKTOP, PHONE = (1280, 900), (390, 844)
"""Width and height in CSS pixels."""

IN_ALL_ROOTS = """
    const texts = (node) => node.shadowRoot ? texts(node.shadowRoot)
        : [...node.childNodes].map((child) => child.nodeType === 3 ? child.data
            : ["SCRIPT", "STYLE"].includes(child.tagName) ? "" : texts(child)).join(" ");
    const all = (node, name) => [...node.querySelectorAll("*")].flatMap((child) => [
        ...(child.matches(name) ? [child] : []),
        ...(child.shadowRoot ? all(child.shadowRoot, name) : []),
    ]);
"""
"""Functions that look into the shadow roots in which Bokeh puts everything."""


def missing() -> bool:
    """Tell whether there is no chromium here."""
    return shutil.which(PROGRAM) is None


class Tab:
    """One page, and what it complained of."""

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.complaints: list[str] = []
        self.requests: list[str] = []
        """Urls that it asked for."""

    async def listen(self) -> None:
        """Take what the browser says until it goes."""
        while (message := await self._socket.read_message()) is not None:
            said = json.loads(message)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
                continue
            details = said["params"]
            if said["method"] == "Network.requestWillBeSent":
                self.requests.append(details["request"]["url"])
            if said["method"] == "Runtime.exceptionThrown":
                self.complaints.append(str(details["exceptionDetails"]))
            if said["method"] == "Log.entryAdded" and details["entry"]["level"] == "error":
                self.complaints.append(str(details["entry"]))
            if said["method"] == "Runtime.consoleAPICalled" and details["type"] == "error":
                self.complaints.append(str(details["args"]))

    async def call(self, method: str, **details: Any) -> dict[str, Any]:
        """Have the browser do something; return its answer."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.write_message(
            json.dumps({"id": number, "method": method, "params": details})
        )
        said = await asyncio.wait_for(answer, 60)
        if "error" in said:
            raise RuntimeError(f"{method}: {said['error']}")
        result: dict[str, Any] = said["result"]
        return result

    async def open(self, url: str) -> None:
        """Go to a page."""
        await self.call("Page.navigate", url=url)

    async def show_as(self, size: tuple[int, int], *, is_dark: bool) -> None:
        """Take another size and theme."""
        width, height = size
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 800,
        )  # fmt: skip
        theme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[theme])

    async def press(self, key: str) -> None:
        """Press a key that has a name, such as Tab, and let it go."""
        text = {"Enter": "\r"}.get(key, "")
        code = {"Enter": 13, "Tab": 9}[key]
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent",
                type=kind, key=key, code=key, text=text, windowsVirtualKeyCode=code,
            )  # fmt: skip

    async def value(self, code: str) -> Any:
        """Return what an expression in JavaScript gives, or promises; see `IN_ALL_ROOTS`."""
        answer = await self.call(
            "Runtime.evaluate",
            expression=f"(async () => {{{IN_ALL_ROOTS} return {code};}})()",
            awaitPromise=True,
            returnByValue=True,
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    async def text(self) -> str:
        """Return all that can be read on the page."""
        return re.sub(r"\s+", " ", await self.value("texts(document.body)") or "")

    async def wait_for(self, code: str, timeout_s: float = 60) -> None:
        """Wait until an expression holds."""
        deadline = time.monotonic() + timeout_s
        while not await self.value(f"document.body && ({code})"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{code} does not hold; the page reads: {await self.text()}")
            await asyncio.sleep(0.1)

    async def screenshot(self) -> bytes:
        """Return what the page looks like, to its end, as a PNG."""
        taken = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(taken["data"])


@contextlib.asynccontextmanager
async def browsing(folder: Path, options: Sequence[str] = ()) -> AsyncIterator[Tab]:
    """Yield an empty page of a browser whose profile lies in `folder`."""
    command = [
        PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--hide-scrollbars", "--disable-extensions",
        "--disable-background-networking", "--remote-debugging-port=0",
        f"--user-data-dir={folder}", *options, "about:blank",
    ]  # fmt: skip
    browser = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        socket = await websocket_connect(await _tab_address(browser), max_message_size=1 << 28)
        tab = Tab(socket)
        listening = asyncio.create_task(tab.listen())
        try:
            for domain in ("Page", "Runtime", "Log", "Network"):
                await tab.call(f"{domain}.enable")
            yield tab
        finally:
            socket.close()
            await listening
    finally:
        browser.kill()
        await browser.communicate()


async def _tab_address(browser: asyncio.subprocess.Process) -> str:
    """Return where the one page of a browser that has just been started listens."""
    said = b""
    while not (found := re.search(rb"ws://(127\.0\.0\.1:\d+)/", said)):
        line = await browser.stderr.readline() if browser.stderr else b""
        if not line:
            raise RuntimeError(f"chromium does not start: {said.decode(errors='replace')}")
        said += line
    while True:
        answer = await AsyncHTTPClient().fetch(f"http://{found[1].decode()}/json/list")
        for each in json.loads(answer.body):
            if each["type"] == "page":
                return str(each["webSocketDebuggerUrl"])
