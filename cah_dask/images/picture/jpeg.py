"""JPEG files without their end marker, which browsers show whole when no pixel is missing."""

import io

from PIL import Image

START = b"\xff\xd8\xff"
END = b"\xff\xd9"

_NOISES = tuple(bytes([first, *range(1, 250)]) * 64 for first in (0x00, 0x55, 0xAA, 0xFE))
"""What may follow, with any two bits first; no 0xff, which would begin a marker."""


def is_complete(data: bytes) -> bool:
    """Tell whether a JPEG that lacks its end marker holds every pixel.

    Where pixels are missing, the decoder makes them of what follows: different ends then give
    different pictures. A progressive file may end between any two of its scans, so of these
    nobody can tell.
    """
    if not data.startswith(START):
        return False
    data = data.rstrip(END[:1])  # half of the marker
    with Image.open(io.BytesIO(data + END), formats=["JPEG"]) as image:
        if image.info.get("progressive"):
            return False
        pixels = image.tobytes()
    return all(_pixels(data + noise + END) == pixels for noise in _NOISES)


def _pixels(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        return image.tobytes()
