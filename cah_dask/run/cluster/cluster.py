"""One Dask cluster for all pools: a scheduler in the driver's process, local and Slurm workers.

The stock ``SLURMCluster`` knows one kind of worker, never replaces a job that was refused,
cancelled while pending or held several processes, and blocks while sbatch waits on a full queue.
Here a loop compares what should be with one look at the queue (`reconcile` decides), at
intervals and as soon as the scheduler loses a worker.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path

from distributed import Status
from distributed.utils import get_ip, get_ip_interface

from cah_dask.errors import ConfigError, RetryableError, RunError
from cah_dask.run.cluster.access import Access, Dashboard, dashboard
from cah_dask.run.cluster.gate import gated_scheduler
from cah_dask.run.cluster.jobs import Batch, Launcher, PoolJob, Steps, job_options
from cah_dask.run.cluster.local import local_workers
from cah_dask.run.cluster.private_parts import WatchedCluster
from cah_dask.run.cluster.reconcile import Reconciler, job_of
from cah_dask.run.pools import Pool
from cah_dask.run.slurm.options import SlurmOptions
from cah_dask.run.watch.figures import PoolFigures

logger = logging.getLogger(__name__)

EARLIEST_LOOK_S = 5.0
"""Seconds between two looks at the queue when workers were lost; else it is `slurm.poll_s`."""

NODES_GIVEN_UP = 8
"""Nodes at the most that jobs are kept away from, the last ones: a partition may have few."""

TELL_AGAIN_S = 600.0
"""Seconds between two warnings of the same words."""

STARTS = 3
"""Attempts at starting the local workers, one of which may be killed before it is up."""


@contextlib.asynccontextmanager
async def started(make: Callable[[], "Cluster"]) -> AsyncIterator["Cluster"]:
    """Yield a cluster whose scheduler and local workers are up.

    Raises
    ------
    RunError
        If they do not start, again and again.
    """
    for attempt in range(1, STARTS + 1):
        cluster = make()
        try:
            await cluster
        except RuntimeError as error:  # Dask gives the reason in its log only
            with contextlib.suppress(Exception):
                await cluster.close()
            logger.warning("local workers do not start: %s", error)
            if attempt == STARTS:
                raise RunError(
                    f"local workers did not start, {STARTS} times: is there memory for them? "
                    "logs/driver.log may say more"
                ) from error
        else:
            break
    async with cluster:
        yield cluster


LEAVE_S = 8.0
"""Seconds that workers get to end by themselves at the end of a run, and their jobs with them."""


class Cluster(WatchedCluster):
    """The workers of all pools; use as an async context manager.

    Parameters
    ----------
    warn
        Told, in one line, what a person may want to know of: refused jobs, a silent Slurm.
    """

    def __init__(
        self,
        pools: Sequence[Pool],
        options: SlurmOptions,
        run_dir: Path,
        access: Access,
        warn: Callable[[str], None],
    ) -> None:
        self._run_dir = run_dir
        self._access = access
        self._options = options
        self._warn = warn
        self._pools = {pool.name: pool for pool in pools}
        self._reconciler = Reconciler(pools, options)
        self._launcher = self._make_launcher()
        self._loop_task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()
        self._told: dict[str, float] = {}
        self._arrived: set[str] = set()
        self._given_up: set[str] = set()
        self._nodes_given_up: tuple[str, ...] = ()
        is_remote = any(pool.job is not None for pool in pools)
        super().__init__(
            workers=local_workers(pools, run_dir, access),
            scheduler={
                "cls": gated_scheduler,
                "options": {
                    "token": access.token,
                    "host": _address(options.interfaces) if is_remote else "127.0.0.1",
                    "protocol": "tls",
                    "security": access.security(),
                    "dashboard": True,
                    "dashboard_address": "127.0.0.1:0",
                },
            },
            security=access.security(),
            asynchronous=True,
            silence_logs=False,
        )

    def slots(self, pool: Pool) -> int:
        """Return how many tasks of a pool can run now."""
        if pool.job is None:
            return pool.workers * pool.tasks_at_once
        return pool.tasks_at_once * sum(
            1
            for worker in self.scheduler.workers.values()
            if worker.status is Status.running and pool_of(str(worker.name)) == pool.name
        )

    def pool_figures(self, pool: Pool) -> PoolFigures:
        """Return how many workers there are and ought to be of one pool."""
        n_workers = sum(
            pool_of(str(worker.name)) == pool.name for worker in self.scheduler.workers.values()
        )
        if pool.job is not None:
            return self._reconciler.pool_figures(pool, n_workers)
        return PoolFigures(
            name=pool.name,
            stages=tuple(stage.name for stage in pool.stages),
            is_slurm=False,
            most=pool.workers,
            wanted=pool.workers,
            pending=0,
            reasons={},
            running=n_workers,
            workers=n_workers,
            busy=None,
        )

    def give_up(self, pool: Pool, place: str) -> None:
        """End the job of a worker that only fails, and start no other one on its node."""
        if pool.job is not None:
            node, _, worker = place.rpartition("/")
            self._nodes_given_up = (*self._nodes_given_up, node)[-NODES_GIVEN_UP:]
            self._given_up.add(job_of(worker))
            self._wake.set()

    def ask(self, pool: Pool, n_tasks: int) -> None:
        """Say how many tasks a pool could run at once, those that run included."""
        if pool.job is None:
            return
        self._reconciler.demand[pool.name] = n_tasks
        if self._loop_task is not None and self._loop_task.done():
            self._loop_task.result()  # it ends only by a fault of ours: show it

    @property
    def way(self) -> Dashboard:
        """The way to the dashboard."""
        return dashboard(self.scheduler.http_server.port, self._access, self._options.login)

    def _make_launcher(self) -> Launcher:
        if self._options.launch == "srun":
            return Steps(self._run_dir, self._pools)
        return Batch(self._run_dir, self._options)

    async def begin(self) -> None:
        """Begin to look at the queue."""
        if self._loop_task is None and any(pool.job for pool in self._pools.values()):
            self._loop_task = asyncio.create_task(self._keep_right())

    async def _keep_right(self) -> None:
        """Look at the queue at intervals until the cluster closes; failures change nothing."""
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                await self._tick()
            except RetryableError as error:
                self._report(f"Slurm does not answer: {error}")
            await self._rest()

    async def _rest(self) -> None:
        least = min(EARLIEST_LOOK_S, self._options.poll_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), least)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), self._options.poll_s - least)

    async def _tick(self) -> None:
        queue = await self._launcher.queue()
        orders = self._reconciler.look(queue, self._busy(), time.monotonic())
        for name in orders.gone:
            logger.info("job %s (%s) is gone", name, self.workers[name].job_id)
        self._note_false_starts([*orders.gone, *orders.no_show])
        orders.cancel += orders.no_show
        ids = [self.workers[name].job_id for name in orders.cancel] + orders.strays
        orders.retire += self._reconciler.drop(self._given_up)
        self._given_up.clear()
        for name in orders.retire:
            ids.append(self.workers[name].job_id)
            await self._retire(name)
        self._forget([*orders.gone, *orders.cancel, *orders.retire])
        await self._launcher.cancel(ids)
        for pool, reason in self._reconciler.stuck(time.monotonic()).items():
            self._report(f"no job of pool {pool} has started yet; Slurm says: {reason}")
        await self._submit()

    def _note_false_starts(self, ended: Sequence[str]) -> None:
        """Slow down where jobs end before they have a worker, and show what they said."""
        for name in set(ended) - self._arrived:
            pool = self._pools[pool_of(name)]
            said = self._launcher.last_words(name, self.workers[name].job_id)
            wait = self._reconciler.false_start(pool, time.monotonic())
            self._report(f"a job of pool {pool.name} had no worker; {said}", wait)

    def _busy(self) -> dict[str, bool]:
        """Return, for each job that has workers, whether one of them has a task."""
        busy: dict[str, bool] = {}
        for worker in self.scheduler.workers.values():
            name = job_of(str(worker.name))
            busy[name] = busy.get(name, False) or bool(worker.processing)
        return busy

    async def _retire(self, job: str) -> None:
        """Let the workers of a job go; a task that came in the last moment runs elsewhere."""
        names = [
            str(worker.name)
            for worker in self.scheduler.workers.values()
            if job_of(str(worker.name)) == job
        ]
        await self.scheduler.retire_workers(names=names, close_workers=True, remove=True)

    def _forget(self, names: Sequence[str]) -> None:
        for name in names:
            self.worker_spec.pop(name, None)
            job = self.workers.pop(name, None)
            if job is not None:
                job.status = Status.closed
            self._arrived.discard(name)

    async def _submit(self) -> None:
        chosen = self._reconciler.submissions(time.monotonic())
        for name, pool in chosen:
            options = job_options(
                name, pool, self._options, self._run_dir, self._access, self._nodes_given_up
            )
            options["launcher"] = self._launcher
            self.worker_spec[name] = {"cls": PoolJob, "options": options}
        refusal: RetryableError | None = None
        try:
            await self.start_missing()
        except RetryableError as error:
            refusal = error
        for name, pool in chosen:
            job = self.workers[name]
            if job.status is Status.running:
                self._reconciler.accepted(name, pool, job.job_id, time.monotonic())
                continue
            self._forget([name])
            wait = self._reconciler.refused(pool, time.monotonic())
            self._report(f"Slurm refused a job of pool {pool.name}: {refusal}", wait)

    def _report(self, trouble: str, wait_s: float | None = None) -> None:
        """Tell a person, but the same thing no more than once in a while; the log has it all."""
        again = f"; next try in {wait_s:.0f} s" if wait_s is not None else ""
        logger.warning("%s%s", trouble, again)
        now = time.monotonic()
        if now - self._told.get(trouble, -TELL_AGAIN_S) >= TELL_AGAIN_S:
            self._told[trouble] = now
            self._warn(trouble + again)

    def left(self) -> None:
        """Look at the queue when a worker is lost."""
        self._wake.set()

    def came(self, workers: Iterable[str]) -> None:
        """Note which jobs have a worker."""
        for job in map(job_of, workers):
            pool = self._pools[pool_of(job)]
            if pool.job is not None:
                self._arrived.add(job)
                self._reconciler.arrived(pool)

    async def end(self) -> None:
        """End all jobs of the run, also those that a killed sbatch got through after all.

        The tick in flight is waited for: a cancelled one would leave jobs behind.
        """
        self._stopping.set()
        self._wake.set()
        if self._loop_task is not None:
            await asyncio.wait([self._loop_task])  # `ask` shows its error
            self._loop_task = None
            await self._dismiss()
            self._forget([name for name, job in self.workers.items() if isinstance(job, PoolJob)])
            await self._sweep()

    async def _dismiss(self) -> None:
        """Let the workers of jobs leave, so that their jobs end well and not by `scancel`."""
        names = [str(worker.name) for worker in self.scheduler.workers.values()]
        names = [name for name in names if self._pools[pool_of(name)].job is not None]
        ids = {self.workers[job].job_id for job in map(job_of, names) if job in self.workers}
        if not ids:
            return
        with contextlib.suppress(TimeoutError, RetryableError):
            async with asyncio.timeout(LEAVE_S):
                await self.scheduler.retire_workers(names=names, close_workers=True, remove=True)
                while ids & {job.job_id for job in await self._launcher.queue()}:  # noqa: ASYNC110
                    await asyncio.sleep(0.5)  # Slurm tells nobody when a job ends

    async def _sweep(self) -> None:
        with contextlib.suppress(RetryableError):
            await self._launcher.cancel([job.job_id for job in await self._launcher.queue()])


def pool_of(worker: str) -> str:
    """Return the name of the pool of a worker, or of a job."""
    return worker.partition("-")[0]


def _address(interfaces: Sequence[str]) -> str:
    """Return the IPv4 address of the first interface that this machine has."""
    if not interfaces:
        address = str(get_ip())
        if address.startswith("127."):
            there = ", ".join(name for _, name in socket.if_nameindex())
            raise ConfigError(
                f"this node finds only {address} for itself, where other nodes cannot reach it; "
                f"name a network in slurm.interfaces (here are {there})"
            )
        return address
    for name in interfaces:
        with contextlib.suppress(ValueError):
            return str(get_ip_interface(name))
    there = ", ".join(name for _, name in socket.if_nameindex())
    raise ConfigError(f"slurm.interfaces: none of {', '.join(interfaces)} is here, but {there}")
