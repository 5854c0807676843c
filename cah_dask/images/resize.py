"""One picture -> a smaller one, with the vector instructions of the CPU where a library has them.

cykooz_resizer (AVX2, SSE4.1) comes as a wheel for x86-64 only; elsewhere Pillow's own resize does
the same with the same filters, four times as slowly, and pictures may differ in their last bits.
"""

import math
from typing import TypeAlias

from PIL import Image
from PIL.Image import Resampling

try:
    import cykooz_resizer as simd
except ImportError:
    simd = None

Box: TypeAlias = tuple[float, float, float, float]
"""Left, upper, right and lower edge of a part of a picture, in pixels."""

IS_VECTORISED = simd is not None

_RAW = {"L": "L", "RGB": "RGBX", "RGBA": "RGBA", "CMYK": "CMYK"}
"""How the pixels of each mode lie in Pillow's memory, so that copying them converts nothing."""


def shrunk(
    image: Image.Image, size: tuple[int, int], resample: Resampling, box: Box | None = None
) -> Image.Image:
    """Make what `box` shows of a picture smaller: averaged by whole numbers, the rest resampled.

    The whole numbers leave a factor below 2 for `resample`, bicubic or Lanczos. Modes other than
    L, RGB, RGBA and CMYK are left to Pillow.
    """
    left, upper, right, lower = box or (0, 0, *image.size)
    factor = math.floor(min((right - left) / size[0], (lower - upper) / size[1]))
    if factor > 1:
        image = image.reduce(factor)
        left, upper, right, lower = (edge / factor for edge in (left, upper, right, lower))
    if image.size == size == (right - left, lower - upper):
        return image
    resized = by_simd if IS_VECTORISED and image.mode in _RAW else by_pillow
    return resized(image, size, resample, (left, upper, right, lower))


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
    pixels = image.tobytes("raw", _RAW[image.mode])
    result = simd.ImageData(*size, kind)
    simd.Resizer().resize(simd.ImageData(*image.size, kind, pixels), result, options)
    small = Image.frombytes(image.mode, size, result.get_buffer(), "raw", _RAW[image.mode])
    small.info = image.info
    return small
