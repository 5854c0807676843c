"""For which share of the last 10 minutes the workers of each pool had a task."""

from collections import deque
from collections.abc import Mapping

from cah_dask.run.watch.history import RECENT_S


class BusyTime:
    """Learns how busy pools are, look by look; until the next one they stay as one saw them.

    All times are in seconds of any one clock.
    """

    def __init__(self) -> None:
        self._looks: deque[tuple[float, Mapping[str, float]]] = deque()

    def look(self, now: float, busy: Mapping[str, float]) -> None:
        """Learn which share of the workers has a task, of those pools for which the time counts."""
        self._looks.append((now, busy))
        while len(self._looks) > 1 and self._looks[1][0] <= now - RECENT_S:
            self._looks.popleft()

    def share(self, pool: str, now: float) -> float | None:
        """Return the share of one pool, 0 to 1; None if none of the time counts for it."""
        looks = list(self._looks)
        ends = [at for at, _ in looks[1:]] + [now]
        seconds = busy_s = 0.0
        for (at, busy), end in zip(looks, ends, strict=True):
            if pool in busy:
                counted = max(0.0, end - max(at, now - RECENT_S))
                seconds += counted
                busy_s += counted * busy[pool]
        return busy_s / seconds if seconds else None
