"""Decide what to do about the jobs of all pools, from one look at the queue. No machine here.

Slurm says which jobs exist, the scheduler says which workers are there and busy, the driver says
how many tasks each pool could run. `Reconciler.look` compares; what follows are orders for others
to carry out. Nothing is adopted: a job of this run that we do not know is cancelled.
"""

import logging
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from cah_dask.errors import RunError
from cah_dask.run.pools import Pool
from cah_dask.run.slurm.answers import Queued
from cah_dask.run.slurm.options import SlurmOptions
from cah_dask.run.watch.figures import PoolFigures

logger = logging.getLogger(__name__)

LONGEST_WAIT_S = 300.0
"""Seconds between two attempts at a pool whose jobs are refused or fail at once."""

RATE_WINDOW_S = 60.0

LOOKS_UNSEEN = 2
"""Looks at the queue in a row that must not show a job without workers before it is gone."""

LONG_S = 600.0
"""Seconds after which a person is told why a pool's jobs do not start."""


class Job:
    """One worker job of ours."""

    __slots__ = (
        "idle_since", "is_listed", "job_id", "left_s", "lonely_since", "n_unseen", "name", "pool",
        "reason", "since", "state",
    )  # fmt: skip

    def __init__(self, name: str, pool: Pool, job_id: str, since: float) -> None:
        self.name = name
        self.pool = pool
        self.job_id = job_id
        self.since = since
        self.is_listed = False
        self.n_unseen = 0
        self.state = "PD"
        self.reason = ""
        self.left_s: float | None = None
        self.lonely_since: float | None = None
        self.idle_since: float | None = None


class Orders(msgspec.Struct):
    """What is to be done now; jobs are named, strays have only their ids."""

    gone: list[str] = []
    no_show: list[str] = []
    cancel: list[str] = []
    retire: list[str] = []
    strays: list[str] = []


class _BackOff:
    """How often in a row something failed, and when to try it again."""

    __slots__ = ("next_try", "times")

    def __init__(self) -> None:
        self.times = 0
        self.next_try = 0.0

    def fail(self, now: float, least_s: float) -> float:
        """Learn of a failure, counted once for all that were tried together; return the wait."""
        if now >= self.next_try:
            self.times += 1
            self.next_try = now + min(LONGEST_WAIT_S, max(least_s, 2.0**self.times))
        return self.next_try - now


