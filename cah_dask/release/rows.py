"""Where the rows of a release come from: the scored parts of a run, or another release."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.errors import RunError
from cah_dask.release.layout import Layout, read_layout, vectors_path
from cah_dask.release.vectors import ShardReader
from cah_dask.schema import SELECTED, similarity_of, vector_of
from cah_dask.storage import Part, open_part, read_part, require_same

_ROWS_AT_ONCE = 8192
"""Of which vectors are in memory: 17 MB for two arrays of 512 dimensions."""


class Rows(Protocol):
    """The rows of a run or of a release, by the columns of `schema.scored`."""

    def take(self, part: str, selected: pa.Table, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns of the selected rows of one part, in their order.

        Parameters
        ----------
        part
            Path relative to the run folder or the release.
        selected
            As `schema.selected`; a column that it has itself is taken from there.

        Raises
        ------
        RunError
            If it is not the part that the rows were selected from, or is damaged.
        """


def source_of(source: Path) -> Rows:
    """Return the rows of a release, or else of a run folder."""
    layout = read_layout(source)
    return ScoredRows(source) if layout is None else ReleasedRows(source, layout)


class ScoredRows:
    """What a run has scored."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir

    def take(self, part: str, selected: pa.Table, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns of the selected rows of a scored part, all at once: it is small."""
        path = self._run_dir / part
        scored = read_part(path, columns=sorted({"uid", *columns} - _own(selected)))
        if pc.max(selected["row"]).as_py() < len(scored):
            scored = scored.take(selected["row"])
            if scored["uid"] == selected["uid"]:
                yield _joined(scored, selected, columns)
                return
        raise _other_part(path)


class ReleasedRows:
    """The pairs of a release, with the vectors that stand beside them.

    A shard is compared with its checksum before any vector of it is used.
    """

    def __init__(self, release: Path, layout: Layout) -> None:
        self._release = release
        self._layout = layout

    def take(self, part: str, selected: pa.Table, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns of the selected rows of a part, which ascend, some at a time."""
        path = self._release / part
        names = {*columns} - _own(selected) - {"uid"}
        with open_part(path) as pairs:
            shards = vectors_beside(pairs, self._release, self._layout, names)
            stored = {name: self._stored(name) for name in names - {*shards}}
            for piece, found in _taken(pairs, selected, sorted({"uid", *stored.values()})):
                uids = [uid.hex() for uid in piece["uid"].to_pylist()]
                if found["uid"].to_pylist() != uids:
                    raise _other_part(path)
                rows = piece["row"].to_numpy()
                made = {ours: found[theirs] for ours, theirs in stored.items()}
                made |= {name: _packed(shard.take(rows)) for name, shard in shards.items()}
                yield _joined(pa.table(made | {"uid": piece["uid"]}), piece, columns)

    def _stored(self, column: str) -> str:
        """Return what a column is called in the parts: of one encoder there is one similarity."""
        decides = column == similarity_of(self._layout.encoder)
        return "similarity" if decides else column


def vectors_beside(
    pairs: Part, release: Path, layout: Layout, columns: AbstractSet[str]
) -> dict[str, ShardReader]:
    """Return the vectors beside a part of a release, by their columns, as they were written.

    Parameters
    ----------
    columns
        What is wanted, by `schema.vector_of`; others are not looked at.

    Raises
    ------
    DamageError
        If a shard is not what was written.
    """
    receipt = pairs.receipt
    number = int(receipt.unit.removeprefix("part-"))
    sides = {side.name: side for side in receipt.side}
    found = {}
    for encoder, modality, dim in layout.arrays:
        side = sides.get(name := vectors_path(encoder, modality, number))
        if side is not None and (column := vector_of(encoder, modality)) in columns:
            require_same(release / name, side)
            found[column] = ShardReader(release / name, layout, dim)
    return found


def _taken(
    pairs: Part, selected: pa.Table, columns: list[str]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield the selected rows of a part, some at a time, each with some columns of the part."""
    chosen = selected["row"].to_numpy()
    if (np.diff(chosen) <= 0).any():
        raise RunError(f"rows of {pairs.path} were selected out of order; run the command again")
    start = 0
    for group in range(pairs.n_row_groups):
        stop = start + pairs.metadata.row_group(group).num_rows
        first, last = np.searchsorted(chosen, [start, stop])
        if first < last:
            read = pairs.read([group], columns)
        for at in range(first, last, _ROWS_AT_ONCE):
            piece = selected.slice(at, min(_ROWS_AT_ONCE, last - at))
            yield piece, read.take(pc.subtract(piece["row"], pa.scalar(start, pa.int32())))
        start = stop
    if len(chosen) and chosen[-1] >= start:
        raise _other_part(pairs.path)


def _own(selected: pa.Table) -> set[str]:
    """Return the columns that selected rows bring along."""
    return {*selected.column_names} - {*SELECTED.names}


def _joined(found: pa.Table, selected: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Return some columns of rows and of what was selected of them."""
    for name in _own(selected) & {*columns}:
        found = found.append_column(name, selected[name])
    return found.select(columns)


def _packed(vectors: npt.NDArray[np.float16]) -> pa.Array:
    """Return vectors as fixed-size binary."""
    kind = pa.binary(vectors.dtype.itemsize * vectors.shape[1])
    return pa.Array.from_buffers(kind, len(vectors), [None, pa.py_buffer(vectors)])


def _other_part(path: Path) -> RunError:
    return RunError(
        f"{path} was made anew since pairs were selected from it; run the command again"
    )
