"""What a worker is sent: do this task here, and say who did it.

A worker may import this in any of its threads, so it knows nothing of schedulers and jobs.
"""

import contextlib
import os
import socket

from distributed import get_worker

from cah_dask.run.task import Done, Failed, Task, run_task


def run_here(task: Task) -> Done | Failed:
    """Do a task on this worker."""
    return run_task(task, worker_name())


def worker_name() -> str:
    """Return the node, as Slurm calls it, and the name of the Dask worker that runs this code."""
    node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    with contextlib.suppress(ValueError):
        return f"{node}/{get_worker().name}"
    return node  # called by hand
