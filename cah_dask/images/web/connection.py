"""One connection: each answer belongs to its request, and no request is sent but ours.

aiohttp reuses a connection although an answer that nobody asked for waits on it, which then is
taken for that of the next request (aiohttp#13656), and it sends a request again by itself when a
kept connection drops. Neither can be switched off by an option: what we need of its inside is used
here and nowhere else (`tests/images/test_connection.py` fails when that changes).
"""

import asyncio
import functools
import re
import select
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http_exceptions import BadHttpMessage

from cah_dask.images.web.chunks import ChunkLines
from cah_dask.images.web.heads import Head, begins_like_head, read_head, start_of_head

HEADERS = 5000
"""Most header lines that are read, as in curl (MAX_HTTP_RESP_HEADER_COUNT)."""
HEAD_BYTES = 256 << 10
"""Largest head that is read, in one line or many, as in Chromium (kMaxHeaderBufSize)."""

QUIET_S = 0.1
"""How long a connection must say nothing after an answer before it is kept for another request.

An answer that comes twice comes at once; what comes later than the next request is its answer, for
all that anyone can tell. By default requests to a host are a second apart, so this costs nothing.
"""

_HEAD_END = re.compile(rb"\n\r*\n")
_END_CHARS = 4
_CHUNKS_END = (b"\n\r\n", b"\n\n")


class StaleConnectionError(aiohttp.ServerDisconnectedError):
    """A kept connection ended before the answer began: that says nothing about the url."""


class Channel(ResponseHandler):
    """A connection that closes as soon as it says anything that was not asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._n_requests = 0
        self.is_spoilt = False
        """Something came that nobody asked for."""
        self.exceeds = False
        """More came with the answer than it said of itself; blank lines do not count."""
        self._is_silent = False
        """A request was sent, and not a byte has come."""
        self._head: bytearray | None = None
        """What there is of a head that is due; None if none is."""
        self._left: int | None = 0
        """Bytes of the body still to come; None if its own framing must tell."""
        self._chunks: ChunkLines | None = None
        self._last = b""

    def set_response_params(self, **params: Any) -> None:
        """Expect an answer; aiohttp calls this before it sends a request."""
        self._n_requests += 1
        self._is_silent = True
        self._head = bytearray()
        super().set_response_params(**params)
        # After a TLS handshake the server may have sent tickets, which nobody can tell from data.
        if self.transport and not self.transport.get_extra_info("sslcontext") and self._has_mail():
            self.is_spoilt = True
            self.close()

    def is_connected(self) -> bool:
        """Tell whether the connection may be used: it is open, and nothing waits on it."""
        if super().is_connected() and self._has_mail():
            self.is_spoilt = True
        return super().is_connected() and not self.is_spoilt

    def close(self) -> None:
        """Close; what more a connection has to say that said too much is not waited for."""
        if self.is_spoilt:
            self.abort()
        else:
            super().close()

    @property
    def should_close(self) -> bool:
        """Tell whether the connection may not be kept; aiohttp asks when an answer is complete."""
        goes_on = self._chunks is not None and not self._last.endswith(_CHUNKS_END)
        if goes_on or self._buffer:  # half of another answer, or a whole one
            self.is_spoilt = True
        return self.is_spoilt or super().should_close

    def data_received(self, data: bytes) -> None:
        """Hand on what belongs to the answer that is due."""
        self._is_silent = False
        if not data:  # aiohttp goes on with what it held back
            super().data_received(data)
        elif self._head is not None:
            self._head += data
            self.start_timeout()
            self._read_heads(self._head, len(data))
        elif self._payload is None or self._payload.is_eof():
            self.is_spoilt = True
            self.close()
        else:
            self._hand_on(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell a kept connection that was closed meanwhile from a server that does not answer."""
        if self._n_requests > 1 and self._is_silent and not self.is_eof():
            self.set_exception(StaleConnectionError())
        super().connection_lost(exc)

    def _has_mail(self) -> bool:
        """Tell whether there is anything to be read, be it the end."""
        if self.transport is None:
            return False
        waiting = select.poll()
        waiting.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(waiting.poll(0))

    def _read_heads(self, data: bytearray, n_new: int) -> None:
        """Hand on each head that is complete, and what follows the last one."""
        end = _head_end(data, n_new)
        head = None
        while end is not None and end.end() <= HEAD_BYTES:
            head = read_head(bytes(data[: end.end()]))
            if head is None or head.is_last:
                break
            super().data_received(head.lines)
            del data[: end.end()]
            end = _head_end(data, len(data))
        if (len(data) if end is None else end.end()) > HEAD_BYTES:
            self.set_exception(BadHttpMessage(f"a head of more than {HEAD_BYTES} bytes"))
        elif end is not None and head is not None:
            self._begin_body(head, bytes(data[end.end() :]))
        elif end is not None or not begins_like_head(data):  # the parser says what is wrong
            self._begin_body(Head(b"", is_last=True, n_bytes=None, is_chunked=False), bytes(data))
            self.force_close()

    def _begin_body(self, head: Head, data: bytes) -> None:
        self._head = None
        self._left = head.n_bytes
        self._chunks = ChunkLines() if head.is_chunked else None
        self._last = b""
        self._hand_on(data, head.lines)

    def _hand_on(self, data: bytes, lines: bytes = b"") -> None:
        """Give the parser what belongs to the body; what is more spoils the connection."""
        if self._left is not None:
            if len(data) > self._left:
                self.exceeds = not data[self._left :].isspace()
                data = data[: self._left]
                self.is_spoilt = True
            self._left -= len(data)
        elif self._chunks is not None:
            data = self._chunks.rewritten(data)
            self._last = (self._last + data[-_END_CHARS:])[-_END_CHARS:]
        super().data_received(lines + data)


def _head_end(data: bytearray, n_new: int) -> re.Match[bytes] | None:
    """Take away what stands before a head, and find its end; None if that has not come yet."""
    if data[:1].isspace():
        data[:] = data.lstrip()
    start = start_of_head(data)
    if start is None:
        return None
    del data[:start]
    return _HEAD_END.search(data, max(0, len(data) - n_new - _END_CHARS))


class Connector(aiohttp.TCPConnector):
    """Makes connections like ours, and keeps those that stay quiet."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(Channel, loop=self._loop)  # type: ignore[assignment]  # is invariant

    def _release(
        self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False
    ) -> None:
        release = super()._release
        if should_close or self._force_close or protocol.should_close:
            release(key, protocol, should_close=True)
        else:
            self._loop.call_later(QUIET_S, release, key, protocol)


def send_once(session: aiohttp.ClientSession) -> None:
    """Have a session send each request once, whatever becomes of it."""
    session._retry_connection = False  # noqa: SLF001
