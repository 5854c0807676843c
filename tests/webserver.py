"""A real web server on loopback with every fault we know of, which remembers who asked what.

It answers for all hosts that a test resolves to it. The name of the file asked for, up to a dash,
is the behaviour (``/cut.jpg``, ``/ok-7.jpg``, ``/404.jpg``), so one server serves a whole list, and
``robots`` gives robots.txt files by host.
"""

import asyncio
import contextlib
import gzip
import ssl
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Self

from aiohttp import web
from PIL import Image

from tests.hostile import bomb, broken, picture


@dataclass(frozen=True)
class Request:
    """A request as the server saw it; times are those of `time.monotonic`."""

    host: str
    path: str
    began: float
    ended: float


HITS = web.AppKey("hits", Counter[tuple[str, str]])
Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebServer:
    """Runs in a thread of its own; a context manager."""

    def __init__(self, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> None:
        self.robots: dict[str, bytes | int] = {}
        self.moved: dict[str, str] = {}
        """Where the robots.txt of a host has moved to."""
        self.bodies: dict[str, bytes] = {}
        self.log: list[Request] = []
        self.hits: Counter[tuple[str, str]] = Counter()
        self.starts: defaultdict[str, list[float]] = defaultdict(list)
        self.peak: Counter[str] = Counter()
        self.headers: dict[str, dict[str, str]] = {}
        self.connections = 0
        self._in_flight: Counter[str] = Counter()
        self._tls = tls
        self.address = address
        self._ready = threading.Event()
        self._peers: set[object] = set()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)

    def url(self, path: str, host: str = "a.test") -> str:
        """Return the url of a path on one of the hosts."""
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        app = web.Application()
        app[HITS] = self.hits
        app.router.add_get("/{path:.*}", self._answer)
        runner = web.AppRunner(
            app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None
        )
        await runner.setup()
        site = web.TCPSite(runner, self.address, 0, ssl_context=self._tls, backlog=1024)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stopped.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        host = request.host.rpartition(":")[0]
        self.hits[host, request.path] += 1
        began = time.monotonic()
        self.starts[host].append(began)
        self.headers[request.path] = dict(request.headers)
        self._in_flight[host] += 1
        self.peak[host] = max(self.peak[host], self._in_flight[host])
        if request.transport not in self._peers:
            self._peers.add(request.transport)
            self.connections += 1
        try:
            return await self._behave(host, request)
        finally:
            self._in_flight[host] -= 1
            self.log.append(Request(host, request.path, began, time.monotonic()))

    async def _behave(self, host: str, request: web.Request) -> web.StreamResponse:
        if request.path == "/robots.txt" and host in self.moved:
            return web.Response(status=301, headers={"Location": self.moved[host]})
        if request.path == "/robots.txt":
            return _robots(self.robots.get(host, 404))
        if request.path in self.bodies:
            return web.Response(body=self.bodies[request.path], content_type="image/jpeg")
        name = PurePosixPath(request.path).stem.partition("-")[0]
        behaviour = BEHAVIOURS.get(name)
        if behaviour is not None:
            return await behaviour(request)
        return web.Response(status=int(name) if name.isdecimal() else 404)


def _robots(answer: bytes | int) -> web.Response:
    return web.Response(status=answer) if isinstance(answer, int) else web.Response(body=answer)


def _body(data: bytes, **headers: str) -> Behaviour:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=data, headers={"Content-Type": "image/jpeg", **headers})

    return answer


async def _ok(request: web.Request) -> web.Response:
    seed = sum(map(ord, request.path_qs + request.host))
    return web.Response(body=picture(seed=seed), content_type="image/jpeg")


async def _slow(request: web.Request) -> web.Response:
    await asyncio.sleep(float(request.query.get("s", "0.2")))
    return await _ok(request)


async def _halves(request: web.Request) -> web.StreamResponse:
    """Send the second half of a picture after a while."""
    body = (await _ok(request)).body
    assert isinstance(body, bytes)
    response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[:300])
    await asyncio.sleep(float(request.query.get("s", "0.5")))
    await response.write(body[300:])
    return response


