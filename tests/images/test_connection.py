"""An answer belongs to its request, and servers see no request that is not in the log."""

import asyncio
import inspect
import itertools
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pyarrow.parquet as pq
import pytest
import trustme
from aiohttp.client_proto import ResponseHandler
from hypothesis import given, settings
from hypothesis import strategies as st

from cah_dask.counts import Status
from cah_dask.images.manners.hosts import HostOptions
from cah_dask.images.web.budgets import Budget, Budgets
from cah_dask.images.web.connection import QUIET_S, Channel
from cah_dask.images.web.fetch import Fetcher, FetchOptions
from cah_dask.images.web.request_url import Target
from tests.hostile import picture
from tests.images.downloads import download, options, rows, statuses
from tests.rawserver import KeptServer, chunked, response

NOT_FOUND = response(b"", status=b"404 Not Found")


def picture_of(path: str) -> bytes:
    return picture(seed=int(path.strip("/").partition(".")[0]))


async def answer_plainly(path: str, _: int, writer: asyncio.StreamWriter) -> None:
    writer.write(NOT_FOUND if path == "/robots.txt" else response(picture_of(path)))


def fetch_options(server: KeptServer, ca_file: str = "") -> FetchOptions:
    return FetchOptions(
        contact="me@lab.example",
        resolve={"*.test": "127.0.0.1"},
        allow_addresses=("127.0.0.1/32",),
        allow_ports=(server.port,),
        ca_file=ca_file,
    )


def origin(server: KeptServer, host: str = "a.test") -> str:
    return f"{'https' if server._tls else 'http'}://{host}:{server.port}"


# What a server does for one request, beside giving the right answer.
SPLIT = st.lists(st.integers(0, 3000), max_size=3).map(sorted)
KINDS = st.sampled_from(["plain", "doubled", "late", "half", "late half", "blank", "chunked"])
SCHEDULES = st.lists(st.tuples(KINDS, SPLIT, st.booleans()), min_size=2, max_size=4)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("a.test").configure_cert(context)
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return context, str(path)


class Odd:
    """Answers each url with its picture, and says more than that, as a schedule wants."""

    def __init__(self) -> None:
        self.schedule: list[tuple[str, list[int], bool]] = []

    async def talk(self, path: str, _: int, writer: asyncio.StreamWriter) -> None:
        kind, cuts, is_chunked = self.schedule[int(path.strip("/"))]
        body = picture_of(path)
        answer = chunked(body[:70], body[70:]) if is_chunked else response(body)
        more = {"doubled": answer, "half": answer[:20], "blank": b"\r\n", "chunked": chunked(body)}
        data = answer + more.get(kind, b"")
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            writer.write(data[begin:end])
            await writer.drain()
            await asyncio.sleep(0)

    def later(self, path: str) -> bytes:
        kind = self.schedule[int(path.strip("/"))][0]
        answer = response(picture_of(path))
        return {"late": answer, "late half": answer[:20]}.get(kind, b"")


@pytest.fixture(scope="module", params=["http", "https"])
def odd(request, ca) -> Iterator[tuple[Odd, KeptServer, str]]:
    odd, (context, path) = Odd(), ca
    with KeptServer(odd.talk, context if request.param == "https" else None) as server:
        yield odd, server, path


@given(schedule=SCHEDULES, waits=st.booleans())
@settings(max_examples=12)
def test_whatever_a_server_says_unasked_every_url_has_its_own_picture(odd, schedule, waits):
    odd, server, ca_file = odd
    odd.schedule = schedule
    before = len(server.requests)

    async def ask() -> list[tuple[Status, bytes]]:
        answers = []
        budgets = Budgets(Budget(None), Budget(None))
        async with Fetcher(fetch_options(server, ca_file), budgets) as fetcher:
            for number in range(len(schedule)):
                where = Target(f"{origin(server)}/{number}", origin(server), "a.test")
                answer = await fetcher.image(where, keep_connection=True)
                answers.append((answer.status, bytes(answer.body)))
                fetcher.forget(answer.body)
                if later := odd.later(f"/{number}"):
                    server.say(later)
                if waits:
                    await asyncio.sleep(2 * QUIET_S)
        return answers

    expected = [(Status.OK, picture(seed=number)) for number in range(len(schedule))]
    assert asyncio.run(ask()) == expected
    assert [path for _, path in server.requests[before:]] == [
        f"/{number}" for number in range(len(schedule))
    ]


