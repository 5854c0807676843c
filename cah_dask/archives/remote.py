"""An archive as a stream, wherever it is; one on an HTTP server survives cut connections.

One GET, then one more per cut, from the byte that is next (RFC 9110 range requests). Nothing is
kept on disk, and no more than the caller asks for in memory.
"""

import http.client
import io
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias
from urllib.parse import urlsplit

from cah_dask import __version__
from cah_dask.addresses import is_public, is_public_host
from cah_dask.archives.s3 import READ_BYTES, SCHEME, S3File, is_s3
from cah_dask.errors import RetryableError
from cah_dask.retry_after import retry_after_s

TIMEOUT_S = 60.0
"""Longest silence of the server in seconds."""

BACKOFF_S = (0.1, 2.0, 5.0, 15.0, 30.0, 60.0, 120.0, 240.0)
"""Pauses in seconds between requests that fail without a byte of progress: a cut is resumed at
once, a busy server (Common Crawl's "503 Slow Down", and its 403 to who asks too fast) is left alone
for longer and longer, eight minutes in all, or as long as it asks for."""

ATTEMPTS = len(BACKOFF_S) + 1
"""Requests in a row that may fail so."""

MAX_PAUSE_S = 600.0
"""Longest Retry-After that is waited for in one task."""

KEPT_BYTES = 4 << 20
"""Bytes that can be jumped back over without a request: more than a WAT record takes."""

SKIPPED_BYTES = 1 << 20
"""Bytes that are rather read than jumped over: about what comes while a connection is made."""

_IN_TROUBLE = (403, 408, 420, 423, 425, 429, 430)
"""Statuses below 500 by which servers mean that they were asked too often, or too early."""
_WHOLE = (200, 203)
_PIECE_BYTES = 64 << 10
_NO_RANGE = re.compile(r"bytes \*/(\d+)")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


Stream: TypeAlias = str | BinaryIO
"""The path of a local file, or an open remote one."""

BUFFER_BYTES = 1 << 20
"""Bytes that are asked for at once by who reads an archive from its beginning to its end."""


def is_remote(name: str) -> bool:
    """Tell whether a name is an http(s) url, or an object in an S3 store."""
    return name.startswith(("http://", "https://", SCHEME))


@contextmanager
def open_archive(archive: str) -> Iterator[Stream]:
    """Yield a local path as it is, an http(s) url or an object in a store as a stream.

    Raises
    ------
    RetryableError
        The server does not give the file, whatever it says.
    """
    if not is_remote(archive):
        yield archive
        return
    buffer_bytes = READ_BYTES if is_s3(archive) else BUFFER_BYTES
    with _remote_file(archive) as raw, io.BufferedReader(raw, buffer_bytes) as stream:
        yield stream


def _remote_file(archive: str, *, is_lazy: bool = False) -> io.RawIOBase:
    return S3File(archive) if is_s3(archive) else RemoteFile(archive, is_lazy=is_lazy)


@contextmanager
def open_places(archive: str, buffer_bytes: int) -> Iterator[BinaryIO]:
    """Yield an archive as a stream of which only some places are read, so many bytes at once.

    Raises as `open_stream` does.
    """
    if not is_remote(archive):
        with open_stream(archive) as file:
            yield file
        return
    with _remote_file(archive, is_lazy=True) as raw, io.BufferedReader(raw, buffer_bytes) as stream:
        yield stream


@contextmanager
def open_stream(archive: str) -> Iterator[BinaryIO]:
    """Yield an archive as a stream, wherever it is.

    Raises
    ------
    OSError
        A local one cannot be opened.
    RetryableError
        The server does not give the file, whatever it says.
    """
    with open_archive(archive) as found:
        if isinstance(found, str):
            with Path(found).open("rb") as file:
                yield file
        else:
            yield found


def _strong(etag: str | None) -> str:
    """Return a tag that tells one version of a file from all others, else an empty one."""
    return "" if etag is None or etag.startswith("W/") else etag


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http(s) only, and from the internet to nothing but the internet."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        here, there = urlsplit(req.full_url), urlsplit(newurl)
        if there.scheme not in ("http", "https"):
            raise RetryableError(
                f"{req.full_url}: redirected to {there.scheme}:, which is not followed"
            )
        if _is_public(here.hostname) and not _is_public(there.hostname):
            raise RetryableError(f"{req.full_url} leads to {there.hostname}, which is not public")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_Redirects)


def _is_public(host: str | None) -> bool:
    """Tell whether all that a host stands for is on the public internet."""
    name = host or ""
    if not is_public_host(f"[{name}]" if ":" in name else name):
        return False
    try:
        found = {info[4][0] for info in socket.getaddrinfo(name, None)}
    except OSError:
        return True  # then nothing can be reached there
    return all(is_public(str(address)) for address in found)


