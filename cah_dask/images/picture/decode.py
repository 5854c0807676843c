"""Received bytes -> a picture that may be kept, or the status that says why not.

Nothing here trusts the bytes: the format must be on the list, the size is judged from the header
before a pixel is decoded, and every kept picture was decoded to its end once.
`cah_dask.images.picture.decoders` runs this in processes of their own, because a fault in a C
library must cost one image.
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, TypeVar, get_args

import msgspec
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError
from PIL.Image import Resampling

from cah_dask.counts import Status
from cah_dask.images.picture import jpeg, png, sixteen_bit
from cah_dask.images.picture.phash import SIDE_PX, perceptual_hash
from cah_dask.images.picture.resize import shrunk

Format: TypeAlias = Literal["JPEG", "PNG", "WEBP", "GIF", "AVIF"]

_MAGIC: dict[Format, tuple[int, bytes]] = {
    "JPEG": (0, jpeg.START),
    "PNG": (0, png.SIGNATURE),
    "WEBP": (8, b"WEBP"),
    "GIF": (0, b"GIF8"),
    "AVIF": (4, b"ftyp"),
}
"""Where each format has which bytes."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation (Exif 2.32, tag 0x0112); from 5 on width and height swap."""


class DecodeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which pictures are kept, and in which form."""

    formats: tuple[Format, ...] = ("JPEG", "PNG", "WEBP", "GIF")
    """Formats that are opened at all, told from the bytes, never from the url."""
    min_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Smallest file, in bytes as received; 5,000 in the LAION data sets."""
    min_side_px: Annotated[int, msgspec.Meta(ge=1)] = 64
    """Smallest shorter side, in pixels; 64 in LAION's dataset-spec."""
    max_aspect: Annotated[float, msgspec.Meta(ge=1)] = 5.0
    """Largest ratio of the longer to the shorter side."""
    max_pixels: Annotated[int, msgspec.Meta(ge=1)] = 64_000_000
    """Largest width times height; 12,000 x 12,000 can be 17 KiB as PNG and needs 576 MB decoded."""
    animated: Literal["reject", "first_frame"] = "reject"
    """What to do with a file of several frames."""
    store: Literal["original", "jpeg"] = "jpeg"
    """``original`` keeps the bytes as received, ``jpeg`` an upright RGB picture, no metadata."""
    side_px: Annotated[int, msgspec.Meta(ge=16)] | None = 512
    """Shorter side of a stored JPEG, in pixels; nothing is ever enlarged, null keeps the size."""
    quality: Annotated[int, msgspec.Meta(ge=1, le=95)] = 95
    """JPEG quality of a stored JPEG, as Pillow counts it."""
    phash: bool = False
    """Whether the outcomes give the perceptual hash of each image (64 bits, as ImageHash's phash);
    hash lists that hold such hashes are matched without it, too."""


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture worth keeping: the bytes to store, and what was received."""

    data: bytes
    mime: str
    """Format of the received bytes, from the bytes."""
    original_width: int
    """Pixels of the received picture, held upright."""
    original_height: int
    phash: str | None = None
    """Perceptual hash of the picture, held upright."""


def decode(data: bytes, options: DecodeOptions) -> Picture | Status:
    """Judge and decode one file; return the picture, or the status that says why there is none."""
    return _judged(data, options, lambda image: _picture(data, image, options))


def decode_rgb(data: bytes, options: DecodeOptions) -> Image.Image | Status:
    """Judge one file as `decode` does; return it as models see it: upright, sRGB, alpha over white.

    Its shorter side is `options.side_px` at the most; what the other options say of how a picture
    is stored has no part in it.
    """
    return _judged(data, options, lambda image: _shown(image, _size(image, options.side_px)))


def _judged(data: bytes, options: DecodeOptions, make: Callable[[Image.Image], _T]) -> _T | Status:
    """Judge one file; return what is made of it, or the status that says why nothing is."""
    if len(data) < options.min_bytes:
        return Status.TOO_SMALL
    result = _decoded(data, options, make)
    if result is Status.DECODE_TRUNCATED and jpeg.is_complete(data):
        return _decoded(data + jpeg.END, options, make)
    if result is Status.DECODE_ERROR and data.startswith(png.SIGNATURE):
        return _decoded(png.without_checksum(data), options, make)
    return result


def _decoded(data: bytes, options: DecodeOptions, make: Callable[[Image.Image], _T]) -> _T | Status:
    """Judge and decode a file, or what has been made of it that a decoder reads."""
    try:
        with _opened(data, options.formats) as image:
            return _fault(image, options) or make(image)
    except UnidentifiedImageError:
        marks = (_MAGIC[name] for name in options.formats)
        is_known = any(data.startswith(magic, at) for at, magic in marks)
        return Status.DECODE_ERROR if is_known else Status.DECODE_FORMAT
    except Image.DecompressionBombError:
        return Status.TOO_MANY_PIXELS
    except MemoryError:
        return Status.DECODE_CRASH
    except Exception as error:  # noqa: BLE001  PIL raises whatever its plugins meet
        is_cut = "truncated" in str(error) or _is_cut_webp(data)
        return Status.DECODE_TRUNCATED if is_cut else Status.DECODE_ERROR


def _is_cut_webp(data: bytes) -> bool:
    """Tell by the container's own length, as libwebp only says that it cannot begin."""
    return data[:4] == b"RIFF" and int.from_bytes(data[4:8], "little") + 8 > len(data)


