"""Preload of every worker process: what must hold before its first task and at its end."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import MutableMapping
from pathlib import Path

from distributed import Worker, WorkerPlugin

from cah_dask.run.cluster.private_parts import (
    is_needed,
    refuse_new_tasks,
    sign_off,
    stop_http_server,
)

logger = logging.getLogger(__name__)

IS_AMD = Path("/dev/kfd").exists()
"""Whether this node has AMD's GPU driver."""

POLL_S = 0.2
LAST_SECONDS_S = 3.0
"""Seconds before the end of its job at which a worker stops waiting for its tasks."""


async def dask_setup(worker: Worker) -> None:
    """Make the process a worker of ours; called by Dask before its first task."""
    _let_the_driver_decide()
    stop_http_server(worker)
    keep_own_gpu(os.environ, str(worker.name), is_amd=IS_AMD)
    end = os.environ.get("CAH_JOB_END")
    if end is not None:
        await worker.plugin_add(plugin=Drain(float(end), float(os.environ["CAH_DRAIN_S"])))
    keep_libraries_quiet()


def dask_teardown(worker: Worker) -> None:
    """Let Dask's threads end unheard: what they say of the end of their process is no news."""
    del worker
    logging.getLogger("distributed").setLevel(logging.CRITICAL)


def keep_libraries_quiet() -> None:
    """Keep from the terminal what nobody can act on.

    Of asyncio that is "Unknown child process pid ...": who stops a decoder that was killed from
    outside may learn of its end before asyncio does, and nothing depends on its exit code.
    """
    for name in ("httpx", "huggingface_hub", "open_clip", "PIL"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def _let_the_driver_decide() -> None:
    """Ignore Ctrl-C, which reaches every process of the terminal.

    A worker that died of it would lose the task that the driver is waiting for.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def keep_own_gpu(environment: MutableMapping[str, str], worker: str, *, is_amd: bool) -> None:
    """Let a worker see one GPU of its job, by its number within the job: ``gpu-3-1`` the second.

    Slurm may set the variables of all vendors. On AMD nodes those of CUDA and HIP count within what
    ROCR leaves, so they go.
    """
    number = worker.split("-")[2:]
    variable = "ROCR_VISIBLE_DEVICES" if is_amd else "CUDA_VISIBLE_DEVICES"
    if not worker.startswith("gpu-") or not number or not environment.get(variable):
        return
    devices = environment[variable].split(",")
    environment[variable] = devices[int(number[0]) % len(devices)]
    if is_amd:
        environment.pop("HIP_VISIBLE_DEVICES", None)
        environment.pop("CUDA_VISIBLE_DEVICES", None)


class Drain(WorkerPlugin):  # type: ignore[misc]  # untyped library
    """Leave before Slurm ends the job: take no new task, finish what runs, go.

    Dask's own ``--lifetime`` interrupts running tasks, which then run twice.

    Parameters
    ----------
    end
        When the job will be ended, in seconds since 1970.
    lead_s
        Seconds before that at which no task is taken any more.
    """

    name = "cah-drain"

    def __init__(self, end: float, lead_s: float) -> None:
        self._end = end
        self._lead_s = lead_s
        self._is_leaving = False

    def setup(self, worker: Worker) -> None:
        """Wait in the background for the time to leave."""
        self._task = asyncio.get_running_loop().create_task(self._leave(worker))

    def teardown(self, worker: Worker) -> None:
        """Forget about it when the worker ends for another reason."""
        del worker
        if not self._is_leaving:
            self._task.cancel()

    async def _leave(self, worker: Worker) -> None:
        await asyncio.sleep(self._end - self._lead_s - time.time())
        logger.info("the job ends in %.0f s: no new tasks", self._end - time.time())
        refuse_new_tasks(worker)
        latest = self._end - LAST_SECONDS_S
        while is_needed(worker) and time.time() < latest:  # noqa: ASYNC110  # Dask has no event
            await asyncio.sleep(POLL_S)
        if is_needed(worker):  # a task is longer than the job: let it count as a failure
            logger.warning("a task outlasts the job and is lost: see `cah doctor`")
            self._is_leaving = True
            await worker.close(nanny=True, reason="walltime")
            return
        await sign_off(worker, f"drain-{time.time()}")
        self._is_leaving = True
        await worker.close(nanny=True, reason="drain")
