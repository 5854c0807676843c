"""Words and phrases that no text of the data set may hold."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Phrases:
    """Listed phrases by their number of words, which a blank separates."""

    by_length: dict[int, frozenset[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.by_length.values()))

    def occur_in(self, text: str) -> bool:
        """Tell whether a text holds any of the phrases: whole words, whatever their case."""
        return any(self._found(text))

    def count_in(self, text: str) -> int:
        """Return at how many places a text holds one of the phrases."""
        return sum(self._found(text))

    def _found(self, text: str) -> Iterator[bool]:
        found = words(text)
        return (
            " ".join(found[start : start + length]) in phrases
            for length, phrases in self.by_length.items()
            for start in range(len(found) - length + 1)
        )


def phrase(line: str) -> str:
    """Return a phrase as its words, folded, with a blank between them.

    Raises
    ------
    ValueError
        If a line holds no word.
    """
    found = words(line)
    if not found:
        raise ValueError(f"{line!r} holds no word")
    return " ".join(found)


def phrases_of(phrases: Iterable[str]) -> Phrases:
    """Return a list of what `phrase` has read."""
    by_length: dict[int, set[str]] = {}
    for each in phrases:
        by_length.setdefault(each.count(" ") + 1, set()).add(each)
    return Phrases({length: frozenset(found) for length, found in sorted(by_length.items())})


def words(text: str) -> list[str]:
    """Return the words of a text, folded so that only their letters count."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