def open_rgb(data: bytes) -> Image.Image:
    """Return a stored picture as models see it: upright, sRGB, alpha over white.

    Raises
    ------
    OSError
        If the bytes are no picture; bytes from an image shard always are.
    """
    if data.startswith(jpeg.START) and not data.endswith(jpeg.END):
        data += jpeg.END
    try:
        return _rgb(data)
    except OSError:
        if not data.startswith(png.SIGNATURE):
            raise
    return _rgb(png.without_checksum(data))


def _rgb(data: bytes) -> Image.Image:
    with _opened(data, get_args(Format)) as image:
        image.load()
        return _as_seen(image, _plain(image))


@contextlib.contextmanager
def _opened(data: bytes, formats: tuple[Format, ...]) -> Iterator[Image.Image]:
    """Open without decoding; PIL's warnings of odd metadata are dropped, the pixels decide."""
    if data.startswith(png.SIGNATURE):
        data = png.essence(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data), formats=formats) as image:
            sixteen_bit.keep_low_bytes(image, data)
            yield image


def _fault(image: Image.Image, options: DecodeOptions) -> Status | None:
    """Judge by the header alone."""
    short, long = sorted(image.size)
    if short * long > options.max_pixels:
        return Status.TOO_MANY_PIXELS
    if short < options.min_side_px:
        return Status.TOO_SMALL
    if long > options.max_aspect * short:
        return Status.ASPECT
    if options.animated == "reject" and _is_animated(image):
        return Status.ANIMATED
    return None


def _is_animated(image: Image.Image) -> bool:
    """Tell whether there is more than one frame; an MPO is a phone's JPEG with a second picture."""
    return image.format != "MPO" and getattr(image, "is_animated", False)


def _picture(data: bytes, image: Image.Image, options: DecodeOptions) -> Picture:
    mime = Image.MIME["JPEG" if image.format == "MPO" else str(image.format)]
    width, height = image.size
    if options.store == "jpeg":
        shown = _shown(image, _size(image, options.side_px))
    else:  # decoding only proves it sound
        image.draft(None, (2 * SIDE_PX, 2 * SIDE_PX) if options.phash else (1, 1))
        image.load()
        shown = _as_seen(image, _plain(image)) if options.phash else image
    if _orientation(image) >= 5:
        width, height = height, width
    if options.store == "jpeg":
        data = _jpeg(shown, options.quality)
    return Picture(data, mime, width, height, _phash(shown) if options.phash else None)


def _shown(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Load a picture and return it as it is seen, of a size that is not larger."""
    width, draft = image.width, image.draft(None, size)
    image.load()
    # bicubic is as close to a picture resized in one step as others come, but after a decoding
    # at 1/4 or 1/8, Lanczos is (docs/benchmarks.md)
    resample = Resampling.LANCZOS if width > 2 * image.width else Resampling.BICUBIC
    return _as_seen(image, shrunk(_plain(image), size, resample, draft[1] if draft else None))


def _as_seen(image: Image.Image, plain: Image.Image) -> Image.Image:
    """Return what was made `_plain` of a loaded picture upright, in sRGB and flat."""
    return _upright(_flat(_srgb(plain)), _orientation(image))


def _size(image: Image.Image, side_px: int | None) -> tuple[int, int]:
    """Return the size of a picture that is made smaller to a shorter side."""
    scale = min(1.0, (side_px or min(image.size)) / min(image.size))
    return round(image.width * scale), round(image.height * scale)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a loaded picture, 1 to 8; damaged EXIF counts as upright.

    Pillow's own `getexif` also goes by XMP, which no browser does.
    """
    with contextlib.suppress(Exception):
        exif = Image.Exif()
        exif.load(image.info.get("exif") or b"")
        orientation = exif.get(ExifTags.Base.Orientation)
        return orientation if orientation in _UPRIGHT else 1
    return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def _plain(image: Image.Image) -> Image.Image:
    """Return a loaded picture in a mode that can be resized and laid flat."""
    if sixteen_bit.is_sixteen(image):
        return sixteen_bit.plain(image)
    if image.has_transparency_data:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    return image.convert("RGB") if image.mode in ("1", "P") else image


def _flat(image: Image.Image) -> Image.Image:
    """Lay a picture over white."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _srgb(image: Image.Image) -> Image.Image:
    """Apply the picture's own colour profile, unless that is sRGB already or unusable."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "L", "CMYK"):
        return image
    with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" not in ImageCms.getProfileDescription(source):
            srgb = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, source, srgb, outputMode="RGB") or image
    return image


def _phash(image: Image.Image) -> str:
    small = image.convert("L").resize((SIDE_PX, SIDE_PX), Resampling.LANCZOS)
    return perceptual_hash(small.tobytes())


def _jpeg(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.info.clear()  # PIL would write the metadata it read
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()
