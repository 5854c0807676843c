"""Attempts at units: how many there were, where they failed, when and where the next one may be.

A node that does not see the file system fails in no time, so it is always free and would fail every
unit of a run. The next attempt at a unit waits, and goes elsewhere; a worker that only fails while
others of its pool succeed gets nothing any more. Knows no machine: times and workers are told.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from cah_dask.run.unit import Unit

BACKOFF_S = 1.0
"""Seconds before the second attempt at a unit; before each later one twice as long."""
FAILURES = 3
"""Failures in a row after which a worker is in disgrace, if others of its pool did succeed."""


class _Streak(NamedTuple):
    """Failures of a worker since it last succeeded."""

    length: int
    successes: int
    """Of its pool when the first of them happened."""


class Attempts:
    """What became of all attempts so far of one driver.

    Parameters
    ----------
    most
        Attempts at a unit before it is given up.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._begun: Counter[Unit] = Counter()
        self._failed_at: defaultdict[Unit, set[str]] = defaultdict(set)
        self._waiting: list[tuple[float, str, Unit]] = []
        self._streaks: dict[tuple[str, str], _Streak] = {}
        self._successes: Counter[str] = Counter()

    def begin(self, unit: Unit) -> int:
        """Count an attempt and return its number, from 1 on."""
        self._begun[unit] += 1
        return self._begun[unit]

    def number(self, unit: Unit) -> int:
        """Return how many attempts have begun."""
        return self._begun[unit]

    def is_last(self, unit: Unit) -> bool:
        """Whether no other attempt follows the one that has begun."""
        return self._begun[unit] >= self._most

    def succeeded(self, unit: Unit, pool: str, worker: str) -> None:
        """Learn that a worker did a unit."""
        self._failed_at.pop(unit, None)
        self._streaks.pop((pool, worker), None)
        self._successes[pool] += 1

    def failed(self, unit: Unit, pool: str, worker: str) -> None:
        """Learn that an attempt failed on a worker."""
        self._failed_at[unit].add(worker)
        streak = self._streaks.get((pool, worker), _Streak(0, self._successes[pool]))
        self._streaks[pool, worker] = streak._replace(length=streak.length + 1)

    def postpone(self, unit: Unit, now: float) -> None:
        """Let the next attempt at a unit wait; see `due`."""
        wait = BACKOFF_S * 2 ** (self._begun[unit] - 1)
        heapq.heappush(self._waiting, (now + wait, f"{unit.stage} {unit.name}", unit))

    def due(self, now: float) -> list[Unit]:
        """Return the units that have waited long enough, each once."""
        units = []
        while self._waiting and self._waiting[0][0] <= now:
            units.append(heapq.heappop(self._waiting)[2])
        return units

    @property
    def are_waiting(self) -> bool:
        """Whether there are units that will be due."""
        return bool(self._waiting)

    def avoid(self, unit: Unit, pool: str) -> AbstractSet[str]:
        """Return the workers of a pool that should not get a unit if there are others."""
        return self._failed_at.get(unit, set()) | self.in_disgrace(pool)

    def in_disgrace(self, pool: str) -> set[str]:
        """Return the workers that only fail, while others of their pool succeed."""
        return {
            worker
            for (name, worker), streak in self._streaks.items()
            if name == pool
            and streak.length >= FAILURES
            and self._successes[pool] > streak.successes
        }
