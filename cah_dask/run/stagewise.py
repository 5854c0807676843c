"""The simplest plan: stages one after the other, each over numbered units."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from cah_dask.run.plan import Unit
from cah_dask.run.stages import Kind, Stage
from cah_dask.schema import Counts
from cah_dask.storage import Receipt

Size: TypeAlias = int | Callable[[], int]
"""How many units a stage has, or what finds out once all stages before are done."""


class Stagewise:
    """Offers the units of a stage once all of the stage before are done (`driver.Units`).

    Parameters
    ----------
    sizes
        How many units each stage has, in the order of the stages; numbered from 0. A size that is
        to be found out is asked for by `begin`, as it may take long.
    committed
        Gives the receipt of a unit whose part already exists, else None.
    """

    def __init__(
        self, sizes: Mapping[Stage, Size], committed: Callable[[Unit], Receipt | None]
    ) -> None:
        self.stages = tuple(sizes)
        self.known = {stage: 0 if callable(size) else size for stage, size in sizes.items()}
        self.done = dict.fromkeys(sizes, 0)
        self.counts = dict.fromkeys(sizes, Counts())
        self._errors: dict[Unit, tuple[str, ...]] = {}
        self.failed: dict[Unit, str] = {}
        self._sizes = dict(sizes)
        self._committed = committed
        self._ready: list[tuple[int, Unit]] = []
        self._begun = 0
        self._begin_next()

    def take(self, stages: Sequence[Stage]) -> Unit | None:
        """Return the first unit that may start now, or None."""
        if self._ready and self._ready[0][1].stage in stages:
            return heapq.heappop(self._ready)[1]
        return None

    def waiting(self, stages: Sequence[Stage]) -> int:
        """Return how many units of `stages` may start now."""
        return len(self._ready) if self._ready and self._ready[0][1].stage in stages else 0

    def put_back(self, unit: Unit) -> None:
        """Return a unit that was taken and not done."""
        heapq.heappush(self._ready, (_number(unit), unit))

    def complete(self, unit: Unit, receipt: Receipt) -> None:
        """Learn that a unit is done."""
        self._settle(unit, receipt)
        self._begin_next()

    @property
    def errors(self) -> list[str]:
        """What all receipts say of errors, in the order of the stages and units."""
        units = sorted(
            self._errors, key=lambda unit: (self.stages.index(unit.stage), _number(unit))
        )
        return [error for unit in units for error in self._errors[unit]]

    def _settle(self, unit: Unit, receipt: Receipt) -> None:
        self.done[unit.stage] += 1
        self.counts[unit.stage] += receipt.counts
        if receipt.errors:
            self._errors[unit] = receipt.errors

    def fail(self, unit: Unit, reason: str) -> None:
        """Learn that a unit is given up: the stages after it are not begun."""
        self.failed[unit] = reason

    def begin(self) -> bool:
        """Begin the next stage whose size is to be found out; tell whether that gives any unit."""
        while not self._ready and self._is_begun_done():
            stage = self.stages[self._begun]
            size = self._sizes[stage]
            self.known[stage] = size() if callable(size) else size
            self._begin(stage)
        return bool(self._ready)

    def _begin_next(self) -> None:
        """Offer the units of all stages whose time has come."""
        while self._is_begun_done() and not callable(self._sizes[self.stages[self._begun]]):
            self._begin(self.stages[self._begun])

    def _is_begun_done(self) -> bool:
        """Whether there is a stage to begin, and all before are done."""
        if self._begun == len(self.stages):
            return False
        return all(self.done[each] == self.known[each] for each in self.stages[: self._begun])

    def _begin(self, stage: Stage) -> None:
        self._begun += 1
        for number in range(self.known[stage]):
            unit = _unit(stage, number)
            receipt = self._committed(unit)
            if receipt is None:
                self.put_back(unit)
            else:
                self._settle(unit, receipt)


def _unit(stage: Stage, number: int) -> Unit:
    return Unit(stage, bucket=number) if stage.kind is Kind.BUCKET else Unit(stage, number=number)


def _number(unit: Unit) -> int:
    return unit.bucket or unit.number
