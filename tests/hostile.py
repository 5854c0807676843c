"""Files that a decoder, or a reader of weights, should not swallow."""

import io
import random
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageCms


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def encoded(image: Image.Image, kind: str, **save) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **save)
    return out.getvalue()


def picture(kind: str = "JPEG", size: tuple[int, int] = (96, 72), seed: int = 0, **save) -> bytes:
    """Draw a small picture that no two seeds share."""
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    color = (seed * 37 % 256, seed // 7 % 256, seed * 11 % 256)
    image.paste(color, (8, 8, size[0] // 2, size[1] // 2))
    return encoded(image, kind, **save)


def bomb() -> bytes:
    """Draw 12,000 x 12,000 pixels in a few KiB."""
    return encoded(Image.new("1", (12_000, 12_000)), "PNG")


def broken() -> bytes:
    """Draw a picture with one bit fallen over."""
    data = bytearray(picture("PNG"))
    data[data.index(b"IDAT") + 20] ^= 1
    return bytes(data)


def many_scans(count: int = 20_000) -> bytes:
    """Draw a progressive JPEG of 1 MB that repeats an empty scan: it takes minutes to decode."""
    data = encoded(Image.new("RGB", (6000, 6000)), "JPEG", progressive=True)
    parts = list(_segments(data))
    scans = [index for index, (marker, _) in enumerate(parts) if marker == 0xDA]
    whole = b"".join(part for _, part in parts[: scans[1]])
    return b"\xff\xd8" + whole + parts[scans[1]][1] * count + b"\xff\xd9"


def _segments(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    at = 2
    while jpeg[at + 1] != 0xD9:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4])
        while jpeg[at + 1] == 0xDA and not (jpeg[end] == 0xFF and jpeg[end + 1]):
            end += 1
        yield jpeg[at + 1], jpeg[at:end]
        at = end


def polyglots() -> list[bytes]:
    """Join two formats in one file."""
    page = b"<html><script>alert(1)</script></html>"
    archive = b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18)
    return [
        picture() + page,
        picture("GIF") + archive,
        picture("PNG") + picture(),
        b"GIF89a/*" + page,
        page + picture(),
        archive + picture("PNG"),
    ]


def corpus() -> list[bytes]:
    """Draw one small picture for each feature of each format."""
    color = Image.linear_gradient("L").resize((64, 66)).convert("RGB")
    color.paste("red", (9, 9, 30, 40))
    clear = color.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize((64, 66)))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    icc = icc.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    more = {"save_all": True, "append_images": [color.rotate(90)]}
    return [
        encoded(color, "JPEG", exif=exif, icc_profile=icc),
        encoded(color, "JPEG", progressive=True, comment=b"x" * 40),
        encoded(color.convert("L"), "JPEG", restart_marker_blocks=2),
        encoded(color.convert("CMYK"), "JPEG"),
        encoded(color, "MPO", **more),
        encoded(color, "PNG", icc_profile=icc, exif=exif),
        encoded(clear, "PNG"),
        encoded(color.quantize(9), "PNG", transparency=1),
        encoded(color.convert("1"), "PNG"),
        encoded(color.convert("I;16"), "PNG"),
        encoded(color, "PNG", **more),
        encoded(color, "WEBP", exif=exif, icc_profile=icc),
        encoded(clear, "WEBP", lossless=True),
        encoded(clear, "WEBP", **more),
        encoded(color, "GIF", interlace=1),
        encoded(color, "GIF", transparency=1, **more),
    ]


def mutants(count: int, seed: int = 0) -> Iterator[bytes]:
    """Damage the pictures of the corpus, each time in another way."""
    rng = random.Random(seed)
    originals = corpus()
    for _ in range(count):
        data = bytearray(rng.choice(originals))
        for _ in range(rng.choice((1, 1, 2, 5, 20))):
            _damage(data, rng, originals)
        yield bytes(data)


def _damage(data: bytearray, rng: random.Random, others: list[bytes]) -> None:
    at = rng.randrange(len(data)) if data else 0
    length = rng.choice((1, 2, 4, 16, 200))
    match rng.randrange(7):
        case 0 if data:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            data[at : at + length] = rng.randbytes(length)
        case 2:
            data[at : at + 4] = rng.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"))
        case 3:
            del data[at : at + length]
        case 4:
            data[at:at] = data[at : at + length]
        case 5:
            other = rng.choice(others)
            begin = rng.randrange(len(other))
            data[at : at + length] = other[begin : begin + length]
        case _:
            del data[rng.randrange(len(data) // 2, len(data) + 1) :]
