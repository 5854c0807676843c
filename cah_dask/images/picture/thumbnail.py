"""Small pictures for pages that people look at."""

import base64
import io

from PIL import Image

from cah_dask.images.picture.decode import open_rgb

THUMBNAIL_PX = 112
"""Longest side."""


def thumbnail(image: Image.Image) -> bytes:
    """Return a JPEG of a picture in RGB, of `THUMBNAIL_PX` a side at most."""
    small = image.copy()
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return file.getvalue()


def data_url(data: bytes | None) -> str:
    """Return the thumbnail of a stored picture as a data url; empty for none."""
    if data is None:
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(thumbnail(open_rgb(data))).decode()}"
