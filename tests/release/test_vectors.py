"""Shards written chunk by chunk are those that zarr writes, byte for byte."""

import io

import numpy as np
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.abc.buffer import Buffer
from zarr.buffer import cpu
from zarr.storage import MemoryStore

from cah_dask.release.layout import Layout
from cah_dask.release.vectors import ShardWriter, zarr_metadata
from tests.encoders import released_encoder


def by_zarr(vectors: np.ndarray, layout: Layout, start: int) -> bytes:
    """Return the shard that holds row `start` as zarr makes it."""
    array = zarr_metadata(layout)["clip/image/zarr.json"]
    files: dict[str, Buffer] = {"zarr.json": cpu.Buffer.from_bytes(array)}
    zarr.open_array(MemoryStore(files), mode="r+")[start : start + len(vectors)] = vectors
    return files[f"c.{start // layout.rows_per_shard}.0"].to_bytes()


@given(
    dim=st.integers(1, 9),
    rows_per_chunk=st.integers(1, 5),
    n_chunks=st.integers(1, 4),
    n_rows=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_a_shard_is_the_one_that_zarr_writes(dim, rows_per_chunk, n_chunks, n_rows, seed):
    per_shard = rows_per_chunk * n_chunks
    layout = Layout(
        n_rows, (released_encoder("clip", dim),), "clip", "hash", per_shard, rows_per_chunk, ""
    )
    vectors = np.random.default_rng(seed).normal(size=(n_rows, dim)).astype("<f2")
    for start in range(0, n_rows, per_shard):
        mine = vectors[start : start + per_shard]
        file = io.BytesIO()
        writer = ShardWriter(file, layout, dim)
        for first in range(0, len(mine), rows_per_chunk):
            writer.add(mine[first : first + rows_per_chunk])
        writer.finish()
        assert file.getvalue() == by_zarr(mine, layout, start)
