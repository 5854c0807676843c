"""JPEG files without their end marker, which browsers show whole when no pixel is missing."""

import io

from PIL import Image

START = b"\xff\xd8\xff"
END = b"\xff\xd9"

_NOISE = bytes(range(1, 250)) * 64  # no 0xff, which would begin a marker


def is_complete(data: bytes) -> bool:
    """Tell whether a JPEG that lacks its end marker holds every pixel.

    Where pixels are missing, the decoder makes them of what follows: two different ends then give
    two different pictures. A progressive file may end between any two of its scans, so of these
    nobody can tell.
    """
    if not data.startswith(START):
        return False
    with Image.open(io.BytesIO(data + END), formats=["JPEG"]) as image:
        if image.info.get("progressive"):
            return False
        ended = image.tobytes()
    with Image.open(io.BytesIO(data + _NOISE + END), formats=["JPEG"]) as image:
        return image.tobytes() == ended
