"""Pictures are made smaller with and without vector instructions, as well either way."""

import platform

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.Image import Resampling

from cah_dask.images.picture import resize
from cah_dask.images.picture.resize import by_pillow, by_simd, shrunk

SIZE = (256, 192)


def drawn(mode: str, low: int = 0, high: int = 256) -> Image.Image:
    """Noise, the hardest picture there is; between 70 and 186 no filter is cut off at 0 or 255."""
    size, pixels = (400, 300), np.random.default_rng(0).integers(low, high, (300, 400, 4), np.uint8)
    kind = {"RGBA": "RGBA", "CMYK": "CMYK"}.get(mode, "RGB")
    bands = pixels if kind != "RGB" else np.ascontiguousarray(pixels[:, :, :3])
    return Image.frombytes(kind, size, bands.tobytes()).convert(mode)


def gap(a: Image.Image, b: Image.Image) -> np.ndarray:
    """Return how far two pictures lie from each other, in grey levels."""
    assert (a.mode, a.size) == (b.mode, b.size)
    if a.mode == "RGBA":  # as it will be stored: over white
        white = Image.new("RGBA", a.size, "white")
        a, b = Image.alpha_composite(white, a), Image.alpha_composite(white, b)
    return abs(np.asarray(a).astype(int) - np.asarray(b))


def test_x86_64_has_the_fast_way():
    assert (platform.machine() == "x86_64") == resize.IS_VECTORISED


@pytest.mark.skipif(not resize.IS_VECTORISED, reason="x86-64 only")
@pytest.mark.parametrize("box", [(0, 0, 400, 300), (0, 0, 399.5, 299.25), (1.5, 2, 390, 280.1)])
@pytest.mark.parametrize("resample", [Resampling.BICUBIC, Resampling.LANCZOS])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK"])
def test_both_ways_give_the_same_picture_where_nothing_is_cut_off(mode, resample, box):
    image = drawn(mode, 70, 186)
    fast, plain = (by(image, SIZE, resample, box) for by in (by_simd, by_pillow))
    assert gap(fast, plain).max() <= 3


@pytest.mark.skipif(not resize.IS_VECTORISED, reason="x86-64 only")
@pytest.mark.parametrize("resample", [Resampling.BICUBIC, Resampling.LANCZOS])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK"])
def test_both_ways_give_nearly_the_same_picture_where_filters_are_cut_off(mode, resample):
    image = drawn(mode)
    fast, plain = (by(image, SIZE, resample, (0, 0, *image.size)) for by in (by_simd, by_pillow))
    assert gap(fast, plain).mean() <= 1
    assert gap(fast, plain).max() <= 60


@pytest.mark.skipif(not resize.IS_VECTORISED, reason="x86-64 only")
def test_what_is_too_large_to_be_copied_is_left_to_pillow(monkeypatch):
    image = drawn("RGB")
    monkeypatch.setattr(resize, "MAX_PIXELS", 400 * 300 - 1)
    plain = by_pillow(image, SIZE, Resampling.LANCZOS, (0, 0, 400, 300))
    assert gap(shrunk(image, SIZE, Resampling.LANCZOS), plain).max() == 0
    monkeypatch.setattr(resize, "MAX_PIXELS", 400 * 300)
    assert gap(shrunk(image, SIZE, Resampling.LANCZOS), plain).max() > 0


@pytest.mark.parametrize("is_vectorised", [False, resize.IS_VECTORISED])
@pytest.mark.parametrize("size", [(400, 300), (900, 700), (3001, 1999)])
def test_a_smaller_picture_shows_the_whole_one(monkeypatch, size, is_vectorised):
    monkeypatch.setattr(resize, "IS_VECTORISED", is_vectorised)
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    image.paste("red", (size[0] // 2, 0, size[0], size[1]))
    small = shrunk(image, (256, 192), Resampling.BICUBIC)
    assert gap(small, image.resize((256, 192), Resampling.LANCZOS)).max() <= 20
    assert gap(small.crop((200, 0, 256, 192)), Image.new("RGB", (56, 192), "red")).max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "I", "F", "LA"])
def test_every_mode_can_be_made_smaller_and_keeps_its_profile(mode):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = drawn("L").convert(mode) if mode in ("I", "F", "LA") else drawn(mode)
    image.info["icc_profile"] = profile
    small = shrunk(image, SIZE, Resampling.BICUBIC)
    assert (small.mode, small.size) == (mode, SIZE)
    assert small.info["icc_profile"] == profile


def test_a_picture_of_the_right_size_is_left_alone():
    image = drawn("RGB")
    assert shrunk(image, image.size, Resampling.BICUBIC) is image


def test_colours_under_full_transparency_do_not_bleed():
    image = Image.new("RGBA", (400, 300), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (200, 0, 400, 300))
    small = np.asarray(shrunk(image, SIZE, Resampling.BICUBIC))
    assert small[:, :, 0][small[:, :, 3] > 0].max() <= 1
