"""Words for people: counts, and texts of strangers that may be shown on a terminal."""

import re

# C0 but for tab and newline, DEL, C1, what turns the direction of a line, and halves of characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return a text in which escapes stand for all that a terminal would obey."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def counted(number: int, noun: str) -> str:
    """Return a number with a noun, as in "1 archive" and "2,000 archives"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