async def _hang(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def _redirect(request: web.Request) -> web.Response:
    code = int(request.query.get("code", "302"))
    headers = {"Location": request.query["to"]} if "to" in request.query else {}
    return web.Response(status=code, headers=headers)


async def _loop(request: web.Request) -> web.Response:
    n = int(request.query.get("n", "0"))
    return web.Response(status=301, headers={"Location": f"/loop.jpg?n={n + 1}"})


async def _raw(request: web.Request, data: bytes) -> web.Response:
    """Write bytes that no HTTP server would, and hang up."""
    assert request.transport is not None
    request.transport.write(data)
    await asyncio.sleep(0)
    request.transport.close()
    return web.Response()


async def _cut(request: web.Request) -> web.Response:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 99999\r\n\r\n"
    return await _raw(request, head + picture()[:500])


async def _drop(request: web.Request) -> web.Response:
    return await _raw(request, b"")


async def _garbage(request: web.Request) -> web.Response:
    return await _raw(request, b"\x16\x03\x01 no http at all\r\n\r\n" * 50)


async def _long_header(request: web.Request) -> web.Response:
    return await _raw(request, b"HTTP/1.1 200 OK\r\nX-Much: " + b"a" * 300_000 + b"\r\n\r\n")


async def _dribble(request: web.Request, begin: bytes, more: bytes) -> web.Response:
    """Begin an answer whose headers never end."""
    assert request.transport is not None
    request.transport.write(begin)
    while not request.transport.is_closing():
        request.transport.write(more)
        await asyncio.sleep(0.02)
    return web.Response()


async def _drip_header(request: web.Request) -> web.Response:
    return await _dribble(request, b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a")


async def _hints(request: web.Request) -> web.Response:
    return await _dribble(request, b"", b"HTTP/1.1 103 Early Hints\r\n\r\n")


async def _stream(request: web.Request, chunk: bytes, pause_s: float) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        await response.write(picture()[:200])
        while True:
            await response.write(chunk)
            await asyncio.sleep(pause_s)
    return response


async def _endless(request: web.Request) -> web.StreamResponse:
    return await _stream(request, b"\0" * 65536, 0)


async def _drip(request: web.Request) -> web.StreamResponse:
    return await _stream(request, b"\0", 0.05)


async def _flaky(request: web.Request) -> web.Response:
    """Fail the first time."""
    host = request.host.rpartition(":")[0]
    is_first = request.app[HITS][host, request.path] == 1
    return web.Response(status=503) if is_first else await _ok(request)


async def _busy(request: web.Request) -> web.Response:
    """Ask to be left alone for a second, the first time."""
    host = request.host.rpartition(":")[0]
    is_first = request.app[HITS][host, request.path] == 1
    again = {"Retry-After": request.query.get("after", "1")}
    return web.Response(status=429, headers=again) if is_first else await _ok(request)


BEHAVIOURS: dict[str, Behaviour] = {
    "ok": _ok,
    "slow": _slow,
    "halves": _halves,
    "hang": _hang,
    "redirect": _redirect,
    "loop": _loop,
    "cut": _cut,
    "drop": _drop,
    "garbage": _garbage,
    "longheader": _long_header,
    "dripheader": _drip_header,
    "hints": _hints,
    "endless": _endless,
    "drip": _drip,
    "flaky": _flaky,
    "busy": _busy,
    "png": _body(picture("PNG")),
    "webp": _body(picture("WEBP")),
    "gif": _body(picture("GIF")),
    "empty": _body(b""),
    "html": _body(b"<html>not found</html>", **{"Content-Type": "text/html"}),
    "mislabelled": _body(picture(), **{"Content-Type": "text/html"}),
    "htmlasjpeg": _body(b"<html>not found</html>"),
    "big": _body(b"\0" * 3_000_000),
    "gzip": _body(gzip.compress(b"\0" * 50_000_000), **{"Content-Encoding": "gzip"}),
    "noai": _body(picture(), **{"X-Robots-Tag": "noai, noimageai"}),
    "otherbot": _body(picture(), **{"X-Robots-Tag": "otherbot: noai"}),
    "tdm": _body(picture(), **{"TDM-Reservation": "1"}),
    "eps": _body(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\nshowpage\n"),
    "truncated": _body(picture(size=(400, 300))[:3000]),
    "corrupt": _body(b"\xff\xd8\xff\xe0" + b"\x00\x10JFIF" + b"junk" * 500),
    "broken": _body(broken()),
    "cookie": _body(picture(), **{"Set-Cookie": "a=b"}),
    "bomb": _body(bomb()),
    "tiny": _body(picture(size=(10, 10))),
    "strip": _body(picture(size=(900, 70))),
    "animated": _body(
        picture("GIF", save_all=True, append_images=[Image.new("RGB", (96, 72), "red")])
    ),
}
