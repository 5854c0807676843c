"""What carries no pixels costs no picture: chunks of a PNG, the end of a JPEG, XMP."""

import io
import itertools
import time
import zlib

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from PIL import Image

from cah_dask.counts import Status
from cah_dask.images.picture import jpeg, png
from cah_dask.images.picture.decode import DecodeOptions, Picture, decode, open_rgb
from tests.images.test_second_decoder import KEEP, STORE, by_vips, chunk, encoded, scene

PLAIN = encoded(scene(), "PNG")
ANCILLARY = st.sampled_from(
    [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"bKGD", b"sBIT",
     b"tIME", b"hIST", b"sPLT", b"eXIf", b"oFFs", b"vpAg", b"caNv", b"zzZz",
     b"tRNS", b"acTL", b"fcTL", b"fdAT"]
)  # fmt: skip
HUGE = zlib.compress(b"a" * 1_300_000)


def damaged(kind: bytes, body: bytes) -> bytes:
    whole = chunk(kind, body)
    return whole[:-1] + bytes([whole[-1] ^ 1])


def with_chunk(data: bytes, at: int, piece: bytes) -> bytes:
    """Put a chunk behind the first, second, ... chunk of a PNG."""
    ends = [end for _, end in png._chunks(data)]
    position = ends[at % (len(ends) - 1)]
    return data[:position] + piece + data[position:]


@given(kind=ANCILLARY, body=st.binary(max_size=60), at=st.integers(0, 5), is_damaged=st.booleans())
@example(kind=b"zTXt", body=b"Raw profile\0\0" + HUGE, at=0, is_damaged=False)
@example(kind=b"iTXt", body=b"XML:com.adobe.xmp\0\1\0\0\0" + HUGE, at=0, is_damaged=False)
@example(kind=b"iCCP", body=b"cmyk\0\0" + HUGE, at=0, is_damaged=False)
@example(kind=b"pHYs", body=b"\0\0", at=0, is_damaged=False)
@example(kind=b"iCCP", body=b"p\0\x09" + zlib.compress(b"a" * 200), at=0, is_damaged=False)
@example(kind=b"acTL", body=b"\0\0\0\5\0\0\0\0", at=0, is_damaged=False)
@example(kind=b"acTL", body=b"\0", at=0, is_damaged=False)
@example(kind=b"fcTL", body=b"\0\0\0", at=0, is_damaged=False)
@example(kind=b"tRNS", body=b"\0", at=0, is_damaged=False)
def test_no_ancillary_chunk_changes_or_costs_a_picture(kind, body, at, is_damaged):
    assume(kind != b"tRNS" or len(body) != 6)  # of another length it is none of RGB
    piece = damaged(kind, body) if is_damaged else chunk(kind, body)
    expected, result = (decode(data, STORE) for data in (PLAIN, with_chunk(PLAIN, at, piece)))
    assert isinstance(result, Picture)
    assert result == expected


@pytest.mark.parametrize("tail", [b"", b"\0", b"\0\0\xff\xfftEXtabc", b"\0\0\0\0IE"])
def test_a_file_that_ends_behind_its_pixels_is_whole(tail):
    assert decode(PLAIN[:-12] + tail, STORE) == decode(PLAIN, STORE)


def test_a_file_that_ends_within_its_pixels_is_not():
    at = PLAIN.rindex(b"IDAT")
    assert decode(PLAIN[: at + 100], STORE) is Status.DECODE_TRUNCATED


FIRST, LAST = PLAIN.index(b"IDAT") - 4, PLAIN.rindex(b"IEND") - 4
PIXELS = zlib.decompress(PLAIN[FIRST + 8 : LAST - 4])  # Pillow writes them in one chunk


def packed_as(pieces: list[bytes]) -> bytes:
    """Return the plain picture with these packed pixels."""
    return PLAIN[:FIRST] + b"".join(chunk(b"IDAT", piece) for piece in pieces) + PLAIN[LAST:]


@pytest.mark.parametrize("options", [STORE, KEEP], ids=["jpeg", "original"])
@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("pieces", [1, 3, 6, 10])
def test_a_wrong_checksum_of_the_pixels_costs_no_picture(options, level, pieces):
    packed = zlib.compress(PIXELS, level)[:-4] + b"oops"
    ends = [*range(len(packed) - pieces + 1, len(packed) + 1)]
    data = packed_as([packed[a:b] for a, b in itertools.pairwise([0, *ends])])
    result = decode(data, options)
    assert isinstance(result, Picture)
    plain = decode(PLAIN, options)
    assert isinstance(plain, Picture)
    assert open_rgb(result.data).tobytes() == open_rgb(plain.data).tobytes()


def test_a_checksum_behind_many_empty_chunks_takes_no_time():
    packed = zlib.compress(PIXELS)[:-4] + b"oops"
    began = time.process_time()
    assert isinstance(decode(packed_as([packed, *[b""] * 200_000]), STORE), Picture)
    assert time.process_time() - began < 5


def test_a_bit_that_fell_on_its_way_is_no_wrong_checksum_of_the_author():
    data = packed_as([zlib.compress(PIXELS)[:-4] + b"oops"])
    assert isinstance(decode(data, STORE), Picture)
    for at in range(data.index(b"IDAT") + 4, data.index(b"IEND") - 8, 997):
        damaged = bytearray(data)
        damaged[at] ^= 1
        assert decode(bytes(damaged), STORE) in (Status.DECODE_ERROR, Status.DECODE_TRUNCATED)


