"""Uids on their way through files, cut into ranges: each range of all files is sorted by itself."""

import numpy as np
import pyarrow as pa

from cah_dask.keys import Index, Keys, from_digests
from cah_dask.schema import UID_BYTES

ROWS_PER_RANGE = 3_000_000
"""Rows whose uids are compared at once: 48 MB, and thrice that while they are sorted."""
MOST_RANGES = 4096
"""16 GB of uids for a billion rows are 512 ranges; 12.8 billion rows are these."""
UIDS = pa.schema([pa.field("uid", pa.binary(UID_BYTES), nullable=False)])
"""One row group for each range of uids, in their order."""


def n_ranges(rows: int) -> int:
    """Return in how many ranges the uids of so many rows are cut, a power of two."""
    needed = -(-rows // ROWS_PER_RANGE)
    return min(MOST_RANGES, 1 << max(0, needed - 1).bit_length())


def cut(keys: Keys, ranges: int) -> list[pa.Table]:
    """Cut sorted keys into ranges, each a table of `UIDS`."""
    return [as_table(each) for each in np.split(keys, bounds(keys, ranges))]


def bounds(keys: Keys, ranges: int) -> Index:
    """Return where all ranges but the first begin in sorted keys."""
    starts = np.arange(1, ranges, dtype=np.uint64) << np.uint64(65 - ranges.bit_length())
    return np.searchsorted(keys["f0"], starts)


def as_table(keys: Keys) -> pa.Table:
    """Return keys as a table of `UIDS`."""
    halves = np.empty((len(keys), 2), ">u8")
    halves[:, 0], halves[:, 1] = keys["f0"], keys["f1"]
    data = pa.py_buffer(halves)
    uids = pa.Array.from_buffers(UIDS.field("uid").type, len(keys), [None, data])
    return pa.table([uids], schema=UIDS)


def as_keys(table: pa.Table) -> Keys:
    """Return a table of `UIDS` as keys."""
    return from_digests(packed(table["uid"]))


def packed(column: pa.ChunkedArray) -> bytes:
    """Return the values of a column of fixed-size binaries end to end."""
    width = column.type.byte_width
    return b"".join(
        chunk.buffers()[1][chunk.offset * width : (chunk.offset + len(chunk)) * width]
        for chunk in column.chunks
    )
