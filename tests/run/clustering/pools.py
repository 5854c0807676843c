"""Pools of vectors for tests, and jobs over them in this process."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cah_dask.curate.pools.uids import hex_of
from cah_dask.errors import RunError
from cah_dask.run.clustering.jobs import Job, PoolWork, units_of
from cah_dask.run.stagewise import Stepwise
from cah_dask.run.task import Done, run_task
from tests.curate.vectors.test_near_duplicates import with_copies


class NobodyLooks:
    """A view that shows nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


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


def carry_out(job: Job, *, seed: int | None = None, at_most: int = 10_000) -> Stepwise:
    """Do units one by one, shuffled within their step if there is a seed."""
    with job.folder.held():
        units = units_of(job)
        work = PoolWork(job, units, NobodyLooks())
        while ready := [unit for _ in range(1000) if (unit := units.take(units.stages))]:
            if seed is not None:
                random.Random(seed).shuffle(ready)
            for unit in ready:
                if not at_most:
                    return units
                at_most -= 1
                done = run_task(work.task(unit, is_last_attempt=True), "here")
                if not isinstance(done, Done):
                    raise RunError(f"{done.message}{done.detail}")
                work.done(unit, done)
    return units
