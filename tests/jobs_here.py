"""Jobs carried out in this process, unit by unit, as a driver would by its workers."""

import random
from typing import Any

from cah_dask.errors import RunError
from cah_dask.run.jobs import Job, JobWork
from cah_dask.run.stagewise import Stepwise
from cah_dask.run.task import Done, run_task


class NobodyLooks:
    """A view that shows nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def carry_out(job: Job, *, seed: int | None = None, at_most: int = 100_000) -> Stepwise:
    """Do units one by one, shuffled within their step if there is a seed, and publish a release.

    Parameters
    ----------
    at_most
        Units after which it ends, as if it were killed.
    """
    with job.folder.held():
        work = JobWork(job, NobodyLooks())
        units = work.units
        while True:
            ready = list(iter(lambda: units.take(units.stages), None))
            if not ready and not work.more():
                break
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
        job.publish()
    return units
