"""The head of an HTTP answer, rewritten as a strict parser wants it.

Browsers read what parsers refuse: a blank before a colon, the same length twice, a line without a
colon. The rules here are those of Chromium (http_response_headers.cc, http_stream_parser.cc) and of
RFC 9112; what neither reads stays refused.
"""

import re
from dataclasses import dataclass

_STATUS_LINE = re.compile(rb"(?:HTTP(?:/(\d+)(?:\.(\d+))?)?|ICY)[ \t]+(\d{3})(?!\d)", re.IGNORECASE)
_JUNK_BYTES = 4
"""Bytes before `HTTP` that are passed over, as in Chromium (HttpUtil::LocateStartOfStatusLine)."""
_START = re.compile(rb"(?=ICY )|.{0,%d}?(?=HTTP)" % _JUNK_BYTES, re.IGNORECASE | re.DOTALL)
_NAME = re.compile(rb"[0-9A-Za-z!#$%&'*+.^_`|~-]+")
_FOLD = re.compile(rb"\n[ \t]+")
_BLANKS = bytes.maketrans(b"\0\r", b"  ")
"""Neither may be in a value; at the end of a line a CR is one of the blanks that are cut off."""
_LENGTH_DIGITS = 18  # more would be no 64-bit number, and are no length of anything
_BODILESS = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Head:
    """A head that the parser reads, and what it says about the body."""

    lines: bytes
    """With the empty line at its end."""
    is_last: bool
    """False for what comes before the answer (100, 102, 103)."""
    n_bytes: int | None
    """Length of the body; None if it is chunked, or ends with the connection."""
    is_chunked: bool


def start_of_head(data: bytes | bytearray) -> int | None:
    """Return where a head begins, behind what is passed over; None if it has not begun."""
    found = _START.match(data)
    return None if found is None else found.end()


def begins_like_head(data: bytes | bytearray) -> bool:
    """Tell whether a head may begin like this, however few bytes there are."""
    begin = bytes(data[:16]).lstrip().upper()
    words = (begin[at : at + 4] for at in range(_JUNK_BYTES + 1))
    return b"ICY ".startswith(begin[:4]) or any(map(b"HTTP".startswith, words))


def read_head(raw: bytes) -> Head | None:
    """Rewrite a head, from its first byte to its empty line; None if it is none."""
    first, *fields = _FOLD.sub(b" ", raw.translate(_BLANKS).strip()).split(b"\n")
    status = _STATUS_LINE.match(first)
    if status is None:
        return None
    code = int(status[3])
    is_new = (int(status[1] or 1), int(status[2] or 0)) > (1, 0)
    lines = [b"HTTP/1.%d %d " % (is_new, code)]
    lengths: list[bytes] = []
    codings: list[bytes] = []
    for name, value in filter(None, map(_field, fields)):
        match name.lower():
            case b"content-length":
                lengths += value.split(b",")
            case b"transfer-encoding":
                codings += value.lower().split(b",")
            case _:
                lines.append(name + b": " + value)
    is_last = code // 100 != 1 or code == 101  # after which another protocol is spoken
    is_chunked = b"chunked" in map(bytes.strip, codings)
    given = {length.strip() for length in lengths}
    framing, n_bytes = _framing(given, is_chunked=is_chunked)
    if not is_last or code in _BODILESS:
        n_bytes = 0
    return Head(b"\r\n".join([*lines, *framing, b"", b""]), is_last, n_bytes, is_chunked)


def _field(line: bytes) -> tuple[bytes, bytes] | None:
    """Read a line; a name that is none, or no colon, makes it one to be passed over."""
    name, colon, value = line.partition(b":")
    name = name.rstrip()
    return (name, value.strip()) if colon and _NAME.fullmatch(name) else None


def _framing(lengths: set[bytes], *, is_chunked: bool) -> tuple[list[bytes], int | None]:
    """Return the lines that say where the body ends, and its length.

    Chunks go before a length (RFC 9112 6.3; the connection may then be used no more), a length that
    is no number is none, and two that differ are left for the parser to refuse.
    """
    if is_chunked:
        return [b"Transfer-Encoding: chunked", *([b"Connection: close"] if lengths else [])], None
    if len(lengths) > 1:
        return [b"Content-Length: " + length for length in lengths], None
    for length in lengths:
        if length.isdigit() and len(length) <= _LENGTH_DIGITS:
            return [b"Content-Length: " + length], int(length)
    return [], None
