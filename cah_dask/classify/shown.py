"""What a report shows of an item: a small picture, or the beginning of a text."""

import io
from typing import Any

import numpy as np
from PIL import Image

from cah_dask.images.picture.decode import open_rgb

THUMBNAIL_PX = 112
TEXT_CHARACTERS = 400
_JPEG = b"\xff\xd8"


def shown(item: Any, body: bytes) -> bytes:
    """Return a JPEG of at most `THUMBNAIL_PX` a side, a text in UTF-8, or nothing."""
    if isinstance(item, str):
        return " ".join(item[: 4 * TEXT_CHARACTERS].split())[:TEXT_CHARACTERS].encode(
            "utf-8", "replace"
        )
    for candidate in (item, body):
        try:
            picture = _picture(candidate)
        except Exception:  # noqa: BLE001, S112  # whatever it is, it is no picture
            continue
        picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=80)
        return file.getvalue()
    return b""


def is_picture(data: bytes) -> bool:
    """Tell whether what `shown` returned is a picture."""
    return data.startswith(_JPEG)


def _picture(candidate: Any) -> Image.Image:
    if isinstance(candidate, Image.Image):
        return candidate.convert("RGB")
    if isinstance(candidate, np.ndarray):
        return Image.fromarray(candidate).convert("RGB")
    return open_rgb(candidate)
