"""Pictures of every kind beside a second decoder, libvips: the same size, the same colours."""

import io
import itertools
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
import pyvips
from PIL import Image

from cah_dask.images.picture.decode import DecodeOptions, Picture, decode, open_rgb

SIZE = (160, 112)
CELLS = 4
CLOSE = 3.0
"""Grey levels by which the mean colour of a picture may differ."""
CELL_CLOSE = 9.0
"""The same for a sixteenth of it: a JPEG smears colours over the edges between them."""

STORE, KEEP = DecodeOptions(side_px=None), DecodeOptions(store="original")


def scene(mode: str = "RGB") -> Image.Image:
    """Draw four different quarters, so that every flip and turn shows; alpha runs from 0 to 255."""
    width, height = SIZE
    ramp = Image.linear_gradient("L").resize(SIZE)
    picture = Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT), ramp))
    picture.paste("red", (8, 8, width // 2, height // 2))
    picture.paste("navy", (width // 2, height // 2, width - 20, height - 9))
    if mode.endswith("A"):
        picture.putalpha(ramp.transpose(Image.Transpose.ROTATE_180))
        return picture.convert(mode)
    return picture.convert(mode)


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(depth: int, colour: int, *, transparent: bytes | None = None) -> bytes:
    """Write a PNG of any bit depth and colour type by hand: stripes of a few values."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    most = (1 << depth) - 1
    width, height = SIZE
    bits = ""
    for x in range(width):
        for channel in range(channels):
            value = (x // 40 * (most // 3 or 1) + channel) & most
            bits += f"{value:0{depth}b}"
    bits += "0" * (-len(bits) % 8)
    row = int(bits, 2).to_bytes(len(bits) // 8)
    palette = (
        [chunk(b"PLTE", bytes((37 * n * (c + 1)) % 256 for n in range(most + 1) for c in range(3)))]
        if colour == 3
        else []
    )
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
            *palette,
            *([chunk(b"tRNS", transparent)] if transparent is not None else []),
            chunk(b"IDAT", zlib.compress((b"\0" + row) * height)),
            chunk(b"IEND", b""),
        ]
    )


def pngs() -> Iterator[tuple[str, bytes]]:
    for depth in (1, 2, 4, 8, 16):
        most = (1 << depth) - 1
        values = {"darkest": 0, "second": most // 3, "brightest": most}
        yield f"PNG grey {depth}", png(depth, 0)
        for name, value in values.items():
            yield f"PNG grey {depth} tRNS {name}", png(depth, 0, transparent=value.to_bytes(2))
    for depth in (8, 16):
        yield f"PNG rgb {depth}", png(depth, 2)
        first = b"".join(value.to_bytes(2) for value in range(3))
        yield f"PNG rgb {depth} tRNS", png(depth, 2, transparent=first)
        yield f"PNG grey alpha {depth}", png(depth, 4)
        yield f"PNG rgb alpha {depth}", png(depth, 6)
    for depth in (1, 2, 4, 8):
        yield f"PNG palette {depth}", png(depth, 3)
        yield f"PNG palette {depth} tRNS", png(depth, 3, transparent=b"\x40\xff")


def written_by_pillow() -> Iterator[tuple[str, bytes]]:
    for mode in ("L", "RGB", "CMYK"):
        for progressive, subsampling in itertools.product((False, True), (0, 1, 2)):
            options = {"progressive": progressive, "subsampling": subsampling, "quality": 92}
            yield f"JPEG {mode} {options}", encoded(scene(mode), "JPEG", **options)
    yield "JPEG restarts", encoded(scene(), "JPEG", restart_marker_blocks=3, quality=92)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind in ("JPEG", "WEBP", "PNG"):
            data = encoded(scene(), kind, exif=exif, **({} if kind == "PNG" else {"quality": 92}))
            yield f"{kind} orientation {orientation}", data
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield f"PNG {mode}", encoded(scene(mode), "PNG")
        yield f"GIF {mode}", encoded(scene(mode), "GIF")
    for mode, lossless in itertools.product(("RGB", "RGBA"), (False, True)):
        yield f"WEBP {mode} {lossless}", encoded(scene(mode), "WEBP", lossless=lossless, quality=95)
    yield "GIF transparent", encoded(scene("P"), "GIF", transparency=scene("P").getpixel((20, 20)))


def written_by_vips() -> Iterator[tuple[str, bytes]]:
    picture = pyvips.Image.new_from_buffer(encoded(scene(), "PNG"), "")
    wide = picture.icc_transform("p3", input_profile="srgb")
    yield "PNG interlaced", picture.pngsave_buffer(interlace=True)
    yield "PNG interlaced 16", picture.colourspace("rgb16").pngsave_buffer(interlace=True)
    yield "PNG interlaced grey", picture.colourspace("b-w").pngsave_buffer(interlace=True)
    yield "JPEG Display P3", wide.jpegsave_buffer(Q=92, profile="p3")
    yield "PNG Display P3", wide.pngsave_buffer(profile="p3")
    yield "WEBP Display P3", wide.webpsave_buffer(Q=95, profile="p3")
    yield "JPEG optimised scans", picture.jpegsave_buffer(Q=92, interlace=True, trellis_quant=True)


CORPUS = dict(itertools.chain(pngs(), written_by_pillow(), written_by_vips()))

EXCEPTIONS = {
    name: "without a profile, libvips takes CMYK for that of a printing press; browsers do not"
    for name in CORPUS
    if name.startswith("JPEG CMYK")
}


def by_vips(data: bytes) -> np.ndarray:
    """Return a picture as browsers show it on white, decoded by libvips: (height, width, 3)."""
    picture = pyvips.Image.new_from_buffer(data, "").autorot()
    if picture.get_typeof("icc-profile-data"):
        picture = picture.icc_transform("srgb", embedded=True)
    picture = picture.colourspace("srgb")
    if picture.hasalpha():
        picture = picture.flatten(background=255)
    return picture.cast("uchar").numpy()[:, :, :3]


def means(pixels: np.ndarray) -> np.ndarray:
    """Return the mean colour of each cell of a coarse grid."""
    rows = np.array_split(pixels.astype(float), CELLS)
    return np.array(
        [cell.mean((0, 1)) for row in rows for cell in np.array_split(row, CELLS, axis=1)]
    )


@pytest.mark.parametrize("options", [STORE, KEEP], ids=["jpeg", "original"])
@pytest.mark.parametrize("name", sorted(CORPUS.keys() - EXCEPTIONS.keys()))
def test_a_picture_is_what_another_decoder_makes_of_it(name: str, options: DecodeOptions):
    data = CORPUS[name]
    expected = by_vips(data)
    result = decode(data, options)
    assert isinstance(result, Picture), result
    assert (result.original_width, result.original_height) == expected.shape[1::-1]
    stored = np.asarray(open_rgb(result.data))
    assert stored.shape == expected.shape
    differences = means(stored) - means(expected)
    assert np.abs(differences.mean(0)).max() <= CLOSE
    assert np.abs(differences).max() <= CELL_CLOSE


@pytest.mark.parametrize("name", sorted(EXCEPTIONS))
def test_an_exception_is_one(name: str):
    stored = np.asarray(open_rgb(CORPUS[name]))
    assert np.abs(means(stored) - means(by_vips(CORPUS[name]))).max() > CELL_CLOSE
