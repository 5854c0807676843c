"""Candidate rows of one archive, gathered in reading order and handed out grouped by bucket."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from cah_dask.schema import CANDIDATES, Split

GROUP_ROWS = 4096
"""Rows after which a row group ends with its bucket. Reading one bucket of a part reads one row
group: fewer rows cost more in footers than they save in rows that are not of the bucket."""

MAX_GROUP_ROWS = 4 * GROUP_ROWS
"""Rows of a row group at the most, when one bucket alone has more."""

_BATCH_ROWS = 1 << 14  # rows held as Python objects before they become Arrow

_COLUMNS = pa.schema([field for field in CANDIDATES if field.name != "archive"])


class Row(NamedTuple):
    """One candidate: `schema.CANDIDATES` without its archive, in the same order."""

    bucket: int
    uid: bytes
    url: str
    text: str
    split: Split
    lang: str
    lang_confidence: float
    lang_is_reliable: bool
    text_is_filename: bool
    license: str | None
    page_url: str
    record_offset: int
    link_index: int


class RowBuilder:
    """Rows are added in (record_offset, link_index) order."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._batches: list[pa.RecordBatch] = []
        self._flushed = 0

    def __len__(self) -> int:
        return self._flushed + len(self._rows)

    def add(self, row: Row) -> None:
        """Append one row."""
        self._rows.append(row)
        if len(self._rows) == _BATCH_ROWS:
            self._flush()

    def groups(self, archive: str) -> list[pa.Table]:
        """Return all rows in (bucket, record_offset, link_index) order, as row groups."""
        self._flush()
        table = pa.Table.from_batches(self._batches, schema=_COLUMNS)
        self._batches.clear()
        bucket = table["bucket"].to_numpy()
        order = np.argsort(bucket, kind="stable")
        table = table.take(order)
        return [
            _with_archive(table.slice(start, stop - start), archive)
            for start, stop in _group_bounds(bucket[order])
        ]

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [
                pa.array(column, field.type)
                for column, field in zip(columns, _COLUMNS, strict=True)
            ]
            self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=_COLUMNS))
            self._flushed += len(self._rows)
            self._rows.clear()


def _with_archive(table: pa.Table, archive: str) -> pa.Table:
    index = CANDIDATES.get_field_index("archive")
    return table.add_column(index, CANDIDATES.field(index), pa.repeat(archive, len(table)))


def _group_bounds(bucket: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of the row groups of a sorted bucket column."""
    ends = np.append(np.flatnonzero(np.diff(bucket)) + 1, len(bucket))
    start = 0
    for end in ends.tolist():
        if end - start < GROUP_ROWS and end < len(bucket):
            continue
        for stop in (*range(start + MAX_GROUP_ROWS, end, MAX_GROUP_ROWS), end):
            if stop > start:
                yield start, stop
            start = stop