def test_a_connection_is_kept_as_long_as_it_says_what_was_asked_for():
    numbers = []

    async def talk(path: str, number: int, writer: asyncio.StreamWriter) -> None:
        numbers.append(number)
        body = picture_of(path)
        writer.write(chunked(body) if number % 2 else response(body))

    async def ask(server: KeptServer) -> None:
        budgets = Budgets(Budget(None), Budget(None))
        async with Fetcher(fetch_options(server), budgets) as fetcher:
            for number in range(6):
                where = Target(f"{origin(server)}/{number}", origin(server), "a.test")
                answer = await fetcher.image(where, keep_connection=True)
                assert bytes(answer.body) == picture(seed=number)
                await asyncio.sleep(2 * QUIET_S)

    with KeptServer(talk) as server:
        asyncio.run(ask(server))
    assert numbers == list(range(6))


def test_who_answers_before_the_request_is_not_asked():
    async def meet() -> bool:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(response(picture()))
            _, channel = await loop.create_connection(lambda: Channel(loop), sock=ours)
            channel.set_response_params()
            return channel.is_connected()

    assert not asyncio.run(meet())


async def heard(pieces: list[bytes]) -> tuple[int, bytes, bool]:
    """Return code and body of what a connection says in pieces, and whether it may be kept."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with theirs:
        transport, channel = await loop.create_connection(lambda: Channel(loop), sock=ours)
        channel.set_response_params()
        for piece in pieces:
            channel.data_received(piece)
        code = 100
        while code < 200:
            message, payload = await asyncio.wait_for(channel.read(), 10)
            code = message.code
        body = await asyncio.wait_for(payload.read(), 10)
        may_be_kept = not channel.should_close
        transport.abort()
        return code, body, may_be_kept


JUNK = st.sampled_from([b"", b"x", b"-\n\n", b"<!--", b"\r\n\r\nHTT", b"\xef\xbb\xbf"])
LINE_ENDS = st.sampled_from([b"\n", b"\r\n"])
TRAILERS = st.sampled_from([b"", b"X: y\n", b"X: y\r\nZ: 1\r\n"])


@given(JUNK, st.lists(st.binary(min_size=1, max_size=40), max_size=4), TRAILERS, st.data())
def test_chunks_are_read_however_their_lines_end_and_they_come(junk, chunks, trailers, data):
    raw = (junk + b"HTTP/1.1 103 Hints\r\n\r\n") * data.draw(st.integers(0, 1))
    raw += junk + b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for piece in [*chunks, b""]:
        blanks, ends = b" " * data.draw(st.integers(0, 2)), [data.draw(LINE_ENDS) for _ in "12"]
        raw += b"%x%b%b" % (len(piece), blanks, ends[0])
        raw += piece + ends[1] if piece else trailers + ends[1]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=5)))
    pieces = [raw[a:b] for a, b in itertools.pairwise([0, *cuts, len(raw)]) if a < b]
    assert asyncio.run(heard(pieces)) == (200, b"".join(chunks), True)


def test_many_small_chunks_take_no_time():
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\na\n" * 300_000 + b"0\n\n"
    began = time.process_time()
    assert asyncio.run(heard([raw]))[1] == b"a" * 300_000
    assert time.process_time() - began < 5


def hang_up_on(urls: set[str]):
    async def talk(path: str, number: int, writer: asyncio.StreamWriter) -> None:
        if path in urls:
            writer.transport.abort() if path > "/4" else writer.close()
        else:
            await answer_plainly(path, number, writer)

    return talk


@pytest.mark.parametrize("retries", [0, 1])
def test_a_server_that_hangs_up_sees_what_the_log_says_and_keeps_its_distance(retries, tmp_path):
    log = tmp_path / "log.parquet"
    with KeptServer(hang_up_on({f"/{n}.jpg" for n in range(1, 7)})) as server:
        urls = [f"{origin(server)}/{n}.jpg" for n in range(8)]
        polite = options(server, hosts=HostOptions(spacing_s=0.1, max_failures=99), retries=retries)
        made, _ = download(urls, tmp_path, polite, request_log=log)
    assert statuses(made) == ["ok", *["disconnected"] * 6, "ok"]
    assert_seen_is_logged(server, log, made, spacing_s=0.1)
    stale = 1  # the first that hangs up may be a connection that was kept
    assert len(server.requests) - (1 + 8 + 6 * retries) in (0, stale)


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_kept_connection_that_ends_under_a_request_costs_another_request_but_no_url(
    how, tmp_path
):
    """As a server does whose own patience ends when we ask again."""

    async def talk(path: str, number: int, writer: asyncio.StreamWriter) -> None:
        if number == 0:
            await answer_plainly(path, number, writer)
        else:
            getattr(writer if how == "close" else writer.transport, how)()

    log = tmp_path / "log.parquet"
    with KeptServer(talk) as server:
        urls = [f"{origin(server)}/{n}.jpg" for n in range(4)]
        alone = HostOptions(spacing_s=4 * QUIET_S, max_failures=1, concurrency=1)
        made, _ = download(urls, tmp_path, options(server, hosts=alone, retries=0), request_log=log)
    assert statuses(made) == ["ok"] * 4
    assert made.outcomes["attempts"].to_pylist() == [1] * 4
    assert_seen_is_logged(server, log, made, spacing_s=4 * QUIET_S)
    assert len(server.requests) == 1 + 4 + 1  # from the first on no connection is kept


def test_a_connection_closed_while_idle_costs_nothing(tmp_path: Path):
    async def talk(path: str, number: int, writer: asyncio.StreamWriter) -> None:
        await answer_plainly(path, number, writer)
        writer.close()

    with KeptServer(talk) as server:
        urls = [f"{origin(server)}/{n}.jpg" for n in range(3)]
        one = HostOptions(spacing_s=4 * QUIET_S, concurrency=1)
        made, _ = download(urls, tmp_path, options(server, hosts=one, retries=0))
    assert statuses(made) == ["ok"] * 3
    assert len(server.requests) == 4


def test_the_budget_of_requests_holds_where_servers_hang_up(tmp_path: Path):
    with KeptServer(hang_up_on({f"/{n}.jpg" for n in range(12)})) as server:
        urls = [f"{origin(server, f'h{n}.test')}/{n}.jpg" for n in range(12)]
        slow = options(server, requests_per_s=20, obey_robots=False, retries=1)
        made, _ = download(urls, tmp_path, slow)
    times = [at for at, _ in server.requests]
    assert len(times) == made.counts.notes["requests"] == 24
    assert times[-1] - times[0] >= 24 / 20 - 0.7  # half a second may be sent in advance


def assert_seen_is_logged(server: KeptServer, log: Path, made, *, spacing_s: float) -> None:
    logged = sorted(row["url"].removeprefix(origin(server)) for row in rows(pq.read_table(log)))
    assert logged == sorted(path for _, path in server.requests)
    assert len(server.requests) == made.counts.notes["requests"]
    times = [at for at, _ in server.requests]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) > spacing_s * 0.7, gaps  # sent in time, but threads are late at times


def test_what_is_used_of_the_inside_of_aiohttp_is_still_there():
    async def look() -> None:
        connector = aiohttp.TCPConnector()
        async with aiohttp.ClientSession(connector=connector) as session:
            assert session._retry_connection is True
            assert type(connector._factory()) is ResponseHandler
            assert connector._factory.keywords == {"loop": connector._loop}
            assert connector._factory()._payload is None
            assert not connector._factory()._buffer
            assert connector._force_close is False
        assert isinstance(inspect.getattr_static(ResponseHandler, "should_close"), property)
        assert "proto.is_connected()" in inspect.getsource(connector._get)
        assert "protocol.should_close" in inspect.getsource(connector._release)
        assert "conn.protocol.set_response_params(" in inspect.getsource(session._request)

    asyncio.run(look())
