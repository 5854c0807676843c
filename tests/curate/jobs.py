"""Filters in this process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cah_dask.counts import Counts
from cah_dask.curate.filters.file import FilterFile, located
from cah_dask.curate.pools.opening import open_pool
from cah_dask.run.filtering.job import FilterJob
from cah_dask.run.filtering.outputs import write_uids
from cah_dask.run.filtering.tasks import KEEP, Output
from tests import jobs_here


def job_of(
    pool: Path,
    keep: Mapping[str, Any],
    scratch: Path,
    output: Output = "uids",
    columns: Mapping[str, str] | None = None,
    **options: Any,
) -> FilterJob:
    """Return a job that filters a pool."""
    file = located(FilterFile(keep=dict(keep), **options))
    return FilterJob(
        open_pool(pool, columns), file, output, scratch / "out", scratch, columns or {}
    )


def carry_out(job: FilterJob, **options: Any) -> Counts:
    """Do all of a job in this process; return what became of the rows of the pool."""
    return jobs_here.carry_out(job, **options).counts[KEEP]


def subset(job: FilterJob, to: Path, **options: Any) -> bytes:
    """Return the bytes of the subset file that a job leaves."""
    counts = carry_out(job, **options)
    write_uids(job, counts, to)
    return to.read_bytes()
