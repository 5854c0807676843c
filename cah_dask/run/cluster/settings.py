"""What Dask is told before anything of it starts."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import dask

DASK_SETTINGS: Mapping[str, Any] = {
    # A task may lose so many workers in one attempt, and one more; Dask's own 3 is too few where
    # jobs are preempted, and a task that kills its workers must come to an end.
    "distributed.scheduler.allowed-failures": 6,
    # Data lie in files; nothing large is ever held by a worker between tasks.
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.scheduler.work-stealing": False,
    "distributed.comm.require-encryption": True,
    # The terminal of a local worker is the driver's.
    "distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "error",
    # Nothing of a user's own ~/.config/dask reaches our jobs.
    "jobqueue.slurm.interface": None,
    "jobqueue.slurm.log-directory": None,
    "jobqueue.slurm.project": None,
    "jobqueue.slurm.account": None,
    "jobqueue.slurm.queue": None,
    "jobqueue.slurm.walltime": None,
    "jobqueue.slurm.job-mem": None,
}


def dask_settings() -> AbstractContextManager[Any]:
    """Return a context in which Dask is configured as we want it."""
    context: AbstractContextManager[Any] = dask.config.set(DASK_SETTINGS)
    return context
