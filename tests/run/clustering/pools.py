"""Pools of vectors for tests."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cah_dask.curate.pools.uids import hex_of
from tests.curate.vectors.test_near_duplicates import with_copies


def write_pool(
    folder: Path, vectors: np.ndarray, rows: np.ndarray, cuts: tuple[int, ...] = ()
) -> Path:
    """Write rows as DataComp's metadata, cut into files."""
    folder.mkdir(parents=True)
    names = [f"{number:02d}" for number in range(len(cuts) + 1)]
    for name, some in zip(names, np.split(np.arange(len(rows)), cuts), strict=True):
        uids = hex_of(rows[some])
        table = {
            "uid": uids,
            "url": [f"http://a.test/{uid}" for uid in uids],
            "text": uids,
            "clip_b32_similarity_score": rows["similarity"][some],
        }
        pq.write_table(pa.table(table), folder / f"{name}.parquet", row_group_size=100)
        np.savez(folder / f"{name}.npz", b32_img=vectors[some])
    return folder


def small_pool(folder: Path, n: int = 600, cuts: tuple[int, ...] = (150, 150, 430)) -> Path:
    """Write a pool with near duplicates, one of whose files is empty."""
    return write_pool(folder, *with_copies(n), cuts)
