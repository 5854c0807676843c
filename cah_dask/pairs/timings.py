"""How long the parts of an embed task take."""

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

MODEL = "model"
INPUT = "input"
"""What is timed: the models at work, and their waiting for pictures."""

TURN = "turn"
"""And a list that is ready, waiting for another one to leave the models."""

WORKER = "worker"
"""All the time in which the worker has had lists since it was last told: that of two lists at once
counts once, so over all tasks the share of `MODEL` in it says how busy the models were."""


class Timings:
    """Adds up seconds by what they were for."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def add(self, what: str, seconds: float) -> None:
        """Add seconds to those of `what`."""
        self._seconds[what] += seconds

    @contextlib.contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Add the seconds that the block takes."""
        started = time.perf_counter()
        yield
        self.add(what, time.perf_counter() - started)

    @property
    def milliseconds(self) -> dict[str, int]:
        """All that was added, by what it was for."""
        return {what: round(1000 * seconds) for what, seconds in sorted(self._seconds.items())}


class Stopwatch:
    """Runs while anything is at work, in whatever threads."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._at_work = 0
        self._since = 0.0
        self._seconds = 0.0

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Run at least for as long as the block."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def take(self) -> float:
        """Return the seconds for which it ran since they were last taken."""
        with self._lock:
            self._look()
            seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _count(self, change: int) -> None:
        with self._lock:
            self._look()
            self._at_work += change

    def _look(self) -> None:
        now = self._clock()
        if self._at_work:
            self._seconds += now - self._since
        self._since = now