@pytest.mark.parametrize("n_missing", [1, 1000])
def test_pixels_with_a_wrong_checksum_must_all_be_there(n_missing):
    packed = zlib.compress(PIXELS[:-n_missing])
    cut = [packed[:-4] + b"oops", packed[:-9] + b"oops", packed[:200] + b"oops"]
    for data in map(packed_as, [[each] for each in cut]):
        assert decode(data, STORE) in (Status.DECODE_ERROR, Status.DECODE_TRUNCATED)
        with pytest.raises(OSError, match=r"truncated|broken"):
            open_rgb(data)


@pytest.mark.parametrize(("mode", "value"), [("L", b"\0\x5a"), ("RGB", b"\0\x5a" * 3)])
def test_transparency_counts_once_and_before_the_pixels(mode, value):
    data = encoded(Image.new(mode, (300, 300), 90 if mode == "L" else (90, 90, 90)), "PNG")
    before = with_chunk(data, 0, chunk(b"tRNS", value))
    other = chunk(b"tRNS", bytes(len(value)))
    assert decode(before, STORE) != decode(data, STORE)
    assert decode(with_chunk(before, 1, other), STORE) == decode(before, STORE)
    assert decode(with_chunk(data, 1, chunk(b"tRNS", value)), STORE) == decode(data, STORE)


def test_an_original_is_stored_as_received_and_read_without_its_metadata():
    data = with_chunk(PLAIN, 0, chunk(b"zTXt", b"x\0\0" + HUGE))
    result = decode(data, KEEP)
    assert isinstance(result, Picture)
    assert result.data == data
    assert open_rgb(result.data).tobytes() == open_rgb(PLAIN).tobytes()


def test_a_damaged_header_is_an_error_of_a_known_format():
    data = bytearray(PLAIN)
    data[30] ^= 1  # the checksum of IHDR
    assert decode(bytes(data), STORE) is Status.DECODE_ERROR


def halves(left: bytes, right: bytes, *, transparent: bytes, is_interlaced: bool = False) -> bytes:
    """Write a PNG of 16 bits with a colour in either half, and one that is transparent."""
    side, colour = 80, 2 if len(left) == 6 else 0
    rows = b"".join(
        b"\0" + b"".join(left if x < side // 2 else right for x in range(first_x, side, step_x))
        for first_x, first_y, step_x, step_y in (ADAM7 if is_interlaced else [(0, 0, 1, 1)])
        for _ in range(first_y, side, step_y)
    )
    header = bytes([0, 0, 0, side, 0, 0, 0, side, 16, colour, 0, 0, is_interlaced])
    return b"".join(
        [
            png.SIGNATURE,
            chunk(b"IHDR", header),
            chunk(b"tRNS", transparent),
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        ]
    )


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
ADAM7 += [(0, 1, 1, 2)]
GREY, BLUE = b"\x20\x00", b"\x20\x00\x00\x07\xa0\x10"


@pytest.mark.parametrize("is_interlaced", [False, True])
@pytest.mark.parametrize(
    ("colour", "place"), [(GREY, 1), (BLUE, 1), (BLUE, 3), (BLUE, 5), (BLUE, 4)]
)
def test_a_colour_next_to_the_transparent_one_stays(colour, place, is_interlaced):
    """Only one of sixteen bits tells the two values apart."""
    other = bytearray(colour)
    other[place] ^= 1
    data = halves(colour, bytes(other), transparent=bytes(other), is_interlaced=is_interlaced)
    pixels = np.asarray(open_rgb(data))
    assert pixels.shape == (80, 80, 3)
    assert (pixels[:, :40] == (list(colour[::2]) if len(colour) == 6 else [0x20] * 3)).all()
    assert (pixels[:, 40:] == 255).all()
    if len(colour) == 6:
        assert (by_vips(data) == pixels).all()
    none = halves(colour, colour, transparent=bytes(other), is_interlaced=is_interlaced)
    assert (np.asarray(open_rgb(none)) == pixels[:, :1]).all()
    result = decode(none, STORE)
    assert isinstance(result, Picture)
    assert abs(np.asarray(open_rgb(result.data)).astype(int) - pixels[:, :1]).max() <= 3


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_no_picture_is_turned_by_its_xmp(kind: str):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    if kind == "PNG":
        piece = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
        data = with_chunk(PLAIN, 0, piece)
    else:
        data = encoded(scene(), kind, xmp=xmp)
    result = decode(data, STORE)
    assert isinstance(result, Picture)
    assert (result.original_width, result.original_height) == scene().size


BASELINE = encoded(scene(), "JPEG", quality=90)


@pytest.mark.parametrize("options", [STORE, KEEP], ids=["jpeg", "original"])
def test_a_jpeg_without_its_end_is_kept_if_it_holds_every_pixel(options: DecodeOptions):
    whole = decode(BASELINE, options)
    assert isinstance(whole, Picture)
    lengths = []
    for missing in range(1, 60):
        result = decode(BASELINE[:-missing], options)
        if isinstance(result, Picture):
            lengths.append(missing)
            assert open_rgb(result.data).tobytes() == open_rgb(whole.data).tobytes()
        else:
            assert result is Status.DECODE_TRUNCATED
    assert lengths[:2] == [1, 2]  # of the marker itself
    assert max(lengths) < 9


def test_a_progressive_jpeg_without_its_end_may_lack_a_scan():
    data = encoded(scene(), "JPEG", progressive=True)
    assert not jpeg.is_complete(data[:-2])
    assert decode(data[:-2], STORE) is Status.DECODE_TRUNCATED


def test_nothing_but_a_jpeg_lacks_the_end_of_one():
    assert not jpeg.is_complete(b"")
    assert not jpeg.is_complete(PLAIN[:-2])


def test_walking_many_small_chunks_takes_no_time():
    many = chunk(b"tEXt", b"a\0b") * 200_000
    data = with_chunk(PLAIN, 0, many)
    assert len(png.essence(data)) < len(PLAIN) + 100
    assert Image.open(io.BytesIO(png.essence(data))).size == scene().size
