"""How many tasks were at work over the time of a run, in a size that does not grow with it."""

import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import msgspec

BUCKETS = 120
"""Times that a timeline tells apart, at most; it has half as many at least, once it is full."""

_FIRST_WIDTH_S = 1.0


class Timeline(msgspec.Struct, frozen=True):
    """How many tasks of each stage were at work on average, in times of equal length."""

    started: datetime
    width_s: float
    at_work: dict[str, list[float]]
    """By stage: tasks at work in each time, from `started` on."""

    @property
    def length(self) -> int:
        """How many times there are."""
        return max(map(len, self.at_work.values()), default=0)


class TimelineSum:
    """A timeline that finished tasks are added to, in any order; it stays small."""

    def __init__(self) -> None:
        self._width = _FIRST_WIDTH_S
        self._seconds: dict[str, defaultdict[int, float]] = {}
        self._low, self._high = math.inf, -math.inf

    def add(self, stage: str, ended: datetime, seconds: float) -> None:
        """Add a task that ended then and took so long."""
        end = ended.timestamp()
        start = end - seconds
        self._low, self._high = min(self._low, start), max(self._high, end)
        while self._high // self._width - self._low // self._width >= BUCKETS:
            self._widen()
        times = self._seconds.setdefault(stage, defaultdict(float))
        for at in range(int(start // self._width), int(end // self._width) + 1):
            begins = at * self._width
            times[at] += min(end, begins + self._width) - max(start, begins)

    def _widen(self) -> None:
        self._width *= 2
        for stage, times in self._seconds.items():
            wider: defaultdict[int, float] = defaultdict(float)
            for at, seconds in times.items():
                wider[at // 2] += seconds
            self._seconds[stage] = wider

    @property
    def total(self) -> Timeline | None:
        """All tasks so far; None if there was none."""
        if not self._seconds:
            return None
        first, last = int(self._low // self._width), int(self._high // self._width)
        return Timeline(
            datetime.fromtimestamp(first * self._width, UTC),
            self._width,
            {
                stage: [times.get(at, 0.0) / self._width for at in range(first, last + 1)]
                for stage, times in self._seconds.items()
            },
        )


def ends_of(timeline: Timeline) -> tuple[datetime, datetime]:
    """Return when a timeline begins and ends."""
    span = timedelta(seconds=timeline.width_s * timeline.length)
    return timeline.started, timeline.started + span
