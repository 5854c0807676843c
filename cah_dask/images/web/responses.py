"""What an answer means before anything is done with it, and what it means that none came."""

import errno
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp

from cah_dask.counts import Status
from cah_dask.errors import RunError
from cah_dask.images.web.network import AddressError
from cah_dask.retry_after import retry_after_s

logger = logging.getLogger(__name__)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PAUSES = frozenset({429, 503})
_BODILESS = frozenset({204, 205})
_STRAY_BYTE = re.compile("[\udc80-\udcff]")  # as aiohttp decodes what is no UTF-8
_OF_CODE = {
    403: Status.HTTP_403,
    404: Status.HTTP_404,
    410: Status.HTTP_410,
    429: Status.HTTP_429,
}
_OF_CLASS = {4: Status.HTTP_4XX, 5: Status.HTTP_5XX}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request gave. Status ok means: here is a body, or a location to go on to."""

    status: Status
    http_status: int | None = None
    body: bytes | bytearray = b""
    location: str | None = None
    pause_s: float | None = None
    """How long the host asks to be left alone; 0 if it asks without saying how long."""
    seconds: float = 0.0
    is_stale: bool = False
    """Whether a kept connection ended before an answer began, which says nothing about the url."""


def has_body(code: int) -> bool:
    """Tell whether an HTTP status code says that the body is what was asked for, as browsers do.

    We ask for no part of anything, so 206 is like 200: a decoder tells whether it is whole.
    """
    return code // 100 == HTTPStatus.OK // 100 and code not in _BODILESS


def is_redirect(code: int) -> bool:
    """Tell whether an HTTP status code sends who asks to another place."""
    return code in _REDIRECTS


def without_body(code: int, headers: Mapping[str, str]) -> Answer:
    """Answer for every HTTP status code that brings nothing to be kept."""
    if is_redirect(code):
        return Answer(Status.OK, code, location=escaped(headers.get("Location", "")))
    pause_s = None
    if code in _PAUSES:
        pause_s = retry_after_s(headers.get("Retry-After", ""), headers.get("Date", ""))
    return Answer(status_of_code(code), code, pause_s=pause_s)


def escaped(location: str) -> str:
    """Return a Location with each byte that is no UTF-8 as browsers ask for it: ``%E9``."""
    return _STRAY_BYTE.sub(lambda found: f"%{ord(found[0]) & 0xFF:02X}", location)


def status_of_code(code: int) -> Status:
    """Return the status of an HTTP status code that is neither success nor a redirect."""
    return _OF_CODE.get(code) or _OF_CLASS.get(code // 100, Status.HTTP_OTHER)


_FAULTS: tuple[tuple[type[Exception], Status], ...] = (
    (aiohttp.ClientConnectorCertificateError, Status.TLS_CERTIFICATE),
    (aiohttp.ClientSSLError, Status.TLS_ERROR),
    (aiohttp.ConnectionTimeoutError, Status.CONNECT_TIMEOUT),
    (TimeoutError, Status.TIMEOUT),
    (aiohttp.ClientConnectorError, Status.CONNECT_ERROR),
    (aiohttp.ClientResponseError, Status.HTTP_OTHER),
    (ValueError, Status.BAD_URL),
)
"""The first match counts; what matches none is a connection that broke."""


def status_of(error: Exception) -> Status:
    """Return what an exception of the HTTP client means.

    Raises
    ------
    RunError
        If the fault is not the web's: this process may not open more files.
    """
    cause = getattr(error, "os_error", error)
    if isinstance(cause, AddressError):
        return cause.status
    if getattr(cause, "errno", None) in (errno.EMFILE, errno.ENFILE):
        raise RunError("too many open files: raise the limit (ulimit -n) or lower connections")
    if isinstance(cause, ConnectionRefusedError):
        return Status.CONNECT_REFUSED
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(cause, TimeoutError):
        return Status.CONNECT_TIMEOUT
    if not isinstance(error, aiohttp.ClientError | OSError | ValueError):
        logger.warning("an answer was too much for the HTTP client: %r", error)
    return next(
        (status for kind, status in _FAULTS if isinstance(error, kind)), Status.DISCONNECTED
    )
