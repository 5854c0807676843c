"""Images that came packed although they were asked for as they are (RFC 9110 8.4)."""

import zlib

CODINGS = frozenset({"gzip", "x-gzip", "deflate"})
_MAX_CODINGS = 3
_GZIP, _ZLIB, _RAW = 31, 15, -15  # the window bits that zlib wants for each
_GZIP_MAGIC = b"\x1f\x8b"


def codings_of(value: str) -> list[str]:
    """Return what a Content-Encoding says that can be undone, the last one first."""
    named = [coding.strip().lower() for coding in value.split(",")]
    return [coding for coding in reversed(named) if coding in CODINGS][:_MAX_CODINGS]


def inflate(body: bytes | bytearray, codings: list[str], limit: int) -> bytes | bytearray:
    """Return what a body holds, cut at `limit` bytes; one that is not packed is returned as it is.

    Notes
    -----
    Headers often lie, so a body counts as packed if it can be unpacked; what a damaged one gave up
    to its fault is what a browser shows. "deflate" is sent with and without the frame of zlib, and
    a raw one is known by nothing but its success.
    """
    for coding in codings:
        if coding != "deflate":
            body = _members(body, limit) if body.startswith(_GZIP_MAGIC) else body
        else:
            plain = (_inflated(body, window_bits, limit) for window_bits in (_ZLIB, _RAW))
            body = next((each for each in plain if each is not None), body)
    return body


def _members(body: bytes | bytearray, limit: int) -> bytearray:
    """Unpack all members of a gzip file."""
    plain = bytearray()
    rest = bytes(body)
    while rest.startswith(_GZIP_MAGIC) and len(plain) < limit:
        unpacker = zlib.decompressobj(_GZIP)
        try:
            plain += unpacker.decompress(rest, limit - len(plain))
        except zlib.error:
            break
        rest = unpacker.unused_data
    return plain


def _inflated(body: bytes | bytearray, window_bits: int, limit: int) -> bytes | None:
    try:
        return zlib.decompressobj(window_bits).decompress(body, limit)
    except zlib.error:
        return None
