"""A release as a pool."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import zarr

from cah_dask.curate.pools.pool import BATCH_ROWS, VECTOR_ROWS, Batch, Vectors
from cah_dask.errors import InputError
from cah_dask.release.layout import EMBEDDINGS, LAYOUT, part_path, read_layout
from cah_dask.schema import similarity_of
from cah_dask.storage import open_part


class ReleasePool:
    """The pairs of a release, and its vectors."""

    kind = "release"
    notes: Sequence[str] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        layout = read_layout(path)
        if layout is None:
            raise InputError(f"{path} is no release: it has no {LAYOUT} that can be read")
        self._layout = layout
        self.units = [
            part_path(path, number).relative_to(path).as_posix() for number in range(layout.shards)
        ]

    @property
    def columns(self) -> Sequence[str]:
        """The columns; the similarity that decided is there under both of its names."""
        return list(
            dict.fromkeys([*self._layout.schema.names, similarity_of(self._layout.encoder)])
        )

    @property
    def vectors(self) -> Mapping[str, int]:
        """Length of the vectors."""
        return {f"{name}/{modality}": dim for name, modality, dim in self._layout.arrays}

    @property
    def most_rows(self) -> int:
        """Its rows."""
        return self._layout.rows

    @property
    def fingerprint(self) -> str:
        """Of its layout: two releases with equal layouts hold equal pairs."""
        return self._layout.fingerprint

    def stamp(self, number: int) -> str:
        """Return the name of a part, and what tells its release from others."""
        return f"{self.units[number]} {self.fingerprint}"

    @cached_property
    def _arrays(self) -> zarr.Group:
        return zarr.open_group(self.path / EMBEDDINGS, mode="r")

    def batches(
        self, number: int, columns: Sequence[str], vectors: Sequence[str] = ()
    ) -> Iterator[Batch]:
        """Yield the rows of a part."""
        size = VECTOR_ROWS if vectors else BATCH_ROWS
        theirs = {name: self._own_name(name) for name in columns}
        first = number * self._layout.rows_per_shard
        start = 0
        with open_part(self.path / self.units[number]) as part:
            for group in range(part.n_row_groups):
                read = part.read([group], sorted({*theirs.values()}))
                table = pa.table({ours: read[name] for ours, name in theirs.items()})
                for at in range(0, len(table), size):
                    piece = table.slice(at, size)
                    found = {name: self._read(name, first + start, len(piece)) for name in vectors}
                    rows = np.arange(start, start + len(piece))
                    start += len(piece)
                    yield Batch(self.units[number], rows, piece, found)

    def _own_name(self, name: str) -> str:
        if name in self._layout.schema.names:
            return name
        return "similarity"

    def _read(self, name: str, start: int, n: int) -> Vectors:
        array = self._arrays[name]
        found = np.asarray(array[start : start + n])  # type: ignore[index]  # an array
        if found.shape != (n, self.vectors[name]) or not np.isfinite(found).all():
            raise InputError(f"{self.path / EMBEDDINGS / name}: rows from {start} are damaged")
        return found
