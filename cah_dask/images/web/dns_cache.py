"""What names stand for, remembered for all the lists that a process downloads."""

import functools
import time
from collections.abc import Callable
from typing import TypeAlias

from cah_dask.counts import Status

Addresses: TypeAlias = tuple[str, ...]

KEEP_S = 3600.0
"""Seconds that an answer is believed, whatever its own time to live, be it that there is no such
name. Addresses of CDNs that expire within a minute go on answering for much longer."""

LIMIT = 250_000
"""Names held at most, about 375 bytes each; the oldest answers make room."""


class Names:
    """A cache of answers.

    Parameters
    ----------
    keep_s
        Seconds that an answer is believed.
    limit
        Names held at most.
    clock
        Returns seconds and never goes back.
    """

    def __init__(
        self,
        keep_s: float = KEEP_S,
        limit: int = LIMIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep_s = keep_s
        self._limit = limit
        self._clock = clock
        self._answers: dict[str, tuple[float, Addresses | Status]] = {}

    def get(self, host: str) -> Addresses | Status | None:
        """Return the answer for a host if there is one to believe."""
        told_at, answer = self._answers.get(host, (0.0, None))
        return answer if self._clock() < told_at + self._keep_s else None

    def put(self, host: str, answer: Addresses | Status) -> None:
        """Remember the answer for a host: its addresses, or that there are none."""
        self._answers.pop(host, None)  # the newest is the last
        self._answers[host] = self._clock(), answer
        if len(self._answers) > self._limit:
            del self._answers[next(iter(self._answers))]


@functools.cache
def names_of(nameservers: tuple[str, ...]) -> Names:
    """Return the one cache of this process for what these name servers say."""
    del nameservers
    return Names()
