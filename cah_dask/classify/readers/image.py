"""Pictures of archives: records that hold one, as pixels of the size that a model takes."""

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from cah_dask.counts import Status
from cah_dask.errors import ConfigError
from cah_dask.images.picture.decode import DecodeOptions, decode_rgb

if TYPE_CHECKING:
    from cah_dask.archives.responses import Response

Fit: TypeAlias = Literal["crop", "squash", "whole"]
"""`crop` cuts a square out of the middle, `squash` makes one of all, `whole` leaves the shape."""

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""A picture as models see it, `(height, width, 3)`: red, green and blue, upright, over white."""

_OF_STORING = ("store", "side_px", "quality", "phash")  # options that say nothing here


class Pictures:
    """Read every record that holds a picture, told by its bytes and not by its headers.

    Parameters
    ----------
    side
        Pixels of the square, to which smaller pictures are made larger; or with `whole` of the
        shorter side at the most.
    fit
        See `Fit`.
    limits
        Which pictures are wanted: `formats`, `min_bytes`, `min_side_px`, `max_aspect`,
        `max_pixels`, `animated`, as options of `images.picture.decode.DecodeOptions`.

    Raises
    ------
    ConfigError
        If an argument is unknown or out of range.
    """

    def __init__(self, *, side: int = 224, fit: Fit = "crop", **limits: Any) -> None:
        if fit not in get_args(Fit):
            raise ConfigError(f"Pictures has fit {fit!r}; known: {', '.join(get_args(Fit))}")
        if strangers := [name for name in _OF_STORING if name in limits]:
            raise ConfigError(f"Pictures has no argument {strangers[0]}; use side and fit")
        try:
            self._options = msgspec.convert({**limits, "side_px": side}, DecodeOptions)
        except msgspec.ValidationError as error:
            raise ConfigError(f"Pictures: {error}") from error
        self._side = side
        self._fit = fit

    def __call__(self, record: "Response") -> Pixels | None:
        """Return the picture of a record; None if it holds none, or one that is not wanted."""
        picture = decode_rgb(record.body, self._options)
        if isinstance(picture, Status):
            return None
        return np.asarray(self._fitted(picture))

    def _fitted(self, picture: Image.Image) -> Image.Image:
        if self._fit == "whole" or picture.size == (self._side, self._side):
            return picture
        box = None if self._fit == "squash" else _middle(*picture.size)
        return picture.resize((self._side, self._side), Image.Resampling.BICUBIC, box)


def _middle(width: int, height: int) -> tuple[float, float, float, float]:
    """Return the square in the middle, at whole pixels."""
    side = min(width, height)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return left, top, left + side, top + side
