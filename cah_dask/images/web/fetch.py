"""One request: sent, checked by its headers, and read within every limit.

Redirects are not followed here: each is a request of its own, which must find its turn at its host.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from types import TracebackType
from typing import Annotated, Self, TypeAlias

import aiohttp
import msgspec
from multidict import MultiMapping
from yarl import URL

from cah_dask.codings import codings_of, inflate, read_text
from cah_dask.counts import Status
from cah_dask.directives import allows_training
from cah_dask.images.web.budgets import Budgets
from cah_dask.images.web.clock import now
from cah_dask.images.web.connection import StaleConnectionError
from cah_dask.images.web.network import (
    AddressError,
    Guard,
    NetworkOptions,
    Resolver,
    exceeds,
    open_session,
    peer_of,
)
from cah_dask.images.web.optout_headers import OPT_OUTS, is_opted_out
from cah_dask.images.web.request_log import RequestLog
from cah_dask.images.web.request_url import Target
from cah_dask.images.web.responses import Answer, has_body, status_of, without_body

ROBOTS_BYTES = 512 << 10
"""As much of a robots.txt as is read (RFC 9309 asks for at least 500 KiB)."""

_SMALL_BYTES = 256 << 10
_LARGE_BODIES = 8
_GRACE_S = 5.0
_NOT_PICTURES = ("text/", "application/json", "application/xml", "image/svg", "video/", "audio/")
_CLOSE = {"Connection": "close"}
_MAGIC_BYTES = 12  # as far as ISO media files, the last to be told, show what they are
_MAGIC = (  # JPEG, PNG, WebP, GIF; AVIF has its own further on
    b"\xff\xd8\xff",
    b"\x89PNG",
    b"RIFF",
    b"GIF8",
)


class FetchOptions(NetworkOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits of one request, and what an answer may forbid."""

    connect_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    """Seconds to connect, TLS included."""
    read_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    """Seconds without a byte of the answer."""
    total_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """Seconds for one request from start to end."""
    min_bytes_per_s: Annotated[float, msgspec.Meta(ge=0)] = 1024.0
    """Rate below which a body is given up, in bytes a second after five seconds of grace."""
    max_bytes: Annotated[int, msgspec.Meta(gt=0)] = 20 << 20
    """Largest body, in bytes."""
    opt_outs: tuple[str, ...] = OPT_OUTS
    """Values of X-Robots-Tag that forbid to keep an image; an empty list ignores the header."""
    respect_tdm: bool = True
    """Whether ``TDM-Reservation: 1`` forbids to keep an image."""
    respect_content_signal: bool = True
    """Whether ``Content-Signal: ai-train=no``, in robots.txt or of an answer, forbids to keep an
    image (Cloudflare's content signals)."""
    respect_content_usage: bool = True
    """Whether ``Content-Usage: train-ai=n``, in robots.txt or of an answer, forbids to keep an
    image (drafts of the IETF's AIPREF group)."""


@dataclass(slots=True)
class Incoming:
    """An answer whose headers are here, and whose body may still come."""

    response: aiohttp.ClientResponse
    timer: asyncio.Timeout
    """Its deadline; it stands still while we wait for something of ours."""
    n_bytes: int = 0
    """Bytes of the body received so far."""


Reader: TypeAlias = Callable[[Incoming], Awaitable[Answer]]


