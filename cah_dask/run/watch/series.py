"""Counts over time in bounded memory: by spans, whose length doubles when they are too many."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping


def _length(begin: float, end: float) -> float:
    return end - begin


class Series:
    """Counts by span of time; in whatever order they are added, the result is the same.

    Parameters
    ----------
    spans
        Spans at the most, from the first to the last that holds anything.
    seconds
        Length of a span at the beginning.
    """

    def __init__(self, spans: int = 120, seconds: float = 10.0) -> None:
        self._most = spans
        self.seconds = seconds
        self._found: dict[int, Counter[str]] = {}
        self._first = self._last = 0

    def add(self, at: float, counts: Mapping[str, int]) -> None:
        """Add what happened at a time, in seconds of the epoch."""
        index = int(at // self.seconds)
        if not self._found:
            self._first = self._last = index
        self._first, self._last = min(self._first, index), max(self._last, index)
        while self._last - self._first >= self._most:
            self._double()
            index //= 2
        self._found.setdefault(index, Counter()).update(counts)

    def _double(self) -> None:
        self.seconds *= 2
        before, self._found = self._found, {}
        for index, counts in before.items():
            self._found.setdefault(index // 2, Counter()).update(counts)
        self._first //= 2
        self._last //= 2

    def __iter__(self) -> Iterator[tuple[float, Counter[str]]]:
        """Yield the begin of each span that holds anything, and its counts, the earliest first."""
        for index in sorted(self._found):
            yield index * self.seconds, self._found[index]

    def since(
        self, at: float, length: Callable[[float, float], float] = _length
    ) -> dict[str, float]:
        """Return the sum from a time on; of the span that holds it, a share by its length."""
        total: dict[str, float] = {}
        for begin, counts in self._found.items():
            share = self._share(begin * self.seconds, at, length)
            for name, number in counts.items() if share > 0 else ():
                total[name] = total.get(name, 0.0) + number * share
        return total

    def _share(self, begin: float, at: float, length: Callable[[float, float], float]) -> float:
        """Return which share of a span comes after a time."""
        end = begin + self.seconds
        if begin >= at:
            return 1.0
        return length(at, end) / (length(begin, end) or 1.0) if end > at else 0.0
