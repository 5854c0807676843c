"""Words for people: counts, and texts of strangers that may be shown on a terminal."""

import re
from collections.abc import Sequence

# C0 but for tab and newline, DEL, C1, what ends a line or turns its direction, what is not seen but
# for the joiners of emoji and Persian, halves of characters, private characters and tags.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\uf8ff\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
)


def printable(text: str) -> str:
    """Return a text in which escapes stand for all that a terminal would obey."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def short(text: str, most: int) -> str:
    """Return the beginning of a text of a stranger, in which nothing turns or hides the rest."""
    return cut(printable(" ".join(text.split())), most)


def cut(text: str, most: int) -> str:
    """Return a text, or its beginning and dots where it has more characters than that."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with a noun, as in "1 archive" and "2,000 archives"."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def few(errors: Sequence[str], most: int = 10) -> list[str]:
    """Return the first errors, and how many more there are."""
    more = [f"{len(errors) - most:,} more places"] if len(errors) > most else []
    return [*errors[:most], *more]


def span(seconds: float | None) -> str:
    """Return a time span in words, in two units; a dash if there is none."""
    if seconds is None:
        return "-"
    for unit, name, part, smaller in (
        (86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"),
    ):  # fmt: skip
        if seconds >= unit:
            return f"{seconds // unit:.0f} {name} {seconds % unit // part:.0f} {smaller}"
    return f"{seconds:.0f} s"
