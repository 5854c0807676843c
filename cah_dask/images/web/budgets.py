"""What the whole run may send and receive, as one list sees it: its share."""

import time
from dataclasses import dataclass

_BURST_S = 0.5


class Budget:
    """So many units a second for so many lists together, on the average; None is no limit."""

    def __init__(self, per_s: float | None, lists: int = 1) -> None:
        self._per_s = None if per_s is None else per_s / lists
        self._free_at = 0.0

    def charge(self, units: float) -> float:
        """Take note of units spent; return the seconds to wait for what was spent before.

        Negative units give back what was charged and not spent.
        """
        if self._per_s is None:
            return 0.0
        now = time.monotonic()
        debt_s = max(0.0, self._free_at - now - _BURST_S)
        self._free_at = max(self._free_at, now) + units / self._per_s
        return debt_s


@dataclass(frozen=True, slots=True)
class Budgets:
    """What a list may spend."""

    requests: Budget
    data: Budget
    """In bytes."""
