"""What came packed, off the web or out of an archive, read within bounds (RFC 9110 8.4).

What a header says of the packing is often wrong: what counts is what can be unpacked, and, of a
text, whether the result is one. Of a damaged image what was unpacked before the fault is kept, as
in browsers; of a text nothing is, as rules that were cut say less than they should.
"""

import codecs
import io
import itertools
import re
import zlib
from collections.abc import Sequence

import brotli
from fastwarc.stream_io import ZstdReader

_MAX_CODINGS = 3
_FORMATS = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}
"""The window bits that zlib wants for a coding; deflate is sent with and without zlib's frame."""
_FRAMED = 47  # gzip or zlib, told by their first bytes
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_TRAILER_BYTES = 8  # of gzip: CRC-32 and length
_PIECE_BYTES = 4 << 10
_ZSTD_PIECE_BYTES = 64 << 10
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Tabs, line ends, escapes (ISO 2022) and the end mark of DOS may be in a text.
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x19\x1c-\x1f]")
_START_BYTES = 3
_SIGNS = re.compile(rb"^\s*user.?agent|<[!a-z]", re.IGNORECASE | re.MULTILINE)


def read_text(body: bytes, codings: str, limit: int) -> bytes | None:
    """Return the text of a body, or None if there is none to be read.

    Parameters
    ----------
    body
        What was received.
    codings
        What Content-Encoding says. A plain body that it calls packed is read, and a packed one of
        which it says nothing if it begins like gzip or zlib.
    limit
        Bytes of text, and of each packing inside another one, that are unpacked at most; a text
        that is longer ends with its last whole line.
    """
    named = [coding for coding in re.split(r"[\s,]+", codings.lower()) if coding]
    if len(named) > _MAX_CODINGS:
        return None
    for coding in reversed(named):
        body = _unpack(body, coding, limit)
    for _ in range(_MAX_CODINGS):
        unpacked = _inflate(body, _FRAMED, limit)
        body = body if unpacked is None else unpacked
    is_whole = len(body) < limit
    if body.startswith(_UTF_16):
        body = body.decode("utf-16", errors="replace").encode(errors="replace")
    if not is_text(body):
        return None
    return body if is_whole else body[: 1 + max(body.rfind(b"\n"), body.rfind(b"\r"))]


def is_text(body: bytes) -> bool:
    """Tell whether a body is text: in UTF-8, or in another encoding a page or a robots.txt.

    The latter begins with ASCII: what Brotli did not pack, say, stands behind a few other bytes.
    """
    if _CONTROL.search(body):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(body)  # its last character may be cut
    except UnicodeDecodeError:
        start = body.removeprefix(codecs.BOM_UTF8)[:_START_BYTES]
        return start.isascii() and _SIGNS.search(body) is not None
    return True


def _unpack(body: bytes, coding: str, limit: int) -> bytes:
    """Return what a body holds if it is packed in this way, else the body."""
    if coding == "br":
        return _unpack_brotli(body, limit)
    for window_bits in _FORMATS.get(coding, ()):
        text = _inflate(body, window_bits, limit)
        if text is not None:
            return text
    return body


def _unpack_brotli(body: bytes, limit: int) -> bytes:
    text, is_whole = _brotli(body, limit)
    return text if is_whole else body


def _brotli(body: bytes, limit: int) -> tuple[bytes, bool]:
    """Unpack what may be packed with Brotli, which has no mark that tells; else return the body."""
    unpacker = brotli.Decompressor()
    try:
        text: bytes = unpacker.process(body, output_buffer_limit=limit)[:limit]
    except brotli.error:
        return body, True
    return text, unpacker.is_finished() or len(text) == limit


def _inflate(body: bytes, window_bits: int, limit: int) -> bytes | None:
    """Unpack all members of a gzip file, or the one of another format, whole or to the limit."""
    text, rest = _members(body, window_bits, limit)
    if rest is None or (rest and window_bits < 0):
        return None
    return bytes(text)


