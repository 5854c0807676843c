"""Serve the demo's web on loopback, from a process of its own that ends with its parent.

One HTTP server stands for all hosts, and a name server knows none of the names it is asked for, so
nothing leaves this machine. Pictures are drawn when they are asked for.
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import TextIO, cast

import msgspec
from aiohttp import web

from cah_dask.demo.planting import plan_site
from cah_dask.demo.plants import ROBOTS_TXT, Answer
from cah_dask.demo.site import Ports, Site
from cah_dask.errors import RunError

LOOPBACK = "127.0.0.1"
_BACKLOG = 1024


@contextlib.contextmanager
def serve(seed: int, log: Path, share: float = 1.0) -> Iterator[Ports]:
    """Serve the web of a seed while the context is open; give the ports it is at.

    Parameters
    ----------
    seed, share
        See `planting.plan_site`.
    log
        Gets a line for each request: status, a blank, the url.

    Raises
    ------
    RunError
        If the server does not start; what it says goes to stderr.
    """
    command = [sys.executable, "-m", "cah_dask.demo.server", str(seed), str(share), str(log)]
    pipe = subprocess.PIPE
    # In a session of its own, so that an interrupt from the terminal leaves it to us to end it.
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else b""
            if not line:
                raise RunError("the demo's web server did not start")
            yield msgspec.json.decode(line, type=Ports)
        finally:
            if process.stdin:
                process.stdin.close()  # what the server ends by


ANY = Ports(0, 0, 0)
"""Whatever ports are free."""


async def run_server(
    seed: int, share: float, log: TextIO, until: Awaitable[None], wanted: Ports = ANY
) -> None:
    """Serve until something has happened; print the ports, as JSON, when ready."""
    loop = asyncio.get_running_loop()
    with _socket(wanted.web) as listening, _socket(wanted.closed) as closed:
        names, _ = await loop.create_datagram_endpoint(_NoSuchName, (LOOPBACK, wanted.names))
        ports = Ports(_port(listening), _port(closed), names.get_extra_info("sockname")[1])
        app = web.Application()
        app.router.add_get("/{path:.*}", _Servers(plan_site(seed, ports, share), log).answer)
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await runner.setup()
        await web.SockSite(runner, listening, backlog=_BACKLOG).start()
        print(msgspec.json.encode(ports).decode(), flush=True)  # noqa: T201  # for the parent
        await until
        await runner.cleanup()
        names.close()


async def stdin_closed() -> None:
    """Return when stdin is closed."""
    done = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, done.set)
    await done.wait()


def _socket(port: int) -> socket.socket:
    """Return a socket bound to a port, 0 for a free one; nobody can connect before it listens."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((LOOPBACK, port))
    return bound


def _port(bound: socket.socket) -> int:
    port: int = bound.getsockname()[1]
    return port


class _NoSuchName(asyncio.DatagramProtocol):
    """A name server that answers NXDOMAIN to everything (RFC 1035)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Learn how to answer."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        """Repeat the question, and say that there is no such name."""
        question = data[12 : data.index(b"\0", 12) + 5]
        header = data[:2] + b"\x81\x83" + b"\0\x01" + bytes(6)
        self._transport.sendto(header + question, address)


class _Servers:
    """All hosts of the web."""

    def __init__(self, site: Site, log: TextIO) -> None:
        self._answers = site.answers
        self._log = log
        self._asked: Counter[str] = Counter()

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request as planned."""
        url = f"http://{request.host}{request.raw_path}"
        self._asked[url] += 1
        if request.path == "/robots.txt":
            answer = Answer(body=ROBOTS_TXT.encode, content_type="text/plain")
        else:
            answer = self._answers.get(url, Answer(404))
        status = 503 if answer.fails_first and self._asked[url] == 1 else answer.status
        self._log.write(f"{status} {url}\n")
        return await _respond(request, answer, status)


async def _respond(request: web.Request, answer: Answer, status: int) -> web.Response:
    if answer.hangs:
        await asyncio.Event().wait()
    if answer.hangs_up and request.transport:
        request.transport.close()
    await asyncio.sleep(answer.delay_s)
    body = answer.body() if status == answer.status else b""
    headers = {"Content-Type": answer.content_type, **answer.headers}
    return web.Response(status=status, body=body, headers=headers)


def main() -> None:
    """Serve the web that the command line names by seed and share; log to the file after them."""
    seed, share, log = sys.argv[1:]
    with Path(log).open("w", encoding="utf-8", buffering=1) as file:
        asyncio.run(run_server(int(seed), float(share), file, stdin_closed()))


if __name__ == "__main__":
    main()
