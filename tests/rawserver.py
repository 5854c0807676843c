"""A server on loopback that answers with whatever bytes it is told, be they HTTP or not."""

import asyncio
import contextlib
import random
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Self

from tests.hostile import picture

_CHUNKED = b"5\r\nabcde\r\n0\r\nX-Trailer: 1\r\n\r\n"


class RawServer:
    """Answers request `/n` with the nth of its answers and hangs up; runs in a thread."""

    def __init__(self, answers: list[bytes], tls: ssl.SSLContext | None = None) -> None:
        self._answers = answers
        self._tls = tls
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        async with await asyncio.start_server(
            self._answer, "127.0.0.1", 0, backlog=512, ssl=self._tls
        ) as server:
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()
            await self._stopped.wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            path = request.split(b" ")[1].decode()
            writer.write(self._answers[int(path[1:])] if path[1:].isdigit() else _NOT_FOUND)
            await writer.drain()
        writer.close()


Talk = Callable[[str, int, asyncio.StreamWriter], Awaitable[None]]


class KeptServer(RawServer):
    """Keeps its connections and says what a test wants, when it wants; remembers every request.

    `talk` gets the path, the number of the request on its connection, and what to write to.
    """

    def __init__(self, talk: Talk, tls: ssl.SSLContext | None = None) -> None:
        super().__init__([], tls)
        self._talk = talk
        self.requests: list[tuple[float, str]] = []

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = 0
        try:
            while not writer.is_closing():
                request = await reader.readuntil(b"\r\n\r\n")
                path = request.split(b" ")[1].decode()
                self.requests.append((time.monotonic(), path))
                self._writer = writer
                await self._talk(path, number, writer)
                number += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def say(self, data: bytes) -> None:
        """Write something that nobody asked for where the last request came from."""
        asyncio.run_coroutine_threadsafe(self._say(data), self._loop).result(10)

    async def _say(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def response(body: bytes, *lines: bytes, status: bytes = b"200 OK") -> bytes:
    """Return an answer with its length."""
    length = b"Content-Length: %d" % len(body)
    return _response(b"\r\n".join([status, length, *lines]), body)


def chunked(*pieces: bytes) -> bytes:
    """Return an answer in chunks."""
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""]]
    return _response(b"200 OK\r\nTransfer-Encoding: chunked", b"".join(chunks))


def _response(head: bytes, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 " + head + b"\r\n\r\n" + body


def odd_answers() -> list[bytes]:
    """Return answers at the edges of the protocol."""
    body = picture()
    length = b"Content-Length: %d" % len(body)
    return [
        _response(b"200 OK\r\n" + length, body),
        _response(b"200 OK\r\nTransfer-Encoding: chunked", _CHUNKED),
        _response(b"200 OK\r\nTransfer-Encoding: chunked\r\n" + length, _CHUNKED),
        _response(b"200 OK\r\nTransfer-Encoding: chunked", b"ffffffffffffffff\r\n" + body),
        _response(b"200 OK\r\nTransfer-Encoding: chunked", b"-5\r\nabcde\r\n0\r\n\r\n"),
        _response(b"200 OK\r\nTransfer-Encoding: gzip, chunked", _CHUNKED),
        _response(b"200 OK\r\nContent-Length: -1", body),
        _response(b"200 OK\r\nContent-Length: 99999999999999999999999", body),
        _response(b"200 OK\r\nContent-Length: 5\r\nContent-Length: 6", body),
        _response(b"200 OK\r\nContent-Encoding: br", body),
        _response(b"200 OK\r\nContent-Encoding: gzip", b"\x1f\x8b" + bytes(99)),
        _response(b"200 OK\r\nContent-Type: \xff\xfe\x00/;;;;=", body),
        _response(b"200 OK\r\nX-Robots-Tag: \xff\xfe\r\n" + length, body),
        _response(b"200 OK\r\n" + b"X: y\r\n" * 30_000 + length, body),
        _response(b"200 OK\r\nX-Empty\r\n:\r\n \r\n" + length, body),
        _response(b"429 Slow\r\nRetry-After: 99999999999999999999999999"),
        _response(b"503 Busy\r\nRetry-After: Thu, 99 Foo 2026 25:61:61 GMT"),
        _response(b"302 Found\r\nLocation: \xff\xfe\xfd"),
        _response(b"302 Found\r\nLocation: http://[::ffff:10.0.0.1]/"),
        _response(b"302 Found\r\nLocation: http://" + b"a" * 5000),
        _response(b"301 Moved\r\nLocation: "),
        _response(b"101 Switching Protocols\r\nUpgrade: websocket", body),
        _response(b"999 What\r\n" + length, body),
        _response(b"-1 What\r\n" + length, body),
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 \xff\xff\r\n\r\n",
        b"ICY 200 OK\r\n\r\n" + body,
        b"\r\n" * 5000,
        b"\0" * 5000,
        body,
        b"",
    ]


def mutated_answers(count: int, seed: int = 0) -> Iterator[bytes]:
    """Damage the heads of odd answers, each time in another way."""
    rng = random.Random(seed)
    originals = odd_answers()
    for _ in range(count):
        data = bytearray(rng.choice(originals)[:4000])
        for _ in range(rng.choice((1, 2, 5))):
            at = rng.randrange(min(len(data), 120) + 1)
            match rng.randrange(4):
                case 0:
                    data[at : at + 1] = bytes([rng.randrange(256)])
                case 1:
                    del data[at : at + rng.randrange(9)]
                case 2:
                    data[at:at] = rng.choice((b"\r\n", b"\0", b": ", b"HTTP/1.1 ", b"\xff\xfe"))
                case _:
                    data[at:at] = data[at : at + 30]
        yield bytes(data)
