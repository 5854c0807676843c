"""The simplest plans: steps one after the other, each over units that are known when it begins."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from cah_dask.counts import Counts
from cah_dask.run.stages import Kind, Stage
from cah_dask.run.unit import Unit
from cah_dask.storage import Receipt

Committed: TypeAlias = Callable[[Unit], Receipt | None]
"""Gives the receipt of a unit whose part already exists, else None."""
Step: TypeAlias = Sequence[Unit] | Callable[[], Sequence[Unit]]
"""The units of a step, in their order, or what finds them once all steps before are done."""
Size: TypeAlias = int | Callable[[], int]
"""How many units a stage has, or what finds out once all stages before are done."""


class Stepwise:
    """Offers the units of a step once all of the step before are done (`driver.Units`).

    Parameters
    ----------
    stages
        In the order in which they are shown.
    steps
        A stage may come again, in another wave. Units that are to be found are asked for by
        `begin`, as it may take long.
    """

    def __init__(
        self, stages: Sequence[Stage], steps: Sequence[Step], committed: Committed
    ) -> None:
        self.stages = tuple(stages)
        self.known = dict.fromkeys(self.stages, 0)
        for unit in (unit for step in steps if not callable(step) for unit in step):
            self.known[unit.stage] += 1
        self.done = dict.fromkeys(self.stages, 0)
        self.counts = dict.fromkeys(self.stages, Counts())
        self._errors: dict[Unit, tuple[str, ...]] = {}
        self.failed: dict[Unit, str] = {}
        self._committed = committed
        self._steps = steps
        self._begun = 0
        self._left = 0  # units of the step that is begun
        self._ready: list[tuple[int, Unit]] = []
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
            self._errors, key=lambda unit: (self.stages.index(unit.stage), unit.wave, _number(unit))
        )
        return [error for unit in units for error in self._errors[unit]]

    def _settle(self, unit: Unit, receipt: Receipt) -> None:
        self._left -= 1
        self.done[unit.stage] += 1
        self.counts[unit.stage] += receipt.counts
        if receipt.errors:
            self._errors[unit] = receipt.errors

    def fail(self, unit: Unit, reason: str) -> None:
        """Learn that a unit is given up: the steps after it are not begun."""
        self.failed[unit] = reason

    def begin(self) -> bool:
        """Begin the next step whose units are to be found; tell whether that gives any unit."""
        while not self._left and self._begun < len(self._steps):
            step = self._steps[self._begun]
            if callable(step):
                step = step()
                for unit in step:
                    self.known[unit.stage] += 1
            self._begin(step)
        return bool(self._ready)

    def _begin_next(self) -> None:
        """Offer the units of all steps whose time has come and that are known."""
        while not self._left and self._begun < len(self._steps):
            step = self._steps[self._begun]
            if callable(step):
                return
            self._begin(step)

    def _begin(self, units: Sequence[Unit]) -> None:
        self._begun += 1
        self._left = len(units)
        for unit in units:
            receipt = self._committed(unit)
            if receipt is None:
                self.put_back(unit)
            else:
                self._settle(unit, receipt)


class Stagewise(Stepwise):
    """Stages one after the other, each over units numbered from 0.

    Parameters
    ----------
    sizes
        How many units each stage has, in the order of the stages.
    """

    def __init__(self, sizes: Mapping[Stage, Size], committed: Committed) -> None:
        steps = [_step(stage, size) for stage, size in sizes.items()]
        super().__init__(tuple(sizes), steps, committed)


def _step(stage: Stage, size: Size) -> Step:
    if callable(size):
        return lambda: [numbered(stage, number) for number in range(size())]
    return [numbered(stage, number) for number in range(size)]


def numbered(stage: Stage, number: int, wave: int = 0) -> Unit:
    """Return a unit of a stage that is known by its number."""
    if stage.kind is Kind.BUCKET:
        return Unit(stage, wave=wave, bucket=number)
    return Unit(stage, wave=wave, number=number)


def _number(unit: Unit) -> int:
    return unit.bucket or unit.number
