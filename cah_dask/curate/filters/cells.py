"""Cells that are empty where a filter needs a value."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.curate.pools.pool import Batch, Mask
from cah_dask.errors import InputError

EMPTY_CELL = "empty_cell"
"""What rows are counted under that are dropped for an empty cell or NaN."""


def complete(batch: Batch, names: Sequence[str], *, drops: bool) -> Batch:
    """Return the rows of which no cell of some columns is empty or NaN.

    Raises
    ------
    InputError
        If there are others, unless such rows are dropped.
    """
    is_whole = np.ones(len(batch), bool)
    for name in names:
        column = batch.table[name]
        is_empty = _empty(column)
        if is_empty is None:
            continue
        if not drops:
            row = int(batch.rows[is_empty.argmax()])
            raise InputError(
                f"{batch.part}: row {row} has no {name}; with `nulls: drop` such rows are counted "
                f"as {EMPTY_CELL} and left out"
            )
        is_whole &= ~is_empty
    return batch.where(is_whole)


def _empty(column: pa.ChunkedArray) -> Mask | None:
    """Tell which cells are empty or NaN; None if none is."""
    is_empty = None
    if column.null_count:
        is_empty = np.asarray(column.is_null(), bool)
    if pa.types.is_floating(column.type):
        is_nan = np.asarray(pc.is_nan(column).fill_null(True), bool)  # noqa: FBT003
        if is_nan.any():
            is_empty = is_nan
    return is_empty
