"""Vectors and numbers on their way through the parts of a job."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cah_dask.curate.pools.pool import Batch, Vectors
from cah_dask.curate.pools.uids import keys_of
from cah_dask.curate.vectors.centroids import norms
from cah_dask.errors import InputError
from cah_dask.keys import Keys
from cah_dask.run.pool_task import PoolTask
from cah_dask.schema import UID_BYTES

UID = pa.field("uid", pa.binary(UID_BYTES), nullable=False)


class VectorTask(PoolTask, frozen=True, kw_only=True):
    """One unit of a job over the vectors of a pool."""

    vectors: str
    """Which array, such as ``b32/image``."""
    ranges: int
    """In how many ranges clusters are dealt with."""

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self.opened.vectors[self.vectors]

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[Batch, Keys, Vectors]]:
        """Yield the batches of a unit of the pool, with their uids and vectors.

        Raises
        ------
        InputError
            If a vector is not finite; also as `read` does.
        """
        for batch in self.read(self.unit.number, ["uid", *columns], [self.vectors]):
            vectors = batch.vectors[self.vectors]
            _require_finite(batch, self.vectors, vectors)
            yield batch, keys_of(batch.table["uid"], batch.part), vectors

    def uids(self, unit: int) -> Iterator[Keys]:
        """Yield the uids of a unit of the pool; see `read` for errors."""
        for batch in self.read(unit, ["uid"]):
            yield keys_of(batch.table["uid"], batch.part)


def _require_finite(batch: Batch, name: str, vectors: Vectors) -> None:
    length = norms(vectors.astype(np.float32))
    is_good = np.isfinite(length) & (length > 0)
    if not is_good.all():
        at = int(is_good.argmin())
        what = "zero" if length[at] == 0 else "not finite"
        raise InputError(f"{batch.part}: vector {name} of row {batch.rows[at]} is {what}")


def packed(array: npt.NDArray[np.generic]) -> pa.Array:
    """Return the rows of an array ``(n, m)`` as a column of bytes."""
    array = np.ascontiguousarray(array)
    width = array.shape[1] * array.dtype.itemsize
    return pa.Array.from_buffers(pa.binary(width), len(array), [None, pa.py_buffer(array)])


def unpacked(column: pa.ChunkedArray, dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
    """Return what `packed` made a column of."""
    data = column.combine_chunks()
    width = data.type.byte_width
    start = data.offset * width
    raw = np.frombuffer(data.buffers()[1], np.uint8)[start : start + len(data) * width]
    return raw.view(dtype).reshape(-1, width // np.dtype(dtype).itemsize)


def vectors_of(table: pa.Table, dim: int) -> Vectors:
    """Return the column ``vector`` of a table, as the pool has it."""
    width = table["vector"].type.byte_width
    vectors: Vectors = unpacked(table["vector"], f"<f{width // dim}")  # type: ignore[assignment]
    return vectors


def with_schema(
    tables: Iterable[pa.Table], empty: pa.Table
) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """Return tables and their schema, which is that of `empty` where there is none."""
    rest = iter(tables)
    first = next(rest, None)
    if first is None:
        return empty.schema, iter(())
    return first.schema, itertools.chain([first], rest)


def regrouped(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Yield the rows of tables in tables of at least so many rows, but for the last one."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= rows:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def concatenated(tables: list[pa.Table], dim: int) -> pa.Table:
    """Return the rows of tables; their vectors as float32 unless all are stored alike."""
    if len({table["vector"].type for table in tables}) > 1:
        tables = [
            table.set_column(
                table.column_names.index("vector"),
                "vector",
                packed(vectors_of(table, dim).astype(np.float32)),
            )
            for table in tables
        ]
    return pa.concat_tables(tables)
