import random

import numpy as np
import pytest
from PIL import Image, ImageFilter

from cah_dask.images.picture.decode import DecodeOptions, Picture, decode
from cah_dask.images.picture.phash import SIDE_PX, perceptual_hash
from tests.hostile import encoded


def by_numpy(pixels: bytes) -> str:
    """Do what ImageHash's phash does, with matrices."""
    n = np.arange(SIDE_PX)
    waves = np.cos(np.pi * np.outer(np.arange(8), 2 * n + 1) / (2 * SIDE_PX))
    low = waves @ np.frombuffer(pixels, np.uint8).reshape(SIDE_PX, SIDE_PX) @ waves.T
    return np.packbits(low > np.median(low)).tobytes().hex()


def drawn(seed: int) -> Image.Image:
    noise = Image.frombytes("L", (12, 9), random.Random(seed).randbytes(108))
    return noise.resize((480, 360), Image.Resampling.BICUBIC).convert("RGB")


def phash(
    image: Image.Image, kind: str = "PNG", options: DecodeOptions | None = None, **save
) -> str:
    found = decode(encoded(image, kind, **save), options or DecodeOptions(phash=True))
    assert isinstance(found, Picture)
    assert found.phash is not None
    return found.phash


def distance(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_formula_of_imagehash(seed):
    pixels = drawn(seed).convert("L").resize((SIDE_PX, SIDE_PX)).tobytes()
    assert perceptual_hash(pixels) == by_numpy(pixels)


@pytest.mark.parametrize("seed", range(5))
def test_what_looks_the_same_differs_in_few_bits_and_other_pictures_in_many(seed):
    image = drawn(seed)
    known = phash(image)
    assert distance(known, phash(image, "JPEG", quality=40)) <= 6
    assert distance(known, phash(image.resize((200, 150)))) <= 6
    assert distance(known, phash(image.filter(ImageFilter.GaussianBlur(2)))) <= 6
    assert distance(known, phash(drawn(seed + 100))) > 12


def test_originals_have_the_hash_of_what_they_show():
    image = drawn(7)
    original = DecodeOptions(store="original", phash=True)
    for kind in ("PNG", "JPEG", "WEBP"):
        assert distance(phash(image, kind), phash(image, kind, original)) <= 4
    exif = Image.Exif()
    exif[0x0112] = 3
    lying = phash(image.rotate(180), "JPEG", original, exif=exif)
    assert distance(phash(image), lying) <= 4


def test_no_hash_is_taken_unless_asked_for():
    found = decode(encoded(drawn(1), "PNG"), DecodeOptions())
    assert isinstance(found, Picture)
    assert found.phash is None