class Fetcher:
    """Makes the requests of one list over one session; an async context manager."""

    def __init__(
        self, options: FetchOptions, budgets: Budgets, log: RequestLog | None = None
    ) -> None:
        self.guard = Guard(options)
        self.budgets = budgets
        self._options = options
        self._log = log
        self._large = asyncio.Semaphore(_LARGE_BODIES)
        self._unkept: set[str] = set()
        self.n_requests = 0
        self.n_bytes = 0

    async def __aenter__(self) -> Self:
        options = self._options
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=options.connect_timeout_s, sock_read=options.read_timeout_s
        )
        self._resolver = Resolver(options, self.guard)
        way = (options, self._resolver, self.guard, timeout)
        self._session = open_session(*way)
        self._fresh_session = open_session(*way, keeps_connections=False)
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._session.close()
        await self._fresh_session.close()
        await self._resolver.close()

    async def lookup(self, host: str) -> tuple[str, ...]:
        """Return the addresses of a host; see `Resolver.lookup`."""
        return await self._resolver.lookup(host)

    async def image(self, target: Target, *, keep_connection: bool) -> Answer:
        """Request an image; one more connection is kept for the next request if told so."""
        headers = {} if keep_connection else _CLOSE
        return await self._exchange(target, self._read_image, headers)

    async def text(self, target: Target, accept: str) -> Answer:
        """Request a robots.txt or the like; a long one is cut."""
        return await self._exchange(target, self._read_text, {"Accept": accept})

    def _session_for(self, host: str) -> aiohttp.ClientSession:
        """Return a session with new connections only for a host that ended one that was kept."""
        return self._fresh_session if host in self._unkept else self._session

    async def _exchange(self, target: Target, read: Reader, headers: dict[str, str]) -> Answer:
        """Send one request, and never another one; write it down, whatever comes of it."""
        try:
            address = (await self.lookup(target.host))[0]
        except AddressError as error:
            return Answer(error.status)
        self.budgets.requests.charge(1)
        self.n_requests += 1
        answer = Answer(Status.DISCONNECTED)  # if this is cancelled, it is we who hang up
        n_bytes = 0
        started_at = now()
        try:
            async with (
                asyncio.timeout(self._options.total_timeout_s) as timer,
                self._session_for(target.host).get(
                    URL(target.url, encoded=True), headers=headers, allow_redirects=False
                ) as response,
            ):
                address = peer_of(response) or address
                incoming = Incoming(response, timer)
                try:
                    answer = await read(incoming)
                finally:
                    n_bytes = incoming.n_bytes
        except Exception as error:  # noqa: BLE001  a server may find any fault in our client
            answer = Answer(status_of(error), is_stale=isinstance(error, StaleConnectionError))
        finally:
            answer = replace(answer, seconds=now() - started_at)
            self.n_bytes += n_bytes
            if self._log is not None:
                self._log.note(target.url, address, answer, n_bytes)
        if answer.is_stale:
            self._unkept.add(target.host)
        return answer

    def forget(self, body: bytes | bytearray) -> None:
        """Tell that a body is no longer in memory, so that the next large one may be read."""
        if len(body) > _SMALL_BYTES:
            self._large.release()

    async def _read_text(self, incoming: Incoming) -> Answer:
        """Read a text of a whole answer, however it is packed; what is none is unreachable."""
        response = incoming.response
        if not HTTPStatus(200) <= response.status < HTTPStatus(300):
            return without_body(response.status, response.headers)
        body = bytearray()
        async for chunk in response.content.iter_any():
            await self._pay(len(chunk), incoming)
            body += chunk[: ROBOTS_BYTES - len(body)]
            if len(body) == ROBOTS_BYTES:
                break
        codings = ",".join(response.headers.getall("Content-Encoding", ()))
        text = read_text(bytes(body), codings, ROBOTS_BYTES)
        # We asked for no part: who sends one (206) leaves open what the rest says, and so does who
        # sends more than the length that was named.
        is_part = response.status == HTTPStatus.PARTIAL_CONTENT or exceeds(response)
        if is_part or text is None:
            return Answer(Status.ROBOTS_UNREACHABLE, response.status)
        return Answer(Status.OK, response.status, text)

    async def _read_image(self, incoming: Incoming) -> Answer:
        response = incoming.response
        if not has_body(response.status):
            answer = without_body(response.status, response.headers)
            is_refused = answer.location is not None and is_reserved(
                response.headers, self._options
            )
            return Answer(Status.OPTOUT, response.status) if is_refused else answer
        status = self._refusal(response)
        body = bytearray()
        try:
            if status is Status.OK:
                status = await self._fill(body, incoming)
            plain = await self._unpack(body, incoming) if status is Status.OK else body
        except BaseException:
            self.forget(body)
            raise
        if status is Status.OK:
            status = self._judge(plain, response)
        if status is Status.OK:
            return Answer(status, response.status, plain)
        self.forget(plain)
        return Answer(status, response.status)

    def _refusal(self, response: aiohttp.ClientResponse) -> Status:
        """Judge by the headers alone."""
        if is_reserved(response.headers, self._options):
            return Status.OPTOUT
        if (response.content_length or 0) > self._options.max_bytes:
            return Status.TOO_BIG
        return Status.OK

    async def _fill(self, body: bytearray, incoming: Incoming) -> Status:
        """Read the body as far as it is worth it; our own waiting does not count as its time."""
        began_at = now()
        response = incoming.response
        may_be_none = is_doubtful(response.content_type) and not _codings(response)
        async for chunk in incoming.response.content.iter_any():
            began_at += await self._admit(body, chunk, incoming)
            seconds = now() - began_at
            if len(body) > self._options.max_bytes:
                return Status.TOO_BIG
            if may_be_none and len(body) >= _MAGIC_BYTES and not looks_like_picture(body):
                return Status.BAD_TYPE
            if seconds > _GRACE_S and len(body) < seconds * self._options.min_bytes_per_s:
                return Status.TOO_SLOW
        return Status.OK

    async def _unpack(self, body: bytearray, incoming: Incoming) -> bytes | bytearray:
        """Return a body as it was before it was packed for the way; that may be a large one."""
        codings = _codings(incoming.response)
        if not codings:
            return body
        is_small = len(body) <= _SMALL_BYTES
        if is_small:
            await _hold(incoming.timer, self._large.acquire())
        try:
            plain = await asyncio.to_thread(inflate, body, codings, self._options.max_bytes + 1)
        except BaseException:
            if is_small:
                self._large.release()
            raise
        if len(plain) <= _SMALL_BYTES:
            self._large.release()
        return plain

    def _judge(self, body: bytes | bytearray, response: aiohttp.ClientResponse) -> Status:
        """Judge a whole body by what can be seen from outside."""
        if len(body) > self._options.max_bytes:
            return Status.TOO_BIG
        if not body:
            return Status.EMPTY
        is_other = is_doubtful(response.content_type) and not looks_like_picture(body)
        return Status.BAD_TYPE if is_other else Status.OK

    async def _admit(self, body: bytearray, chunk: bytes, incoming: Incoming) -> float:
        """Take more into memory; few bodies at a time may grow large. Return the seconds waited."""
        waited_s = await self._pay(len(chunk), incoming)
        if len(body) <= _SMALL_BYTES < len(body) + len(chunk):
            waited_s += await _hold(incoming.timer, self._large.acquire())
        body += chunk
        return waited_s

    async def _pay(self, n_bytes: int, incoming: Incoming) -> float:
        """Charge bytes to the budget; return the seconds waited."""
        incoming.n_bytes += n_bytes
        debt_s = self.budgets.data.charge(n_bytes)
        return await _hold(incoming.timer, asyncio.sleep(debt_s)) if debt_s else 0.0


