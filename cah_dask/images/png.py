"""PNG files as browsers read them: what carries no pixels can do no harm.

Pillow refuses a file for a chunk that it does not need: a text or profile of more than a megabyte,
a wrong checksum, a length it did not expect. Browsers pass over such chunks (PNG, third edition,
13.2: errors in ancillary chunks), so they are taken out before Pillow sees the file.
"""

import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_WANTED = frozenset({b"tRNS", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"fdAT"})
"""Ancillary chunks that say what a picture looks like, or that it moves."""
_MAX_PROFILE_BYTES = 1 << 20
"""Largest colour profile that is used, unpacked; Pillow refuses a file with a larger one."""
_GREY, _COLOUR = 0, 2


def essence(data: bytes) -> bytes:
    """Return a PNG with nothing but sound chunks that are needed to show it.

    Critical chunks stay as they are, whatever their checksums, and so does what follows the last
    whole chunk. A transparent value is given in the bits that Pillow compares it with.
    """
    kept = [SIGNATURE]
    depth, colour = data[24:25], data[25:26]
    end = len(SIGNATURE)
    for start, end in _chunks(data):
        kind = data[start + 4 : start + 8]
        if kind in _CRITICAL:
            kept.append(data[start:end])
        elif kind in _WANTED and _is_sound(data, start, end):
            body = data[start + 8 : end - 4]
            if kind == b"tRNS":
                kept.append(_chunk(kind, _transparent(body, ord(depth), ord(colour))))
            elif kind != b"iCCP" or _is_small_profile(body):
                kept.append(data[start:end])
    return b"".join([*kept, data[end:]])


def _chunks(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each whole chunk begins and ends."""
    start = len(SIGNATURE)
    while start + 12 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4])
        if end > len(data):
            return
        yield start, end
        start = end


def _is_sound(data: bytes, start: int, end: int) -> bool:
    return zlib.crc32(data[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end])


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)


def _transparent(body: bytes, depth: int, colour: int) -> bytes:
    """Return a tRNS whose value is compared with pixels as Pillow unpacks them, to 8 bits.

    Grey of 1 and of 16 bits it keeps as they are.
    """
    if colour == _GREY and depth in (2, 4):
        most = (1 << depth) - 1
        return ((int.from_bytes(body[:2]) & most) * 255 // most).to_bytes(2)
    if colour == _COLOUR and depth == 16:
        return b"".join(b"\0" + body[at : at + 1] for at in (0, 2, 4))
    return body


def _is_small_profile(body: bytes) -> bool:
    """Tell whether a profile can be unpacked, and Pillow will not mind its size."""
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(body.partition(b"\0")[2][1:], _MAX_PROFILE_BYTES)
    except zlib.error:
        return False
    return unpacker.eof
