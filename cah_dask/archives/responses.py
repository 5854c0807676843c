"""What servers answered, out of the records of a WARC archive: one by one, or one at an offset."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO, NamedTuple

from cah_dask.archives.block import Block, CutError, LostRecordError, bare_url
from cah_dask.archives.blocks import Blocks
from cah_dask.archives.http_message import (
    HEAD_BYTES,
    NO_HEAD,
    Body,
    Head,
    media_type,
    parse_head,
    read_body,
)
from cah_dask.archives.lookup import block_at
from cah_dask.archives.members import content_length
from cah_dask.archives.plain import MAX_HEAD_BYTES
from cah_dask.archives.remote import open_places
from cah_dask.errors import RecordError, RetryableError

KINDS = ("response", "resource", "revisit", "conversion")
"""Types of records that hold what was found under a url, or say where it is."""

MAX_BYTES = 64 << 20
"""Largest body that is read, in bytes, if nothing else is said."""

_BUFFER_BYTES = 64 << 10  # more than most records take
_WITH_HTTP = ("response", "revisit")


class Fault(StrEnum):
    """What is wrong with a response; its body is then what there is."""

    TOO_LARGE = "too_large"
    """It is longer than it may be; the body is its beginning."""
    CUT = "cut"
    """It was cut when it was archived, or says that it is longer."""
    BAD_HTTP = "bad_http"
    """It is no HTTP message although it must be, or has a head without an end, and then the body is
    all of it; or it has no status."""
    BAD_CODING = "bad_coding"
    """What it is packed with is damaged."""


class LeftOut(StrEnum):
    """Why a record was left out before its body was read."""

    KIND = "kind"
    STATUS = "status"
    MIME = "mime"
    TOO_SMALL = "too_small"


class Response(NamedTuple):
    """One record that holds something."""

    offset: int
    """Where its gzip member begins in the archive; in an uncompressed one, where it does itself."""
    kind: str
    """Its WARC-Type: response, resource, revisit or conversion."""
    url: str
    date: str
    """WARC-Date as written."""
    digest: str
    """WARC-Payload-Digest as written, "" if there is none."""
    status: int | None
    """HTTP status; None where there is no HTTP message."""
    headers: Sequence[tuple[str, str]]
    """HTTP headers in order, as written."""
    mime: str
    """Media type in lower case, "" if there is none: of the HTTP message, or else of the record."""
    refers_to: tuple[str, str]
    """Url and date of the record that a revisit stands for, empty if it does not say."""
    body: bytes
    """Transfer and content codings undone."""
    fault: str = ""
    """A `Fault`, or "" if there is none."""
    content_type: str = ""
    """Content-Type as written: of the HTTP message, or else of the record."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records are read to their end; the others are counted."""

    kinds: tuple[str, ...] = KINDS
    statuses: tuple[int, ...] = ()
    """HTTP statuses, all if empty. A record without one is never left out for it."""
    mimes: tuple[str, ...] = ()
    """Beginnings of media types in lower case, all if empty; "" stands for records without one."""
    min_bytes: int = 0
    """Shortest body, codings undone."""
    max_bytes: int = MAX_BYTES
    """Longest body, as stored and with codings undone; of a longer one this much is given."""

    def has_mime(self, mime: str) -> bool:
        """Tell whether records of this media type are wanted."""
        if not self.mimes:
            return True
        return any(mime.startswith(wanted) if wanted else not mime for wanted in self.mimes)


class Responses(Blocks[Response]):
    """The responses of one archive in its order; an iterator, to be gone through once.

    `n_records` counts all records of `KINDS` but bad ones: those that it yields, and those that
    are left out.
    """

    def __init__(self, archive: str, wanted: Wanted = Wanted()) -> None:
        """Read all that are wanted."""
        self._wanted = wanted
        keep = _keep(wanted.max_bytes)
        super().__init__(archive, KINDS, self._response, keep=keep)
        self.left_out: Counter[LeftOut] = Counter()
        """Records that were not wanted, by reason."""

    def _response(self, block: Block) -> Response | None:
        found = read_block(block, self._wanted)
        if isinstance(found, Response):
            return found
        self.left_out[found] += 1
        return None


