"""Lines of text in a picture, in the fonts of this machine, for letters of any script."""

import contextlib
from collections.abc import Iterable, Iterator
from functools import cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "NotoSansArabic-Regular.ttf",
    "FreeSans.ttf",
    "unifont.otf",
)
"""Looked for where the machine has its fonts; the first of those that lack the fewest letters of a
text is taken for it. Without any, Pillow's own."""

_IN_NO_FONT = "\U0010ffff"
"""Looks like all that a font has no letter for."""


class Lettering:
    """Fonts of one size, and the letters that none of them had."""

    def __init__(self, size_px: int) -> None:
        self._faces = [Face(font) for font in _fonts(size_px)]
        self.missing: dict[str, None] = {}
        """Letters that became boxes, in the order of their first use."""

    def font(self, text: str) -> Font:
        """Return the font for a text."""
        letters = dict.fromkeys(text.replace(" ", ""))
        face = min(self._faces, key=lambda face: len(face.lacking(letters)))
        self.missing |= dict.fromkeys(face.lacking(letters))
        return face.font


class Face:
    """A font that knows its letters."""

    def __init__(self, font: Font) -> None:
        self.font = font
        self._box = self._drawn(_IN_NO_FONT)
        self._lacks = cache(lambda letter: self._drawn(letter) == self._box)

    def lacking(self, letters: Iterable[str]) -> list[str]:
        """Return those of some letters that it has not."""
        return [letter for letter in letters if self._lacks(letter)]

    def _drawn(self, letter: str) -> bytes:
        return bytes(self.font.getmask(letter))


def _fonts(size_px: int) -> Iterator[Font]:
    is_there = False
    for name in FONTS:
        with contextlib.suppress(OSError):
            yield ImageFont.truetype(name, size_px)
            is_there = True
    if not is_there:
        yield ImageFont.load_default(size_px)


def wrapped(text: str, font: Font, width_px: float, most: int) -> list[str]:
    """Return the first lines of a text, none wider than that; dots end one that goes on.

    Words that are wider than a line, and scripts without spaces, are broken at any letter.
    """
    lines = list(_lines(text.split(), font, width_px))
    if len(lines) <= most:
        return lines
    last = lines[most - 1]
    while last and font.getlength(f"{last} …") > width_px:
        last = last[:-1]
    return [*lines[: most - 1], f"{last} …"]


def _lines(words: Iterable[str], font: Font, width_px: float) -> Iterator[str]:
    line = ""
    for word in words:
        longer = f"{line} {word}" if line else word
        if font.getlength(longer) <= width_px:
            line = longer
            continue
        if line:
            yield line
        line = ""
        for letter in word:
            if line and font.getlength(line + letter) > width_px:
                yield line
                line = ""
            line += letter
    if line:
        yield line
