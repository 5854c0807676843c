import io
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image, ImageCms

from cah_dask.counts import Status
from cah_dask.images.picture.decode import DecodeOptions, Picture, decode, open_rgb
from tests.hostile import bomb, broken, picture

KEEP = DecodeOptions(store="original")
STORE = DecodeOptions(store="jpeg", side_px=None)


def encoded(image: Image.Image, kind: str = "PNG", **save) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **save)
    return out.getvalue()


def kept(data: bytes, options: DecodeOptions = STORE) -> Picture:
    result = decode(data, options)
    assert isinstance(result, Picture), result
    return result


def stored(data: bytes, options: DecodeOptions = STORE) -> Image.Image:
    image = Image.open(io.BytesIO(kept(data, options).data))
    image.load()
    return image


def quarters(size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Red, green / blue, white."""
    image = Image.new("RGB", size, "white")
    width, height = size[0] // 2, size[1] // 2
    image.paste("red", (0, 0, width, height))
    image.paste("lime", (width, 0, size[0], height))
    image.paste("blue", (0, height, width, size[1]))
    return image


def color_at(image: Image.Image, spot: tuple[int, int]) -> tuple[Any, ...]:
    color = image.getpixel(spot)
    assert isinstance(color, tuple)
    return color


def corners(image: Image.Image) -> list[str]:
    names = {(1, 0, 0): "red", (0, 1, 0): "green", (0, 0, 1): "blue", (1, 1, 1): "white"}
    width, height = image.size
    spots = [(9, 9), (width - 9, 9), (9, height - 9), (width - 9, height - 9)]
    pixels = [color_at(image.convert("RGB"), spot) for spot in spots]
    return [names[round(r / 255), round(g / 255), round(b / 255)] for r, g, b in pixels]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_each_format_is_kept_under_its_own_type(kind):
    data = encoded(quarters(), kind)
    picture = kept(data, KEEP)
    assert picture.data == data
    assert picture.mime == f"image/{kind.lower()}"
    assert (picture.original_width, picture.original_height) == (160, 120)
    assert corners(stored(data)) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("options", [STORE, KEEP], ids=["jpeg", "original"])
def test_pictures_are_held_upright(orientation, options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    lying = (
        quarters() if orientation == 1 else quarters().transpose(Image.Transpose(undo[orientation]))
    )
    picture = kept(encoded(lying, "JPEG", exif=exif), options)
    assert (picture.original_width, picture.original_height) == (160, 120)
    assert corners(open_rgb(picture.data)) == ["red", "green", "blue", "white"]


def test_stored_pictures_carry_no_metadata():
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    exif.get_ifd(0x8825)[1] = "N"
    image = quarters()
    image.info["comment"] = b"secret"
    data = encoded(image, "JPEG", exif=exif, comment=b"secret", xmp=b"secret")
    assert b"secret" in data
    assert b"where I live" in data
    result = kept(data)
    assert b"secret" not in result.data
    assert b"where I live" not in result.data
    assert not Image.open(io.BytesIO(result.data)).getexif()


@pytest.mark.parametrize("store", ["original", "jpeg"])
def test_transparency_lies_on_white(store):
    image = quarters().convert("RGBA")
    image.paste((0, 0, 0, 0), (80, 0, 160, 60))
    for data in (encoded(image), encoded(image, "WEBP", lossless=True), encoded(image, "GIF")):
        result = kept(data, DecodeOptions(store=store))
        assert corners(open_rgb(result.data)) == ["red", "white", "blue", "white"]


def test_sixteen_bits_are_scaled_not_clipped():
    data = encoded(Image.fromarray(np.full((80, 80), 0x8000, np.uint16)))
    assert stored(data).getpixel((40, 40)) == pytest.approx((128, 128, 128), abs=1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "YCbCr"])
def test_every_mode_becomes_rgb(mode):
    kind = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "PNG")
    if mode.startswith("I"):
        image = Image.fromarray(np.full((80, 80), 40_000, np.uint16))
    else:
        image = quarters().convert(mode)
    result = stored(encoded(image, kind))
    assert result.mode == "RGB"
    assert result.format == "JPEG"


def swapped_profile() -> bytes:
    """Return an sRGB profile in which red and blue have changed places."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"tmp!").replace(b"bXYZ", b"rXYZ").replace(b"tmp!", b"bXYZ")
    return swapped.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


def test_a_colour_profile_is_applied():
    data = encoded(Image.new("RGB", (80, 80), "red"), icc_profile=swapped_profile())
    red, green, blue = color_at(stored(data), (4, 4))
    assert (red, blue) == (pytest.approx(0, abs=8), pytest.approx(255, abs=8)), (red, green, blue)


@pytest.mark.parametrize("profile", [b"no profile", b"\0" * 200, swapped_profile()[:300]])
def test_a_useless_colour_profile_is_ignored(profile):
    data = encoded(Image.new("RGB", (80, 80), "red"), icc_profile=profile)
    assert stored(data).getpixel((4, 4)) == pytest.approx((255, 0, 0), abs=8)


@pytest.mark.parametrize(
    ("size", "side_px", "expected"),
    [
        ((800, 600), 256, (341, 256)),
        ((600, 800), 256, (256, 341)),
        ((4000, 3000), 512, (683, 512)),
        ((300, 200), 512, (300, 200)),
        ((800, 600), None, (800, 600)),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_shorter_side_is_made_smaller_never_larger(size, side_px, expected, kind):
    options = DecodeOptions(side_px=side_px)
    result = kept(encoded(quarters(size), kind), options)
    assert Image.open(io.BytesIO(result.data)).size == expected
    assert (result.original_width, result.original_height) == size


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (picture(size=(63, 100)), Status.TOO_SMALL),
        (picture(size=(400, 79)), Status.ASPECT),
        (picture(size=(79, 400)), Status.ASPECT),
        (bomb(), Status.TOO_MANY_PIXELS),
        (picture("BMP"), Status.DECODE_FORMAT),
        (picture("TIFF"), Status.DECODE_FORMAT),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", Status.DECODE_FORMAT),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Status.DECODE_FORMAT),
        (b"", Status.DECODE_FORMAT),
        (b"\xff\xd8\xff\xe0", Status.DECODE_ERROR),
        (picture(size=(400, 300))[:3000], Status.DECODE_TRUNCATED),
        (picture("PNG", size=(400, 300))[:900], Status.DECODE_TRUNCATED),
        (picture("WEBP", size=(400, 300))[:300], Status.DECODE_TRUNCATED),
        (picture("GIF", size=(400, 300))[:3000], Status.DECODE_TRUNCATED),
    ],
)
@pytest.mark.parametrize("options", [STORE, KEEP], ids=["jpeg", "original"])
def test_what_is_not_kept_has_its_reason(data, status, options):
    assert decode(data, options) is status


def test_a_fallen_bit_is_a_decode_error():
    assert decode(broken(), STORE) is Status.DECODE_ERROR


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animations_are_told_apart(kind):
    data = encoded(quarters(), kind, save_all=True, append_images=[Image.new("RGB", (160, 120))])
    assert decode(data, KEEP) is Status.ANIMATED
    first = stored(data, DecodeOptions(animated="first_frame"))
    assert corners(first) == ["red", "green", "blue", "white"]


def test_a_phones_jpeg_with_a_second_picture_is_a_jpeg():
    data = encoded(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (80, 60))])
    assert kept(data).mime == "image/jpeg"


def test_small_files_may_be_refused():
    options = msgspec.structs.replace(STORE, min_bytes=5000)
    assert decode(picture(), options) is Status.TOO_SMALL


def test_formats_may_be_left_out():
    assert decode(picture("GIF"), DecodeOptions(formats=("JPEG",))) is Status.DECODE_FORMAT


def test_options_outside_their_range_are_refused():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"quality": 100}, DecodeOptions)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_the_limit_of_pixels_is_met_to_the_pixel(kind):
    data = picture(kind, size=(200, 150))
    for limit, fits in ((200 * 150, True), (200 * 150 - 1, False)):
        verdict = decode(data, DecodeOptions(max_pixels=limit))
        assert isinstance(verdict, Picture) is fits
        assert fits or verdict is Status.TOO_MANY_PIXELS