class Reconciler:
    """The jobs of one run and what should become of them; times are seconds of one clock."""

    def __init__(self, pools: Iterable[Pool], options: SlurmOptions) -> None:
        self._pools = [pool for pool in pools if pool.job is not None]
        self._options = options
        self._numbers = dict.fromkeys((pool.name for pool in self._pools), 0)
        self._refusals = {pool.name: _BackOff() for pool in self._pools}
        self._false_starts = {pool.name: _BackOff() for pool in self._pools}
        self._surplus_since: dict[str, float | None] = {}
        self._submitted: deque[float] = deque()
        self.demand = dict.fromkeys((pool.name for pool in self._pools), 0)
        self.jobs: dict[str, Job] = {}

    def look(self, queue: Sequence[Queued], workers: Mapping[str, bool], now: float) -> Orders:
        """Learn of the queue and return what is wrong with our jobs.

        Parameters
        ----------
        queue
            The live jobs of this run.
        workers
            For each job that has workers: whether one of them has a task.
        """
        live = {job.job_id: job for job in queue}
        ours = {job.job_id for job in self.jobs.values()}
        orders = Orders(strays=[job.job_id for job in queue if job.job_id not in ours])
        for job in list(self.jobs.values()):
            seen = live.get(job.job_id)
            if seen is None:
                if self._is_gone(job, now, has_workers=job.name in workers):
                    orders.gone.append(job.name)
                    del self.jobs[job.name]
                continue
            self._update(job, seen, workers.get(job.name), now)
            if job.lonely_since is not None and now - job.lonely_since > self._options.no_show_s:
                orders.no_show.append(job.name)
                del self.jobs[job.name]
        for pool in self._pools:
            self._shrink(pool, orders, now)
        return orders

    def drop(self, names: Iterable[str]) -> list[str]:
        """Forget jobs that are to be ended; return those that were there."""
        return [name for name in sorted(names) if self.jobs.pop(name, None) is not None]

    def _is_gone(self, job: Job, now: float, *, has_workers: bool) -> bool:
        """Judge a job that the queue does not show: it may be a little old, or not all of it.

        One with a worker that talks to us is there, whatever Slurm says.
        """
        job.n_unseen = 0 if has_workers else job.n_unseen + 1
        is_old = job.is_listed or now - job.since > 2 * self._options.poll_s
        return is_old and job.n_unseen >= LOOKS_UNSEEN

    def _update(self, job: Job, seen: Queued, is_busy: bool | None, now: float) -> None:  # noqa: FBT001
        job.is_listed, job.n_unseen = True, 0
        job.state, job.left_s, job.reason = seen.state, seen.left_s, seen.reason
        is_lonely = seen.is_running and is_busy is None
        job.lonely_since = (job.lonely_since or now) if is_lonely else None
        job.idle_since = (job.idle_since or now) if is_busy is False else None

    def _shrink(self, pool: Pool, orders: Orders, now: float) -> None:
        """Give back what a pool has not needed for a while: pending jobs first, then idle ones."""
        staying = self._staying(pool)
        surplus = len(staying) - pool.jobs_for(self.demand[pool.name])
        if surplus <= 0:
            self._surplus_since[pool.name] = None
            return
        since = self._surplus_since.get(pool.name)
        self._surplus_since[pool.name] = since = now if since is None else since
        patience = 0.0 if self._is_another_starved(pool) else self._options.idle_s
        if now - since < patience:
            return
        pending = [job for job in reversed(staying) if job.state == "PD"]
        idle = [
            job
            for job in staying
            if job.idle_since is not None and now - job.idle_since >= patience
        ]
        for job in (*pending, *idle)[:surplus]:
            (orders.cancel if job.state == "PD" else orders.retire).append(job.name)
            del self.jobs[job.name]

    def _staying(self, pool: Pool) -> list[Job]:
        """Return the pool's jobs, oldest first, but for those that will end soon."""
        return [
            job
            for job in self.jobs.values()
            if job.pool is pool
            and (job.state == "PD" or job.left_s is None or job.left_s > self._options.drain_s)
        ]

    def _is_another_starved(self, pool: Pool) -> bool:
        """Whether another pool has work and no way to a first job."""
        return any(
            other is not pool
            and self._refusals[other.name].times > 0
            and self.demand[other.name] > 0
            and not self._staying(other)
            for other in self._pools
        )

    def submissions(self, now: float) -> list[tuple[str, Pool]]:
        """Return the names of the jobs to submit now; pools with the fewest jobs come first."""
        while self._submitted and self._submitted[0] <= now - RATE_WINDOW_S:
            self._submitted.popleft()
        room = min(
            self._options.max_jobs - len(self.jobs),
            self._options.submits_per_minute - len(self._submitted),
        )
        have = {pool.name: len(self._staying(pool)) for pool in self._pools}
        chosen: list[tuple[str, Pool]] = []
        while len(chosen) < room:
            lacking = [pool for pool in self._pools if self._lacks(pool, have[pool.name], now)]
            if not lacking:
                break
            pool = min(lacking, key=lambda pool: have[pool.name])
            have[pool.name] += 1
            self._numbers[pool.name] += 1
            self._submitted.append(now)
            chosen.append((f"{pool.name}-{self._numbers[pool.name]}", pool))
            if self._refusals[pool.name].times or self._false_starts[pool.name].times:
                have[pool.name] = pool.max_jobs  # one at a time, until all is well again
        return chosen

    def _lacks(self, pool: Pool, have: int, now: float) -> bool:
        next_try = max(kind[pool.name].next_try for kind in (self._refusals, self._false_starts))
        return have < pool.jobs_for(self.demand[pool.name]) and now >= next_try

    def accepted(self, name: str, pool: Pool, job_id: str, now: float) -> None:
        """Learn that Slurm took a job."""
        self.jobs[name] = Job(name, pool, job_id, now)
        self._refusals[pool.name] = _BackOff()

    def refused(self, pool: Pool, now: float) -> float:
        """Learn that Slurm refused a job; return the seconds until the next attempt."""
        return self._refusals[pool.name].fail(now, self._options.poll_s)

    def stuck(self, now: float) -> dict[str, str]:
        """Return Slurm's reason for each pool that has waited long for a first job to start."""
        found = {}
        for pool in self._pools:
            jobs = self._staying(pool)
            if jobs and all(job.state == "PD" and now - job.since > LONG_S for job in jobs):
                found[pool.name] = jobs[0].reason
        return found

    def pool_figures(self, pool: Pool, n_workers: int) -> PoolFigures:
        """Return how many jobs of a pool there are and ought to be; `n_workers` are connected."""
        jobs = [job for job in self.jobs.values() if job.pool is pool]
        pending = Counter(job.reason for job in jobs if job.state == "PD")
        return PoolFigures(
            name=pool.name,
            stages=tuple(stage.name for stage in pool.stages),
            is_slurm=True,
            most=pool.max_jobs,
            wanted=pool.jobs_for(self.demand[pool.name]),
            pending=pending.total(),
            reasons=dict(pending.most_common()),
            running=len(jobs) - pending.total(),
            workers=n_workers,
            busy=None,
        )

    def arrived(self, pool: Pool) -> None:
        """Learn that a job of the pool has a worker."""
        self._false_starts[pool.name] = _BackOff()

    def false_start(self, pool: Pool, now: float) -> float:
        """Learn that a job ended before it had a worker; return the seconds until the next.

        Raises
        ------
        RunError
            When that happened too often in a row: a person must look.
        """
        failures = self._false_starts[pool.name]
        wait = failures.fail(now, self._options.poll_s)
        if failures.times > self._options.false_starts:
            raise RunError(
                f"{failures.times} times in a row jobs of pool {pool.name} ended before they had "
                "a worker: see jobs/ in the run folder"
            )
        return wait


def job_of(worker: str) -> str:
    """Return the job's name of a worker: ``cpu-3`` of ``cpu-3`` and of ``cpu-3-0``."""
    return "-".join(worker.split("-")[:2])
