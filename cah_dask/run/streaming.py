"""The plan of a stream: what a unit of one stage leaves waits for the next, which takes it away."""

import heapq
from collections.abc import Callable, Sequence

import msgspec

from cah_dask.counts import STAGED, Counts
from cah_dask.run.stages import Stage
from cah_dask.run.stagewise import Committed, Step, Stepwise
from cah_dask.run.unit import Unit
from cah_dask.storage import Receipt


class Streaming(Stepwise):
    """Offers a unit of `takes` once that of `leaves` is done, and those while there is room.

    Once all are taken away the steps follow that come `then`.

    Parameters
    ----------
    leaves, takes
        Two stages with the same units. What a unit of `leaves` left is gone once that of `takes` is
        done, and so may its part be; then `left_by` tells its counts from the other's receipt.
    archives
        The units, in their order.
    room
        Bytes that may lie between the two. Units of `leaves` that are at work count as much as the
        largest so far; one is always at work or waits to be taken away, however large it is.
    """

    def __init__(  # noqa: PLR0913  # each is a fact of the job
        self,
        leaves: Stage,
        takes: Stage,
        archives: Sequence[str],
        then: Sequence[tuple[Stage, Step]],
        committed: Committed,
        *,
        room: float,
        left_by: Callable[[Receipt], Counts],
    ) -> None:
        self._leaves = leaves
        self._takes = takes
        self._room = room
        self._left_by = left_by
        self._offered: dict[Stage, list[tuple[int, Unit]]] = {leaves: [], takes: []}
        self._at_work: set[Unit] = set()
        self._staged: dict[int, int] = {}
        self._largest = 0
        stream = [
            Unit(takes, number=number, archive=archive) for number, archive in enumerate(archives)
        ]
        stages = (leaves, takes, *(stage for stage, _ in then))
        super().__init__(stages, [stream, *(step for _, step in then)], committed)

    @property
    def staged(self) -> int:
        """Bytes that wait to be taken away."""
        return sum(self._staged.values())

    def take(self, stages: Sequence[Stage]) -> Unit | None:
        """Return the first unit that may start now, or None."""
        for stage in stages:
            if stage not in self._offered:
                if unit := super().take([stage]):
                    return unit
            elif self.waiting([stage]):
                unit = heapq.heappop(self._offered[stage])[1]
                if stage == self._leaves:
                    self._at_work.add(unit)
                return unit
        return None

    def waiting(self, stages: Sequence[Stage]) -> int:
        """Return how many units of `stages` may start now."""
        number = super().waiting([stage for stage in stages if stage not in self._offered])
        for stage in stages:
            if stage in self._offered:
                n_offered = len(self._offered[stage])
                number += min(n_offered, self._places) if stage == self._leaves else n_offered
        return number

    @property
    def _places(self) -> int:
        """How many more units of `leaves` there is room for."""
        if not self._largest:
            return len(self._offered[self._leaves])
        left = self._room - self.staged - len(self._at_work) * self._largest
        is_idle = not self._staged and not self._at_work
        return max(int(is_idle), int(left // self._largest))

    def put_back(self, unit: Unit) -> None:
        """Return a unit that was taken and not done."""
        self._at_work.discard(unit)
        if unit.stage in self._offered:
            heapq.heappush(self._offered[unit.stage], (unit.number, unit))
        else:
            super().put_back(unit)

    def fail(self, unit: Unit, reason: str) -> None:
        """Learn that a unit is given up: the steps after the stream are not begun."""
        self._at_work.discard(unit)
        if unit.stage == self._takes:
            self._staged.pop(unit.number, None)
        super().fail(unit, reason)

    def _settle(self, unit: Unit, receipt: Receipt) -> None:
        super()._settle(unit, receipt)
        self._at_work.discard(unit)
        if unit.stage == self._leaves:
            n_bytes = receipt.counts.notes.get(STAGED, 0)
            self._staged[unit.number] = n_bytes
            self._largest = max(self._largest, n_bytes)
            self.put_back(msgspec.structs.replace(unit, stage=self._takes))
        elif unit.stage == self._takes:
            self._staged.pop(unit.number, None)
            # its errors are repeated by the receipt of the one that took it away
            self._errors.pop(msgspec.structs.replace(unit, stage=self._leaves), None)

    def _begin(self, units: Sequence[Unit]) -> None:
        if self._begun:
            super()._begin(units)
            return
        self._begun += 1
        self._left = 2 * len(units)
        self.known[self._leaves] = len(units)
        for unit in units:
            before = msgspec.structs.replace(unit, stage=self._leaves)
            taken = self._committed(unit)
            if taken is not None:
                self._left -= 1
                self.done[self._leaves] += 1
                self.counts[self._leaves] += self._left_by(taken)
                self._settle(unit, taken)
            elif left := self._committed(before):
                self._settle(before, left)
            else:
                self.put_back(before)
