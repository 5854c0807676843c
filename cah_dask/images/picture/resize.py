"""One picture -> a smaller one, with the vector instructions of the CPU where a library has them.

cykooz_resizer (AVX2, SSE4.1) is required on x86-64. On Linux there are wheels for nothing else, so
other processors make do with Pillow's own resampling: the same filters, more CPU time, and not
the same pixels where the filters overshoot (docs/benchmarks.md has the figures).
"""

import math
import platform
from typing import TypeAlias

from PIL import Image
from PIL.Image import Resampling

IS_VECTORISED = platform.machine() == "x86_64"

if IS_VECTORISED:
    import cykooz_resizer as simd

Box: TypeAlias = tuple[float, float, float, float]
"""Left, upper, right and lower edge of a part of a picture, in pixels."""

MAX_PIXELS = 16_000_000
"""Larger pictures are left to Pillow, as each copy of their pixels takes more than 64 MB."""

_RAW = {"L": "L", "RGB": "RGBX", "RGBA": "RGBA", "CMYK": "CMYK"}
"""How the pixels of each mode lie in Pillow's memory, so that copying them converts nothing."""


def shrunk(
    image: Image.Image, size: tuple[int, int], resample: Resampling, box: Box | None = None
) -> Image.Image:
    """Make what `box` shows of a picture smaller: averaged by whole numbers, the rest resampled.

    The whole numbers leave a factor below 2 for `resample`, bicubic or Lanczos.
    """
    left, upper, right, lower = box or (0, 0, *image.size)
    factor = math.floor(min((right - left) / size[0], (lower - upper) / size[1]))
    if factor > 1:
        image = image.reduce(factor)
        left, upper, right, lower = (edge / factor for edge in (left, upper, right, lower))
    if image.size == size == (right - left, lower - upper):
        return image
    is_fast = IS_VECTORISED and image.mode in _RAW and image.width * image.height <= MAX_PIXELS
    resample_by = by_simd if is_fast else by_pillow
    return resample_by(image, size, resample, (left, upper, right, lower))


def by_pillow(
    image: Image.Image, size: tuple[int, int], resample: Resampling, box: Box
) -> Image.Image:
    """Resample with Pillow."""
    return image.resize(size, resample, box)


def by_simd(
    image: Image.Image, size: tuple[int, int], resample: Resampling, box: Box
) -> Image.Image:
    """Resample with cykooz_resizer, which works on copies: Pillow's memory is Pillow's alone."""
    left, upper, right, lower = box
    cubic, lanczos = simd.FilterType.catmull_rom, simd.FilterType.lanczos3
    options = simd.ResizeOptions(
        simd.ResizeAlg.convolution(lanczos if resample is Resampling.LANCZOS else cubic),
        use_alpha=image.mode == "RGBA",
        crop_box=simd.CropBox(left, upper, right - left, lower - upper),
    )
    kind = simd.PixelType.U8 if image.mode == "L" else simd.PixelType.U8x4
    raw = _RAW[image.mode]
    pixels = simd.ImageData(*image.size, kind, image.tobytes("raw", raw))
    result = simd.ImageData(*size, kind)
    simd.Resizer().resize(pixels, result, options)
    small = Image.frombytes(image.mode, size, result.get_buffer(), "raw", raw)
    small.info = image.info.copy()
    return small
