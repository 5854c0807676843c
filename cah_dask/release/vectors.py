"""The embeddings of a release: Zarr arrays whose shards are written chunk by chunk.

zarr makes a shard out of all its vectors at once, which takes several times the memory of the
shard. The sharding codec of Zarr 3 is simple enough to be written as the vectors come: chunks one
after the other, then their index. `tests/release/test_vectors.py` holds both to equal bytes.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple, Protocol

import google_crc32c
import msgspec
import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.buffer import Buffer
from zarr.codecs import Crc32cCodec
from zarr.errors import ZarrUserWarning
from zarr.storage import MemoryStore

from cah_dask.release.layout import Layout

_CRC32C_BYTES = 4
_NO_CHUNK = 2**64 - 1
"""Offset and length of a chunk that a shard does not hold."""


class Sizes(Protocol):
    """How an array is cut."""

    @property
    def rows_per_shard(self) -> int:
        """Rows of one file."""

    @property
    def rows_per_chunk(self) -> int:
        """Rows of one piece of it."""


class Array(NamedTuple):
    """Vectors of a group."""

    path: str
    dim: int


def zarr_metadata(layout: Layout) -> dict[str, bytes]:
    """Return the metadata files of the arrays of a release by their names."""
    attributes = {
        "encoder": layout.encoder,
        "normalisation": "l2",
        "row_order": "row i of the arrays is row i of pairs/part-*.parquet, in order",
    }
    groups = {encoder.name: msgspec.to_builtins(encoder) for encoder in layout.encoders}
    arrays = [Array(f"{name}/{modality}", dim) for name, modality, dim in layout.arrays]
    return metadata_files(layout, layout.rows, arrays, attributes, groups)


def metadata_files(
    sizes: Sizes,
    rows: int,
    arrays: Sequence[Array],
    attributes: Mapping[str, Any],
    groups: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, bytes]:
    """Return the metadata files of arrays of vectors of so many rows, by their names.

    They are made in memory: zarr itself can only write them where there are hard links.

    Parameters
    ----------
    attributes
        Of the group that holds them.
    groups
        Attributes of groups within it, by their names.
    """
    files: dict[str, Buffer] = {}
    store = MemoryStore(files)
    root = zarr.create_group(store, zarr_format=3, attributes=dict(attributes))
    for name, own in groups.items():
        root.create_group(name, attributes=own)
    for path, dim in arrays:
        root.create_array(
            path,
            shape=(rows, dim),
            dtype="float16",
            chunks=(sizes.rows_per_chunk, dim),
            shards=(sizes.rows_per_shard, dim),
            # zstd saves 6 to 8 % of such vectors for 2 to 3 times the time
            compressors=[Crc32cCodec()],
            chunk_key_encoding={"name": "default", "separator": "."},
            fill_value=float("nan"),  # a lost shard must never look like vectors
            dimension_names=("row", "dim"),
        )
    with warnings.catch_warnings():  # no part of the specification, but xarray asks for it
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(store)
    return {name: data.to_bytes() for name, data in files.items()}


class ShardWriter:
    """Writes one shard of an array to an open file, chunk by chunk in the order of its rows."""

    def __init__(self, file: BinaryIO, sizes: Sizes, dim: int) -> None:
        self._file = file
        self._shape = (sizes.rows_per_chunk, dim)
        n_chunks = sizes.rows_per_shard // sizes.rows_per_chunk
        self._index = np.full((n_chunks, 2), _NO_CHUNK, "<u8")
        self._n_chunks = self._n_bytes = 0

    def add(self, vectors: npt.NDArray[np.float16]) -> None:
        """Write the next chunk: ``(rows_per_chunk, dim)``; the last one of an array may be shorter.

        What lies beyond the end of the array is filled up, as every chunk has the same size.
        """
        chunk = np.full(self._shape, np.nan, "<f2")
        chunk[: len(vectors)] = vectors
        data = _with_crc32c(chunk.tobytes())
        self._file.write(data)
        self._index[self._n_chunks] = self._n_bytes, len(data)
        self._n_chunks += 1
        self._n_bytes += len(data)

    def finish(self) -> None:
        """Write the index, which ends the shard."""
        self._file.write(_with_crc32c(self._index.tobytes()))


class ShardReader:
    """Reads vectors of a shard that `ShardWriter` wrote, one chunk at a time.

    Compare the file with its checksum before: nothing is checked here.
    """

    def __init__(self, path: Path, layout: Layout, dim: int) -> None:
        self._path = path
        self._shape = (layout.rows_per_chunk, dim)

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float16]:
        """Return the vectors of some rows of the shard: ``(n, dim)``."""
        per_chunk, dim = self._shape
        found = np.empty((len(rows), dim), "<f2")
        chunks, places = np.divmod(rows, per_chunk)
        for chunk in np.unique(chunks):
            start = int(chunk) * (2 * per_chunk * dim + _CRC32C_BYTES)
            data = np.fromfile(self._path, "<f2", per_chunk * dim, offset=start)
            is_in = chunks == chunk
            found[is_in] = data.reshape(self._shape)[places[is_in]]
        return found


def _with_crc32c(data: bytes) -> bytes:
    checksum: int = google_crc32c.value(data)
    return data + checksum.to_bytes(_CRC32C_BYTES, "little")
