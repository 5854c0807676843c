"""What a report shows of an item: a small picture, or the beginning of a text."""

from typing import Any

import numpy as np
from PIL import Image

from cah_dask.images.picture.decode import open_rgb
from cah_dask.images.picture.thumbnail import thumbnail

TEXT_CHARACTERS = 400
_JPEG = b"\xff\xd8"


def shown(item: Any, body: bytes) -> bytes:
    """Return a JPEG of a small picture, a text in UTF-8, or nothing."""
    if isinstance(item, str):
        return " ".join(item[: 4 * TEXT_CHARACTERS].split())[:TEXT_CHARACTERS].encode(
            "utf-8", "replace"
        )
    for candidate in (item, body):
        try:
            picture = _picture(candidate)
        except Exception:  # noqa: BLE001, S112  # whatever it is, it is no picture
            continue
        return thumbnail(picture)
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
