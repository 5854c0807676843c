"""What an HTTP message in an archive holds: its head, and its body with all codings undone.

Archives keep what a server sent (RFC 9112), or what a browser or crawler made of it, with headers
that may no longer fit the body. So a header is a hint: a body that is not chunked or packed as it
says is taken as it is.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from cah_dask.codings import codings_of, unpacked

HEAD_BYTES = 256 << 10
"""Longest head that is read, in bytes: that of Chromium (net::HttpStreamParser)."""

_STATUS = re.compile(rb"HTTP/\d+(?:\.\d+)?[ \t]+(\d{3})(?!\d)")
_FOLD = re.compile(r"\r?\n[ \t]+")
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")
_LINE_END = re.compile(rb"\r?\n")
_NO_BODY = (204, 304)


class Head(NamedTuple):
    """The head of a response."""

    status: int | None
    """None where there is no status line."""
    headers: tuple[tuple[str, str], ...]
    """In order, names as written, values without the blanks around them."""
    first: Mapping[str, str]
    """The first value of each header, by lower-case names."""

    def all(self, name: str) -> str:
        """Return all values of a header that is a list, with commas between them."""
        if name not in self.first:
            return ""
        return ",".join(value for key, value in self.headers if key.lower() == name)


NO_HEAD = Head(None, (), {})


class Body(NamedTuple):
    """What a message holds."""

    data: bytes
    is_cut: bool
    """Whether less of it is there than its headers or chunks say."""
    is_sound: bool
    """Whether what it was packed with could be undone to its end."""


def parse_head(data: bytes) -> Head:
    """Read a status line and headers, however they are written.

    A line that begins with a blank goes on with the one before (RFC 9112 5.2); one without a colon
    is passed over.
    """
    found = _STATUS.match(data)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\n".join(map(_text, data.split(b"\n")))
    if "\n " in text or "\n\t" in text:
        text = _FOLD.sub(" ", text)
    parts = [line.partition(":") for line in text.split("\n")[1:]]
    headers = tuple([(name.strip(), value.strip()) for name, colon, value in parts if colon])
    first = {name.lower(): value for name, value in reversed(headers)}
    return Head(int(found[1]) if found else None, headers, first)


def _text(line: bytes) -> str:
    """Decode a line: UTF-8, as browsers that are sent such show, else Latin-1."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def media_type(value: str) -> str:
    """Return the type of a Content-Type in lower case, without parameters."""
    return value.partition(";")[0].strip().lower()


def read_body(stored: bytes, head: Head, limit: int) -> Body:
    """Undo the codings of a body.

    Parameters
    ----------
    stored
        What stands behind the head.
    head
        Says how it is chunked and packed, and how long it is.
    limit
        Bytes that are unpacked at most, of each packing inside another one too.
    """
    length, is_cut = head.first.get("content-length", ""), False
    transfer = head.all("transfer-encoding").lower()
    if "chunked" in transfer:
        stored, is_cut = dechunked(stored, limit)
    elif length.isdecimal() and len(length) < 19 and head.status not in _NO_BODY:
        is_cut = len(stored) < int(length)
    packings = transfer, head.all("content-encoding")
    codings = [coding for packing in packings if packing for coding in codings_of(packing)]
    if not codings:
        return Body(stored[:limit], is_cut, is_sound=True)
    data, is_sound = unpacked(stored, codings, limit)
    return Body(data, is_cut and not is_sound, is_sound)


def dechunked(body: bytes, limit: int) -> tuple[bytes, bool]:
    """Put chunks together (RFC 9112 7.1), up to a limit; a body without chunks is left as it is.

    Returns
    -------
    body, is_cut
        Whether the last chunk is missing, or not what it should be.
    """
    whole, at, rest = bytearray(), 0, memoryview(body)
    while len(whole) < limit:
        size_line = _SIZE_LINE.match(body, at)
        if size_line is None:
            return (bytes(whole), True) if at else (body, False)
        size, begin = int(size_line[1], 16), size_line.end()
        if not size:
            return bytes(whole), False
        line_end = _LINE_END.match(body, begin + size)
        if (
            line_end is None
            and not at
            and body[begin + size : begin + size + 2] not in (b"", b"\r")
        ):
            return body, False
        whole += rest[begin : begin + min(size, limit - len(whole))]
        if line_end is None:
            return bytes(whole), True
        at = line_end.end()
    return bytes(whole), False
