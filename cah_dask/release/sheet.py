"""A contact sheet: samples of a run on one page or in one picture, for people to look at."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import msgspec
from PIL import Image, ImageDraw

from cah_dask.counts import Status
from cah_dask.images.picture.thumbnail import THUMBNAIL_PX
from cah_dask.release.lettering import Lettering, wrapped
from cah_dask.release.report import template
from cah_dask.release.samples import Sample
from cah_dask.storage import write_atomic
from cah_dask.words import printable, short

_COLUMNS = 8
_TILE_PX = (152, 192)
_MARGIN_PX, _LINES, _LINE_PX, _FONT_PX = 8, 4, 14, 11
_CAPTION_CHARACTERS = 120
"""More than fit into the lines of a caption."""
_GREY = "#667085"


class Sheet(msgspec.Struct, frozen=True):
    """What is on a sheet."""

    title: str
    about: str
    samples: Sequence[Sample]
    gone: str
    """Why images that were had are not there, if all are gone."""

    @property
    def is_without_pictures(self) -> bool:
        """Whether there were images, and all are gone."""
        return any(each.outcome == Status.OK for each in self.samples) and not any(
            each.thumbnail for each in self.samples
        )


def write_sheet(path: Path, sheet: Sheet) -> list[str]:
    """Write samples as HTML, or as PNG where the path ends so; an older file is replaced.

    The page is one file without scripts and links.

    Returns
    -------
    list of str
        Letters that are boxes in a PNG, as no font of this machine has them.
    """
    if path.suffix == ".png":
        lettering = Lettering(_FONT_PX)
        write_atomic(path, _picture(sheet, lettering))
        return list(lettering.missing)
    page = template("sheet.html").render(sheet=sheet)
    write_atomic(path, page.encode())
    return []


def _picture(sheet: Sheet, lettering: Lettering) -> bytes:
    head = [sheet.title, sheet.about, *([sheet.gone] if sheet.is_without_pictures else [])]
    width, height = _TILE_PX
    height -= THUMBNAIL_PX if sheet.is_without_pictures else 0
    rows = -(-len(sheet.samples) // _COLUMNS)
    top = (len(head) + 1) * _LINE_PX
    picture = Image.new("RGB", (_COLUMNS * width, top + rows * height), "white")
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(head):
        text = printable(line)
        draw.text((_MARGIN_PX, 6 + number * _LINE_PX), text, "black", lettering.font(text))
    for index, sample in enumerate(sheet.samples):
        left, y = index % _COLUMNS * width + _MARGIN_PX, top + index // _COLUMNS * height
        if not sheet.is_without_pictures:
            _put_picture(picture, (left, y), sample, lettering)
            y += THUMBNAIL_PX + 4
        _put_caption(draw, (left, y), sample, lettering)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _put_picture(
    picture: Image.Image, at: tuple[int, int], sample: Sample, lettering: Lettering
) -> None:
    if sample.thumbnail:
        data = base64.b64decode(sample.thumbnail.partition(",")[2])
        picture.paste(Image.open(io.BytesIO(data)), at)
        return
    draw = ImageDraw.Draw(picture)
    left, top = at
    draw.rectangle((left, top, left + THUMBNAIL_PX - 1, top + THUMBNAIL_PX - 1), outline=_GREY)
    words = "image not kept" if sample.outcome == Status.OK else sample.outcome
    middle = left + THUMBNAIL_PX / 2, top + THUMBNAIL_PX / 2
    draw.text(middle, words, _GREY, lettering.font(words), anchor="mm")


def _put_caption(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], sample: Sample, lettering: Lettering
) -> None:
    about = sample.outcome if sample.similarity is None else f"{sample.similarity:.3f}"
    text = short(sample.text, _CAPTION_CHARACTERS)
    font = lettering.font(text)
    left, top = at
    about = f"{about} · {sample.split} · {sample.lang}"
    draw.text(at, about, _GREY, lettering.font(about))
    width = _TILE_PX[0] - 2 * _MARGIN_PX
    for number, line in enumerate(wrapped(text, font, width, _LINES - 1), 1):
        draw.text((left, top + number * _LINE_PX), line, "black", font)
