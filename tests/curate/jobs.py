"""Carrying out a filter in this process, unit by unit, as a driver would by its workers."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cah_dask.curate.filters.file import FilterFile, located
from cah_dask.curate.pools.opening import open_pool
from cah_dask.errors import RunError
from cah_dask.run.filtering.job import FilterJob
from cah_dask.run.filtering.outputs import write_uids
from cah_dask.run.filtering.tasks import KEEP, Output
from cah_dask.run.folder.existing import WithRelease
from cah_dask.run.folder.job_folder import Existing
from cah_dask.run.making import JobWork
from cah_dask.run.stagewise import Stagewise
from cah_dask.run.task import Done, run_task
from cah_dask.schema import Counts


class NobodyLooks:
    """A view that shows nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


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


def carry_out(job: FilterJob, *, seed: int | None = None) -> Counts:
    """Do all units, shuffled within their stage if there is a seed; raise what ends the job."""
    with job.folder.held():
        derivation = job.derivation
        folder = job.folder
        committed = WithRelease(folder, derivation.unfinished) if derivation else Existing(folder)
        units = Stagewise(job.sizes, committed)
        work = JobWork(folder, units, NobodyLooks(), job.task, derivation)
        while True:
            ready = list(iter(lambda: units.take(units.stages), None))
            if not ready and not work.more():
                break
            if seed is not None:
                random.Random(seed).shuffle(ready)
            for unit in ready:
                done = run_task(work.task(unit, is_last_attempt=True), "here")
                if not isinstance(done, Done):
                    raise RunError(done.message)
                work.done(unit, done)
        if derivation:
            derivation.publish()
    return units.counts[KEEP]


def subset(job: FilterJob, to: Path, **options: Any) -> bytes:
    """Return the bytes of the subset file that a job leaves."""
    counts = carry_out(job, **options)
    write_uids(job, counts, to)
    return to.read_bytes()