def _members(body: bytes, window_bits: int, limit: int) -> tuple[bytearray, memoryview | None]:
    """Unpack one member, and all of gzip that follow, up to a fault or the limit.

    Returns
    -------
    text, rest
        The rest is what follows the last member, and None where a fault or the end of the body is
        in one; where the limit is reached it is empty.
    """
    text, rest = bytearray(), memoryview(body)
    while True:
        length = _unpack_member(text, rest, window_bits, limit)
        if len(text) == limit:
            return text, rest[:0]
        if length is None:
            return text, None
        rest = rest[length:]
        if rest[: len(_GZIP)] != _GZIP:
            return text, rest


def _unpack_member(text: bytearray, body: memoryview, window_bits: int, limit: int) -> int | None:
    """Add what a body begins with to a text, and return its length; None if it has no sound end.

    It is read in small pieces, as zlib copies what it does not need of one, and the trailer by
    itself, as a fault costs all of its piece.
    """
    unpacker = zlib.decompressobj(window_bits)
    trailer = max(0, len(body) - _TRAILER_BYTES)
    cuts = itertools.chain(range(0, trailer, _PIECE_BYTES), (trailer, len(body)))
    for at, end in itertools.pairwise(cuts):
        try:
            text += unpacker.decompress(body[at:end], limit - len(text))
        except zlib.error:
            return None
        if unpacker.eof:
            return end - len(unpacker.unused_data)
        if len(text) == limit:
            return None
    return None


def codings_of(value: str) -> list[str]:
    """Return what a Content-Encoding says that can be undone, the last one first."""
    named = [coding.strip().lower() for coding in value.split(",")]
    known = {*_FORMATS, "br", "zstd"}
    return [coding for coding in reversed(named) if coding in known][:_MAX_CODINGS]


def inflate(body: bytes | bytearray, codings: Sequence[str], limit: int) -> bytes:
    """Return what a body holds, as `unpacked` does, whether it is whole or not."""
    return unpacked(body, codings, limit)[0]


def unpacked(body: bytes | bytearray, codings: Sequence[str], limit: int) -> tuple[bytes, bool]:
    """Return what a body holds, cut at `limit` bytes; one that is not packed is returned as it is.

    Returns
    -------
    body, is_whole
        Whether all packings were sound to their end, or to the limit.

    Notes
    -----
    Headers often lie, so a body counts as packed if it can be unpacked; what a damaged one gave up
    to its fault is what a browser shows. "deflate" is sent with and without the frame of zlib, and
    a raw one is known by nothing but its success.
    """
    text, is_whole = bytes(body), True
    for coding in codings:
        text, is_sound = _UNPACKERS[coding](text, limit)
        is_whole = is_whole and is_sound
    return text, is_whole


def _gzip(body: bytes, limit: int) -> tuple[bytes, bool]:
    if not body.startswith(_GZIP):
        return body, True
    text, rest = _members(body, _FORMATS["gzip"][0], limit)
    return bytes(text), rest is not None


def _deflate(body: bytes, limit: int) -> tuple[bytes, bool]:
    for window_bits in _FORMATS["deflate"]:
        unpacker = zlib.decompressobj(window_bits)
        try:
            text = unpacker.decompress(body, limit)
        except zlib.error:
            continue
        return text, unpacker.eof or len(text) == limit
    return body, True


def _zstd(body: bytes, limit: int) -> tuple[bytes, bool]:
    if not body.startswith(_ZSTD):
        return body, True
    reader, text = ZstdReader(io.BytesIO(body)), bytearray()
    while len(text) < limit:
        try:
            piece = reader.read(min(_ZSTD_PIECE_BYTES, limit - len(text)))
        except OSError:
            return bytes(text), False
        if not piece:
            break
        text += piece
    return bytes(text), True


_UNPACKERS = {"gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate, "br": _brotli, "zstd": _zstd}
