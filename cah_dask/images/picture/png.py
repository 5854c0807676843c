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
_CHECKSUM_BYTES = 4
_GREY, _COLOUR, _PALETTE = 0, 2, 3
_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})


def essence(data: bytes) -> bytes:
    """Return a PNG with nothing but sound chunks that are needed to show it.

    Critical chunks stay as they are, whatever their checksums, and so does what follows the last
    whole chunk, unless all pixels are there. A transparent value is given in the bits that Pillow
    compares it with.
    """
    kept, seen = [SIGNATURE], set()
    depth, colour = data[24:25], data[25:26]
    n_colours = 0
    end = len(SIGNATURE)
    chunks = list(_chunks(data))
    moves = _moves(data, chunks)
    for start, end in chunks:
        kind, body = data[start + 4 : start + 8], data[start + 8 : end - 4]
        if kind in _CRITICAL:
            kept.append(data[start:end])
            n_colours = len(body) // 3 if kind == b"PLTE" else n_colours
        elif kind not in _WANTED or not _is_sound(data, start, end):
            continue
        elif kind in _ANIMATION:
            kept += [data[start:end]] if moves else []
        elif kind in seen or b"IDAT" in seen:
            continue  # the first one counts, and only before the pixels
        elif kind == b"tRNS":
            if _fits(body, ord(colour), n_colours):
                kept.append(_chunk(kind, _transparent(body, ord(depth), ord(colour))))
        elif kind != b"iCCP" or _is_small_profile(body):
            kept.append(data[start:end])
        seen.add(kind)
    is_whole = b"IDAT" in seen and data[end + 4 : end + 8] != b"IDAT"
    tail = data[end:] if b"IEND" in seen or not is_whole else _chunk(b"IEND", b"")
    return b"".join([*kept, tail])


def without_checksum(data: bytes) -> bytes:
    """Return a PNG whose packed pixels lack the last four bytes: their Adler-32.

    A wrong one costs a picture in Pillow and none in browsers, one that is missing neither. Pixels
    that are not all there are still missed. Where a chunk of pixels has a wrong checksum of its own
    they were damaged on their way, and the file is returned as it is.
    """
    if not _has_sound_pixels(data):
        return data
    left, end_kept = _CHECKSUM_BYTES, len(data)
    tail: list[bytes] = []
    for start, end in reversed(list(_chunks(data))):
        if left and data[start + 4 : start + 8] == b"IDAT":
            n_bytes = end - start - 12
            n_cut = min(left, n_bytes)
            body = data[start + 8 : start + 8 + n_bytes - n_cut]
            tail += [data[end:end_kept], _chunk(b"IDAT", body)]
            left, end_kept = left - n_cut, start
    return b"".join([data[:end_kept], *reversed(tail)])


def _has_sound_pixels(data: bytes) -> bool:
    """Tell whether the checksum of each chunk of pixels is right."""
    return all(
        _is_sound(data, start, end)
        for start, end in _chunks(data)
        if data[start + 4 : start + 8] == b"IDAT"
    )


def _moves(data: bytes, chunks: list[tuple[int, int]]) -> bool:
    """Tell whether a file has an animation of two frames or more, and no chunk of it is broken."""
    frames = 0
    for start, end in chunks:
        kind, n_bytes = data[start + 4 : start + 8], end - start - 12
        if kind == b"acTL" and (n_bytes != 8 or not _is_sound(data, start, end)):
            return False
        if kind == b"fcTL":
            frames += n_bytes == 26 and _is_sound(data, start, end)
    return frames > 1


def _fits(body: bytes, colour: int, n_colours: int) -> bool:
    """Tell whether a tRNS has the length that it must have for a type of colour."""
    if colour == _PALETTE:
        return 0 < len(body) <= n_colours
    return len(body) == {_GREY: 2, _COLOUR: 6}.get(colour)


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

    One of 16 bits is compared with all of them (`cah_dask.images.picture.sixteen_bit`).
    """
    if colour == _GREY and depth == 1:
        return (body[1] & 1).to_bytes(2)
    if colour == _GREY and depth in (2, 4):
        most = (1 << depth) - 1
        return ((int.from_bytes(body[:2]) & most) * 255 // most).to_bytes(2)
    return body


def _is_small_profile(body: bytes) -> bool:
    """Tell whether a profile can be unpacked, and Pillow will not mind its size."""
    unpacker = zlib.decompressobj()
    method, packed = body.partition(b"\0")[2][:1], body.partition(b"\0")[2][1:]
    try:
        unpacker.decompress(packed, _MAX_PROFILE_BYTES)
    except zlib.error:
        return False
    return unpacker.eof and method == b"\0"
