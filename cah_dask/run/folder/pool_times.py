"""The file that keeps for how long a run held its workers, over all of its drivers.

It is small whatever the length of the run. A driver takes it up where the last one left it, and
writes it as a whole every `WRITE_S`: a kill loses what came after that.
"""

import contextlib
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from cah_dask.errors import RetryableError, RunError
from cah_dask.release.pool_time import PoolLook, PoolTime, PoolTimes
from cah_dask.storage import write_atomic

WRITE_S = 30.0
"""Seconds between two writings; a tenth of the driver's time so far while that is less."""

LEAST_WRITE_S = 1.0


def read_pool_times(path: Path) -> PoolTimes | None:
    """Return what is written down; None if nothing is, or nothing that can be read."""
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(path.read_bytes(), type=PoolTimes)
    return None


class PoolTimesFile:
    """Adds the looks of one driver to the file.

    Parameters
    ----------
    now
        When the driver begins to look; `clock` tells seconds from there on.
    """

    def __init__(self, path: Path, now: datetime, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        before = read_pool_times(path) or PoolTimes(now)
        self._since, self._pools = before.since, dict(before.pools)
        self._seen: Mapping[str, PoolLook] = {}
        self._began = self._looked = self._written = clock()

    def look(self, seen: Mapping[str, PoolLook]) -> None:
        """Learn how the pools are; until this moment they were as the look before saw them."""
        now = self._clock()
        for name, pool in self._seen.items():
            time = self._pools.get(name, PoolTime())
            self._pools[name] = time.plus(now - self._looked, pool)
        self._seen, self._looked = seen, now
        if now - self._written >= min(WRITE_S, max(LEAST_WRITE_S, (now - self._began) / 10)):
            self.write()

    def write(self) -> None:
        """Write it down. That it cannot be written stops no run: a part that cannot be does."""
        self._written = self._clock()
        with contextlib.suppress(OSError, RunError, RetryableError):
            write_atomic(self._path, msgspec.json.encode(PoolTimes(self._since, self._pools)))