class Archive:
    """An archive that is open for look-ups; they cost least in the order of their offsets."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self.name = name
        self._file = file

    def read_response(self, offset: int, *, max_bytes: int = MAX_BYTES) -> Response:
        """Return the record at an offset, as `read_response` does."""
        try:
            found, block = self._read(offset, max_bytes)
        except RecordError as error:
            raise type(error)(f"{self.name}: at byte {offset}: {error}") from error
        if not isinstance(found, Response):
            raise RecordError(
                f"{self.name}: at byte {offset}: a record of type {block.kind!r}; "
                f"those with content are {', '.join(KINDS)}"
            )
        return found

    def _read(self, offset: int, max_bytes: int) -> tuple[Response | LeftOut, Block]:
        block = block_at(self._file, offset, _keep(max_bytes))
        n_bytes = block.n_bytes
        try:
            return read_block(block, Wanted(max_bytes=max_bytes)), block
        except CutError as error:
            lost = LostRecordError if n_bytes else RecordError  # it may just not say how long it is
            raise lost(str(error)) from error


@contextmanager
def opened(archive: str) -> Iterator[Archive]:
    """Open an archive for many look-ups.

    Raises
    ------
    RetryableError
        It is out of reach, or its server does not give it.
    """
    try:
        with open_places(archive, _BUFFER_BYTES) as file:
            yield Archive(archive, file)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise RetryableError(f"{archive} is out of reach from here: {error}") from error


def read_response(archive: str, offset: int, *, max_bytes: int = MAX_BYTES) -> Response:
    """Return the one record at an offset; whether it is the wanted one, its url tells.

    Raises
    ------
    RecordError
        No record begins there, or one of a type without content; `LostRecordError` if it is cut or
        damaged, or the archive ends before that.
    RetryableError
        The archive is out of reach, or its server does not give it.
    """
    with opened(archive) as look_up:
        return look_up.read_response(offset, max_bytes=max_bytes)


def _keep(max_bytes: int) -> int:
    """Return how much of a member may be held for a body of this length."""
    return MAX_HEAD_BYTES + HEAD_BYTES + max_bytes + 1


def read_block(block: Block, wanted: Wanted) -> Response | LeftOut:
    """Make a response of a record, or say why it is not wanted.

    Raises
    ------
    CutError
        The block is shorter than it says, or does not say how long it is.
    """
    if block.kind not in wanted.kinds:
        return LeftOut.KIND
    fields = block.fields()
    if not block.n_bytes and content_length(fields) is None:
        raise CutError("it has no length")
    head, start, fault = _read_head(block, fields)
    if wanted.statuses and head.status is not None and head.status not in wanted.statuses:
        return LeftOut.STATUS
    is_message = head is not NO_HEAD or fault
    content_type = (head.first if is_message else fields).get("content-type", "")
    mime = media_type(content_type)
    if not wanted.has_mime(mime):
        return LeftOut.MIME
    limit = wanted.max_bytes
    stored = start + block.read(limit + 1 - len(start))
    body = read_body(stored, head, limit + 1)
    if len(body.data) < wanted.min_bytes:
        return LeftOut.TOO_SMALL
    is_revisit = block.kind == "revisit"
    if not fault and not is_revisit:
        is_too_large = max(len(stored), len(body.data)) > limit or block.n_left > 0
        is_cut = body.is_cut or "warc-truncated" in fields or "warc-segment-number" in fields
        fault = _fault(body, is_cut=is_cut, is_too_large=is_too_large)
    return Response(
        offset=block.offset,
        kind=block.kind,
        url=bare_url(fields.get("warc-target-uri")),
        date=fields.get("warc-date", ""),
        digest=fields.get("warc-payload-digest", ""),
        status=head.status,
        headers=head.headers,
        mime=mime,
        refers_to=_refers_to(fields) if is_revisit else ("", ""),
        body=body.data[:limit],
        fault=fault,
        content_type=content_type,
    )


def _read_head(block: Block, fields: Mapping[str, str]) -> tuple[Head, bytes, str]:
    """Return the head of an HTTP message, what was read of its body, and a fault or ""."""
    if block.kind not in _WITH_HTTP:
        return NO_HEAD, b"", ""
    is_response = block.kind == "response"
    start, is_whole = block.read_head(HEAD_BYTES)
    if not start.startswith(b"HTTP/"):
        must_be_http = fields.get("content-type", "").lower().startswith("application/http")
        return NO_HEAD, start, Fault.BAD_HTTP if must_be_http and is_response else ""
    if not is_whole and (is_response or block.n_left):
        return NO_HEAD, start, Fault.BAD_HTTP
    head = parse_head(start)
    return head, b"", Fault.BAD_HTTP if is_response and head.status is None else ""


def _fault(body: Body, *, is_cut: bool, is_too_large: bool) -> str:
    if is_too_large:
        return Fault.TOO_LARGE
    if is_cut:
        return Fault.CUT
    return "" if body.is_sound else Fault.BAD_CODING


def _refers_to(fields: Mapping[str, str]) -> tuple[str, str]:
    url = bare_url(fields.get("warc-refers-to-target-uri"))
    return url, fields.get("warc-refers-to-date", "")
