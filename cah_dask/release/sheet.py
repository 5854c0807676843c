"""A contact sheet: samples of a run on one page or in one picture, for people to look at."""

import base64
import contextlib
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from cah_dask.images.picture.thumbnail import THUMBNAIL_PX
from cah_dask.release.report import template
from cah_dask.release.samples import Sample
from cah_dask.storage import write_atomic
from cah_dask.words import printable

_COLUMNS = 8
_TILE_PX = (152, 188)
_LINES, _LINE_CHARACTERS, _LINE_PX = 4, 24, 13
_FONT_PX = 11
_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf")
"""Those with the most letters first; without any, Pillow's own."""


def write_sheet(path: Path, samples: Sequence[Sample], title: str, about: str) -> None:
    """Write samples as HTML, or as PNG where the path ends so; an older file is replaced.

    The page is one file without scripts and links. The picture has the letters of the first of
    `_FONTS` that this machine has, others become boxes.
    """
    if path.suffix == ".png":
        write_atomic(path, _picture(samples, title))
        return
    page = template("sheet.html").render(samples=samples, title=title, about=about)
    write_atomic(path, page.encode())


def _picture(samples: Sequence[Sample], title: str) -> bytes:
    width, height = _TILE_PX
    rows = -(-len(samples) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * width, 2 * _LINE_PX + rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    font = _font()
    draw.text((8, 6), printable(title), "black", font)
    for index, sample in enumerate(samples):
        left = index % _COLUMNS * width + 8
        top = 2 * _LINE_PX + index // _COLUMNS * height
        if sample.thumbnail:
            data = base64.b64decode(sample.thumbnail.partition(",")[2])
            sheet.paste(Image.open(io.BytesIO(data)), (left, top))
        for number, line in enumerate(_lines(sample)):
            draw.text((left, top + THUMBNAIL_PX + 4 + number * _LINE_PX), line, "black", font)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in _FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, _FONT_PX)
    return ImageFont.load_default(_FONT_PX)


def _lines(sample: Sample) -> list[str]:
    about = sample.outcome if sample.similarity is None else f"{sample.similarity:.3f}"
    text = printable(" ".join(sample.text.split()))
    wrapped = textwrap.wrap(text, _LINE_CHARACTERS, max_lines=_LINES - 1, placeholder=" ...")
    return [f"{about} {sample.split} {sample.lang}", *wrapped]
