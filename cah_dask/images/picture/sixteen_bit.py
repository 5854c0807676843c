"""Pictures of 16 bits a channel, in 8 bits, with alpha where one value is transparent.

A pixel is transparent where it has all 16 bits of that value, and Pillow drops the lower 8 of a
colour: where they are needed they are decoded by themselves.
"""

import functools
import io
from collections.abc import Sequence

from PIL import Image, ImageChops
from PIL.ImageFile import ImageFile

_LOW = "low bytes"


def is_sixteen(image: Image.Image) -> bool:
    """Tell whether a loaded picture is to be made plain here."""
    return image.mode.startswith("I;16") or _LOW in image.info


def keep_low_bytes(image: ImageFile, data: bytes) -> None:
    """Keep at hand what Pillow drops of a file, if it is a PNG with a transparent colour.

    Nothing is decoded before `plain` is asked for.
    """
    if "transparency" in image.info and [tile.args for tile in image.tile] == ["RGB;16B"]:
        low = Image.open(io.BytesIO(data), formats=["PNG"])
        low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]
        image.info[_LOW] = low


def plain(image: Image.Image) -> Image.Image:
    """Return a loaded picture in 8 bits, with alpha if one value is transparent."""
    value = image.info.get("transparency")
    if _LOW in image.info:
        colours = image.split()
        return _with_alpha(colours, (*colours, *image.info[_LOW].split()), value or ())
    pixels = image.tobytes("raw", "I;16")
    grey, low = (Image.frombytes("L", image.size, pixels[byte::2]) for byte in (1, 0))
    return _with_alpha([grey] * 3, (grey, low), [value]) if isinstance(value, int) else grey


def _with_alpha(
    colours: Sequence[Image.Image], bands: Sequence[Image.Image], value: Sequence[int]
) -> Image.Image:
    """Join colours and an alpha that is 0 where the bands, high ones first, have a value."""
    wanted = [level >> 8 for level in value] + [level & 255 for level in value]
    differs = (
        band.point([0 if level == byte else 255 for level in range(256)])
        for band, byte in zip(bands, wanted, strict=True)
    )
    return Image.merge("RGBA", (*colours, functools.reduce(ImageChops.lighter, differs)))