class RemoteFile(io.RawIOBase):
    """The bytes behind an http(s) url.

    Raises (from the constructor and `readinto`)
    --------------------------------------------
    RetryableError
        The server has no such file (404), changed it meanwhile or cannot resume it; or it does not
        answer, cuts, or is in trouble, `ATTEMPTS` times without progress. What it does not give
        now it may give later: it is for the run to ask again, and to say what is lost.
    """

    def __init__(
        self, url: str, *, is_lazy: bool = False, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """Ask for the file at once, or, if lazy, for what is first read."""
        self._url = url
        self._pause = pause
        self._position = 0
        self._received = 0  # where the next byte of the answer lies
        self._kept = bytearray()  # the last bytes before that
        self._length: int | None = None
        self._version = ""
        self._failures = 0
        self._response: http.client.HTTPResponse | None = None
        if not is_lazy:
            self._connect()

    def readable(self) -> bool:
        """Say that this is a stream to read from."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read from anywhere; a jump costs a request, a short one back none."""
        return True

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position; the next read asks for the bytes from there on."""
        if whence == io.SEEK_END and self._length is None:
            raise RetryableError(f"{self._url}: the server does not tell its length")
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length or 0}
        self._position = start[whence] + offset
        latest = self._received + (SKIPPED_BYTES if self._response is not None else 0)
        if not self._received - len(self._kept) <= self._position <= latest:
            self._jump()
        return self._position

    def _jump(self) -> None:
        """Have the next byte asked for, wherever it is."""
        self._received = self._position
        self._kept.clear()
        self._disconnect()

    def _skip(self) -> None:
        """Read what lies before the next byte, if that is not far."""
        while self._received < self._position and self._response is not None:
            passed = bytearray(min(_PIECE_BYTES, self._position - self._received))
            count = self._receive(passed)
            if not count:
                self._jump()
            self._keep(passed[:count])

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # a Buffer
        """Read some bytes into `buffer`; 0 at the end of the file."""
        if self._position < self._received:
            at = len(self._kept) - (self._received - self._position)
            piece = self._kept[at : at + len(buffer)]
            buffer[: len(piece)] = piece
            self._position += len(piece)
            return len(piece)
        if self._length is None or self._position < self._length:
            self._skip()
        while self._length is None or self._position < self._length:
            if self._response is None:
                self._connect()
                continue
            count = self._receive(buffer)
            if count:
                self._failures = 0
                self._keep(buffer[:count])
                self._position = self._received
                return count
            if self._length is None and self._response is not None:
                return 0  # a server that never told the length says so that it has ended
        return 0

    def _keep(self, data: bytearray | memoryview) -> None:
        """Hold the last bytes for short jumps back, as at the end of an archive."""
        self._received += len(data)
        self._kept += data
        if len(self._kept) > 2 * KEPT_BYTES:
            del self._kept[:-KEPT_BYTES]

    def close(self) -> None:
        """Close the connection."""
        self._disconnect()
        super().close()

    def _receive(self, buffer: bytearray | memoryview) -> int:
        """Return how many bytes came; 0 also when the connection broke (and is gone then)."""
        if self._response is None:
            return 0
        try:
            count = self._response.readinto(buffer)
        except (OSError, http.client.HTTPException) as error:
            self._failed(str(error) or type(error).__name__)
            return 0
        if not count and self._length is not None:
            self._failed(f"ended after {self._position} of {self._length} bytes")
        return count

    def _connect(self) -> None:
        while self._response is None:
            try:
                self._response = self._request()
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 416 and self._length is None:
                    found = _NO_RANGE.match(error.headers["Content-Range"] or "")
                    self._length = int(found[1]) if found else self._position
                    return
                if error.code < 500 and error.code not in _IN_TROUBLE:
                    raise RetryableError(f"{self._url}: HTTP {error.code}") from error
                self._failed(f"HTTP {error.code}", error.headers.get("Retry-After") or "")
            except (OSError, http.client.HTTPException) as error:
                self._failed(str(getattr(error, "reason", error)) or type(error).__name__)
            except ValueError as error:  # a Location that is no url
                raise RetryableError(f"{self._url}: {error}") from error

    def _request(self) -> http.client.HTTPResponse:
        headers = {"User-Agent": f"cah-dask/{__version__}", "Accept-Encoding": "identity"}
        if self._position:
            headers["Range"] = f"bytes={self._position}-"
            if self._version:
                headers["If-Range"] = self._version
        request = urllib.request.Request(self._url, headers=headers)  # noqa: S310  # sources checks it
        response = _OPENER.open(request, timeout=TIMEOUT_S)
        try:
            self._accept(response)
        except BaseException:
            response.close()
            raise
        return response  # type: ignore[no-any-return]

    def _accept(self, response: http.client.HTTPResponse) -> None:
        """Make sure that the answer goes on where the last one was cut."""
        if not self._position:
            if response.status not in _WHOLE:
                raise RetryableError(f"{self._url}: HTTP {response.status} and not the file")
            length = response.headers["Content-Length"]
            self._length = int(length) if length and length.isdigit() else None
            self._version = _strong(response.headers["ETag"])
            return
        found = _CONTENT_RANGE.match(response.headers["Content-Range"] or "")
        if response.status != 206 or not found or int(found[1]) != self._position:
            raise RetryableError(
                f"{self._url}: the server cannot go on from byte {self._position} "
                "(no range requests, or the file has changed)"
            )
        if self._length is None and found[2].isdigit():
            self._length, self._version = int(found[2]), _strong(response.headers["ETag"])

    def _failed(self, reason: str, asked: str = "") -> None:
        """Wait before the next request; `asked` is a Retry-After."""
        self._disconnect()
        self._failures += 1
        asked_s = retry_after_s(asked)
        if self._failures >= ATTEMPTS or asked_s > MAX_PAUSE_S:
            raise RetryableError(f"{self._url}: {reason}, {self._failures} times in a row")
        self._pause(max(asked_s, BACKOFF_S[self._failures - 1]))

    def _disconnect(self) -> None:
        if self._response is not None:
            with suppress(OSError):
                self._response.close()
            self._response = None
