"""Dask's workers as the driver knows them: `run.driver.Machine` over a `Cluster`."""

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec
from distributed import Client, Future, KilledWorker, Scheduler, performance_report

from cah_dask.run.cluster.access import Dashboard, grant
from cah_dask.run.cluster.cluster import Cluster, pool_of, started
from cah_dask.run.cluster.page.shown import PAGE, shown
from cah_dask.run.cluster.run_here import run_here
from cah_dask.run.cluster.settings import dask_settings
from cah_dask.run.pools import Pool
from cah_dask.run.slurm.options import SlurmOptions
from cah_dask.run.task import Done, Failed, Task
from cah_dask.run.watch.figures import PoolFigures
from cah_dask.run.watch.live import Watch

LOOK_S = 1.0
"""Seconds between two looks whether workers that a task is bound to are still there."""


class DaskMachine:
    """Workers of all pools; made by `opened`."""

    def __init__(self, cluster: Cluster, client: Client) -> None:
        self._cluster = cluster
        self._client = client
        self._first_page = "status"

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler, which lives in this process."""
        return self._cluster.scheduler

    @property
    def dashboard(self) -> Dashboard:
        """The way to the dashboard."""
        return msgspec.structs.replace(self._cluster.way, page=self._first_page)

    @contextlib.asynccontextmanager
    async def shows(self, watch: Watch) -> AsyncIterator[None]:
        """Have the dashboard show figures, on a page of their own and for programs."""
        async with shown(self.scheduler, watch):
            self._first_page = PAGE
            yield

    def pool_figures(self, pool: Pool) -> PoolFigures:
        """Return how many workers there are and ought to be of one pool."""
        return self._cluster.pool_figures(pool)

    def slots(self, pool: Pool) -> int:
        """Return how many tasks of a pool can run now."""
        return self._cluster.slots(pool)

    def ask(self, pool: Pool, n_tasks: int) -> None:
        """Say how many tasks a pool could run at once, those that run included."""
        self._cluster.ask(pool, n_tasks)

    def give_up(self, pool: Pool, worker: str) -> None:
        """End the job of a worker that only fails, and start no other one on its node."""
        self._cluster.give_up(pool, worker)

    async def submit(
        self, pool: Pool, task: Task, *, priority: int, avoided: AbstractSet[str]
    ) -> Done | Failed:
        """Have one of the workers of a pool do a task; they may all go meanwhile.

        Tasks that ask for a resource are never queued by the scheduler: with the bounded window of
        the driver that is all the back-pressure there is.
        """
        result = None
        while result is None:
            workers = self._elsewhere(pool, avoided)
            future = self._client.submit(
                run_here,
                task,
                key=f"{task.unit.stage}-{task.unit.name}-{uuid.uuid4().hex[:8]}",
                workers=workers,
                resources=pool.needed,
                priority=priority,
                pure=False,
            )
            try:
                result = await self._result(future, workers)
            except KilledWorker as error:
                result = Failed(f"its workers died: {error}")
            finally:
                future.release()
        return result

    async def _result(self, future: Future, workers: list[str] | None) -> Done | Failed | None:
        """Wait for a task; None if none of the `workers` is left that may run it."""
        result = asyncio.ensure_future(future.result())
        try:
            while not result.done():
                await asyncio.wait({result}, timeout=None if workers is None else LOOK_S)
                if workers is not None and not self._has_any(workers):
                    break
            return result.result() if result.done() else None
        finally:
            result.cancel()

    def _elsewhere(self, pool: Pool, avoided: AbstractSet[str]) -> list[str] | None:
        """Return the workers of a pool that are neither `avoided` nor on a node with one that is.

        If there are none, those on the same nodes; None, which means any, if nothing is left. Who
        is avoided is told as `run_here.worker_name` does, who is returned as Dask knows them.
        """
        if not avoided:
            return None
        host_of = {str(worker.name): worker.host for worker in self.scheduler.workers.values()}
        names = {place.rpartition("/")[2] for place in avoided}
        hosts = {host_of[name] for name in names if name in host_of}
        others = [n for n in host_of if pool_of(n) == pool.name and n not in names]
        return [name for name in others if host_of[name] not in hosts] or others or None

    def _has_any(self, names: Sequence[str]) -> bool:
        """Tell whether one of some workers is still connected."""
        return any(str(worker.name) in names for worker in self.scheduler.workers.values())


@contextlib.asynccontextmanager
async def opened(
    pools: Sequence[Pool],
    options: SlurmOptions,
    folder: Path,
    secrets: Path,
    warn: Callable[[str], None],
    performance: Path | None = None,
) -> AsyncIterator[DaskMachine]:
    """Yield the machine of a job whose folder and secrets lie where they are said to.

    Parameters
    ----------
    performance
        Where Dask's performance report goes at the end, if anywhere.

    Raises
    ------
    RunError
        If local workers do not start.
    """

    def make() -> Cluster:
        return Cluster(pools, options, folder, grant(secrets), warn=warn)

    with dask_settings():
        async with (
            started(make) as cluster,
            Client(cluster, asynchronous=True) as client,
            _reported(performance, warn),
        ):
            yield DaskMachine(cluster, client)


@contextlib.asynccontextmanager
async def _reported(path: Path | None, warn: Callable[[str], None]) -> AsyncIterator[None]:
    """Have Dask write its performance report of the block, one page that needs nothing else.

    One that is there stays, and the new one gets a number. What cannot be written stops nothing.
    """
    if path is None:
        yield
        return
    report = performance_report(mode="inline")
    await report.__aenter__()
    try:
        yield
    finally:
        report.filename = str(free_name(path))
        try:
            await report.__aexit__(None, None, None, code="")
        except OSError as error:
            warn(f"performance_report: {path} cannot be written: {error}")


def free_name(path: Path) -> Path:
    """Return a path, or the first one like it with a number, where nothing is yet."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], numbered) if not each.exists())
