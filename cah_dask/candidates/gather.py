"""Rows of many tables brought into a new order, some lists of them at a time."""

import bisect
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from cah_dask.keys import Index
from cah_dask.schema import SAMPLES

HELD_ROWS = 1 << 19
"""Rows that are held in memory together by default."""


class GatheredLists(Sequence[pa.Table]):
    """Fetch lists: rows out of many tables, in any order, as `SAMPLES`.

    Parameters
    ----------
    tables
        `BUCKET` tables that the rows are taken from; read once for every `held_rows` rows. Without
        `places` they are `SAMPLES`.
    rows
        Numbers of the rows, counted through all tables, in the order wanted.
    bounds
        Where each list starts in `rows`, and where the last one ends.
    places
        ``image_wave`` and ``image_list`` of each of `rows`.
    held_rows
        Rows that are held in memory together, unless one list is longer.
    """

    def __init__(
        self,
        tables: Iterable[pa.Table],
        rows: Index,
        bounds: Sequence[int],
        places: tuple[Index, Index] | None = None,
        *,
        held_rows: int,
    ) -> None:
        self._tables = tables
        self._rows = rows
        self._bounds = bounds
        self._places = places
        self._held_rows = held_rows
        self._held = SAMPLES.empty_table()
        self._held_from = self._held_to = 0

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, index: int) -> pa.Table:  # type: ignore[override]  # no slices
        number = range(len(self))[index]
        start, stop = self._bounds[number : number + 2]
        if not self._held_from <= start <= stop <= self._held_to:
            self._hold(number)
        return self._held.slice(start - self._held_from, stop - start)

    def _hold(self, first: int) -> None:
        """Gather a list and those after it, as many as may be held."""
        start = self._bounds[first]
        last = bisect.bisect_right(self._bounds, start + self._held_rows) - 1
        stop = self._bounds[max(first + 1, last)]
        places = [pa.array(column[start:stop], pa.int32()) for column in self._places or ()]
        columns = [*self._gather(self._rows[start:stop]).columns, *places]
        self._held = pa.table(columns, schema=SAMPLES)
        self._held_from, self._held_to = start, stop

    def _gather(self, rows: Index) -> pa.Table:
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        parts, offset = [], 0
        for table in self._tables:
            start, stop = np.searchsorted(ascending, (offset, offset + len(table)))
            if stop > start:
                parts.append(table.take(ascending[start:stop] - offset))
            offset += len(table)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return pa.concat_tables(parts).combine_chunks().take(place)
