"""Picture files of the demo's world: JPEG, PNG, WebP and GIF in the sizes that pages use."""

import io
import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from cah_dask.demo.world import Scene, draw


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file, described by what it is drawn from."""

    scene: Scene
    size: tuple[int, int]
    """(width, height) in pixels."""
    seed: int
    format: str = "JPEG"
    """A key of `ENCODERS`."""

    def encode(self) -> bytes:
        """Return the bytes of the file; a few milliseconds, always the same."""
        return ENCODERS[self.format](draw(self.scene, self.size, self.seed))


def random_picture(scene: Scene, rng: random.Random) -> Picture:
    """Return a picture of `scene` in a usual size, format and shape."""
    short = rng.randint(144, 288)
    sides = (short, round(short * rng.uniform(1, 1.5)))
    (format_,) = rng.choices(list(_SHARES), list(_SHARES.values()))
    size = sides if rng.random() < 0.5 else sides[::-1]
    return Picture(scene, size, rng.getrandbits(32), format_)


_SHARES = {"JPEG": 60, "PNG": 18, "WEBP": 12, "GIF": 10}


def _jpeg(image: Image.Image) -> bytes:
    return _saved(image, "JPEG", quality=85)


def _png(image: Image.Image) -> bytes:
    return _saved(image, "PNG", compress_level=1)  # half the time of the default level


def _webp(image: Image.Image) -> bytes:
    return _saved(image, "WEBP", quality=80, method=0)


def _gif(image: Image.Image) -> bytes:
    few = image.quantize(64, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    return _saved(few, "GIF")


def _saved(image: Image.Image, format_: str, **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


ENCODERS: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
}