async def _hold(timer: asyncio.Timeout, own: Awaitable[object]) -> float:
    """Wait for something of ours while the deadline stands still; return the seconds."""
    started_at = now()
    deadline = timer.when()
    timer.reschedule(None)
    await own
    seconds = now() - started_at
    timer.reschedule(None if deadline is None else deadline + seconds)
    return seconds


def _codings(response: aiohttp.ClientResponse) -> list[str]:
    return codings_of(",".join(response.headers.getall("Content-Encoding", ())))


def is_reserved(headers: MultiMapping[str], options: FetchOptions) -> bool:
    """Tell whether the headers of an answer forbid to keep an image, or what they redirect to."""

    def read(name: str) -> list[str]:
        return headers.getall(name, [])

    tdm = ",".join(read("TDM-Reservation")) if options.respect_tdm else ""
    preferences = [
        *(read("Content-Signal") if options.respect_content_signal else ()),
        *(read("Content-Usage") if options.respect_content_usage else ()),
    ]
    return is_opted_out(read("X-Robots-Tag"), tdm, options.opt_outs) or (
        allows_training(",".join(preferences)) is False
    )


def is_doubtful(media_type: str) -> bool:
    """Tell whether an answer is no image by what it says; that is often wrong."""
    return media_type.startswith(_NOT_PICTURES)


def looks_like_picture(head: bytes | bytearray) -> bool:
    """Tell whether a body begins like one of the formats we know, whatever its type claims."""
    return head.startswith(_MAGIC) or head[4:8] == b"ftyp"
