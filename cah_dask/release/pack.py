"""Packing: one task writes one Zarr shard of both arrays and the parquet part with the same rows.

The rows flow through it in batches, so that it takes the same memory whatever their number.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.counts import Counts
from cah_dask.errors import RunError
from cah_dask.release.layout import (
    EMBEDDINGS,
    LAYOUT,
    Layout,
    Slice,
    part_path,
    read_layout,
    vectors_path,
)
from cah_dask.release.rows import Rows, ScoredRows
from cah_dask.release.vectors import ShardWriter, zarr_metadata
from cah_dask.schema import similarity_of, vector_of
from cah_dask.storage import (
    Receipt,
    SideFile,
    read_part,
    side_file,
    staged,
    write_atomic,
    write_part,
)

_CHUNKS_PER_ROW_GROUP = 16

_Read: TypeAlias = Callable[[Sequence[str]], Iterator[pa.Table]]
"""Yields some columns of the rows of a shard."""


def create_release(folder: Path, layout: Layout) -> None:
    """Create an empty release: both arrays at their final shape, and the layout beside them.

    What is there already of the same release stays.
    """
    for name, data in zarr_metadata(layout).items():
        write_atomic(folder / EMBEDDINGS / name, data)
    write_atomic(folder / LAYOUT, msgspec.json.format(msgspec.json.encode(layout)))


def pack_shard(
    chosen: Path, folder: Path, number: int, parts: Sequence[Slice], rows: Rows | None = None
) -> Receipt:
    """Write Zarr shard `number` of both arrays, then the parquet part with the same rows.

    Parameters
    ----------
    chosen
        Folder that the paths of `parts` are relative to.
    folder
        The release, as `create_release` made it.
    rows
        What the parts select from. Default: what the run in `chosen` has scored.

    Returns
    -------
    Receipt
        Its side files are the Zarr shards with size and checksum. It holds no time: a release does
        not depend on how fast it was made. Of another release it names no part: these would tell
        where the rows were there.
    """
    layout = read_layout(folder)
    if layout is None:
        raise RunError(f"{folder} holds no release layout; run the same command again")
    source = ScoredRows(chosen) if rows is None else rows
    read = partial(_selected_rows, chosen, source, parts)
    n_rows = sum(part.stop - part.start for part in parts)
    receipt = Receipt(
        stage="pack",
        unit=f"part-{number:05d}",
        config=layout.config,
        counts=Counts(n_rows, n_rows),
        inputs=tuple(part.part for part in parts) if rows is None else (),
        side=_write_shards(read, folder, number, layout) if n_rows else (),
    )
    groups = _pairs(read, number * layout.rows_per_shard, layout)
    return write_part(part_path(folder, number), layout.schema, groups, receipt)


def _write_shards(read: _Read, folder: Path, number: int, layout: Layout) -> tuple[SideFile, ...]:
    """Write a shard of every array, each whole or not at all."""
    names = [vectors_path(encoder, modality, number) for encoder, modality, _ in layout.arrays]
    columns = [vector_of(encoder, modality) for encoder, modality, _ in layout.arrays]
    dims = [dim for *_, dim in layout.arrays]
    with contextlib.ExitStack() as stack:
        writers = []
        for name, dim in zip(names, dims, strict=True):
            file = stack.enter_context(stack.enter_context(staged(folder / name)).open("wb"))
            writers.append(ShardWriter(file, layout, dim))
        for chunk in rebatched(read(columns), layout.rows_per_chunk):
            for column, dim, writer in zip(columns, dims, writers, strict=True):
                writer.add(_unpacked(chunk[column], dim))
        for writer in writers:
            writer.finish()
    return tuple(side_file(folder / name, name) for name in names)


def _unpacked(column: pa.ChunkedArray, dim: int) -> npt.NDArray[np.float16]:
    """Return vectors as ``(n, dim)`` float16."""
    data = column.combine_chunks()
    vectors: npt.NDArray[np.float16] = np.frombuffer(data.buffers()[1], "<f2").reshape(-1, dim)
    return vectors[data.offset : data.offset + len(data)]


def _pairs(read: _Read, start: int, layout: Layout) -> Iterator[pa.Table]:
    """Yield the row groups, cut at multiples of the chunk: they are read with their vectors."""
    schema = layout.schema
    decides = similarity_of(layout.encoder)
    columns = {name: decides if name == "similarity" else name for name in schema.names}
    del columns["row"], columns["encoder"]
    rows = read(sorted({*columns.values()}))
    for table in rebatched(rows, layout.rows_per_chunk * _CHUNKS_PER_ROW_GROUP):
        made = {
            "row": pa.array(np.arange(start, start + len(table))),
            "uid": pa.array([value.hex() for value in table["uid"].to_pylist()], pa.string()),
            "encoder": pa.repeat(layout.encoder, len(table)),
        }
        start += len(table)
        arrays = [made[name] if name in made else table[columns[name]] for name in schema.names]
        # in one piece: where pages end depends on pieces
        yield pa.table(arrays, schema=schema).combine_chunks()


def _selected_rows(
    chosen: Path, source: Rows, parts: Sequence[Slice], columns: Sequence[str]
) -> Iterator[pa.Table]:
    """Yield some columns of the rows that a shard is made of, part by part of the source."""
    for part in parts:
        selected = read_part(chosen / part.part)
        if len(selected) < part.stop:
            raise RunError(f"{part.part} has {len(selected)} rows, its receipt says {part.stop}")
        selected = selected.slice(part.start, part.stop - part.start)
        for name in pc.unique(selected["part"]).to_pylist():
            rows = selected.filter(pc.equal(selected["part"], name))
            yield from source.take(name, rows, columns)


def rebatched(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """Cut and join tables to such of `size` rows; the last one may have fewer."""
    waiting: list[pa.Table] = []
    n_rows = 0
    for table in tables:
        waiting.append(table)
        n_rows += len(table)
        if n_rows < size:
            continue
        joined = pa.concat_tables(waiting)
        n_whole = n_rows - n_rows % size
        for start in range(0, n_whole, size):
            yield joined.slice(start, size)
        waiting = [joined.slice(n_whole)]
        n_rows -= n_whole
    if n_rows:
        yield pa.concat_tables(waiting)
