"""When a run was at work: the time in which its tasks ran, without that between two drivers."""

from bisect import bisect_left, bisect_right
from operator import itemgetter

GAP_S = 60.0
"""Seconds without any task that still count as work: a driver at work hands out the next ones."""


class WorkTime:
    """Learns when tasks ran, in any order; times are in seconds of the epoch.

    Parameters
    ----------
    spans
        Spans of work that are kept apart at the most; beyond, the two that are nearest become one.
    """

    def __init__(self, spans: int = 64) -> None:
        self._most = spans
        self._spans: list[tuple[float, float]] = []
        self._patience = GAP_S

    def add(self, begin: float, end: float) -> None:
        """Learn that a task ran."""
        self._patience = max(self._patience, end - begin)
        first = bisect_left(self._spans, begin - GAP_S, key=itemgetter(1))
        after = bisect_right(self._spans, end + GAP_S, key=itemgetter(0))
        touched = [*self._spans[first:after], (begin, end)]
        self._join(first, after, touched)
        if len(self._spans) > self._most:
            gaps = [
                later[0] - earlier[1]
                for earlier, later in zip(self._spans, self._spans[1:], strict=False)
            ]
            nearest = gaps.index(min(gaps))
            self._join(nearest, nearest + 2, self._spans[nearest : nearest + 2])

    def _join(self, first: int, after: int, spans: list[tuple[float, float]]) -> None:
        self._spans[first:after] = [(min(b for b, _ in spans), max(e for _, e in spans))]

    def _until(self, now: float) -> list[tuple[float, float]]:
        """Return all spans; in the last one tasks still run, unless none ever took so long."""
        spans = [(begin, min(end, now)) for begin, end in self._spans if begin < now]
        if spans:
            begin, end = spans[-1]
            spans[-1] = begin, min(now, end + self._patience)
        return spans

    def between(self, begin: float, end: float) -> float:
        """Return the seconds of work between two times."""
        return sum(max(0.0, until - max(begin, since)) for since, until in self._until(end))

    def back(self, seconds: float, now: float) -> float:
        """Return the time since which there were so many seconds of work."""
        for begin, end in reversed(self._until(now)):
            if end - begin >= seconds:
                return end - seconds
            seconds -= end - begin
            now = begin
        return now
