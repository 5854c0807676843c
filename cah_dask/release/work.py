"""The work of a run by pool, what was held for it, and what that cost."""

from collections import defaultdict

import msgspec

from cah_dask.pairs.timings import WORKER
from cah_dask.release.pool_time import PoolTime
from cah_dask.release.summary import StageSummary, Summary


class PoolWork(msgspec.Struct, frozen=True):
    """What the workers of one pool did, in hours; None where nobody wrote it down."""

    pool: str
    worked: float
    """In which workers had a task, summed over workers."""
    held: float | None
    """Of workers that ran, with a task or without."""
    jobs: float | None
    """Of Slurm jobs that ran; None also for a pool that had none."""
    pending: float | None
    """Of jobs that waited in Slurm, likewise."""
    gpus: float | None
    """Of the GPUs of those jobs, as far as `gres` names them, and of those that processes on the
    driver's own machine used; None also for a pool that had none."""
    cost: float | None
    """Of what was held, or else of the work; None without a price."""

    @property
    def busy(self) -> float | None:
        """Share of the time of its workers in which they had a task, 0 to 1."""
        return min(1.0, self.worked / self.held) if self.held else None


def worker_hours(stage: StageSummary) -> float:
    """Return for how long workers had tasks of a stage, in hours; two at once count once."""
    milliseconds = stage.timings.get(WORKER)
    return (stage.seconds if milliseconds is None else milliseconds / 1000) / 3600


def held_by_pool(summary: Summary) -> dict[str, PoolTime]:
    """Return for how long each pool was held; empty if that is not known of the whole run."""
    held, started = summary.held, summary.started
    if held is None or (started is not None and started < held.since):
        return {}
    return held.pools


def work_by_pool(summary: Summary) -> list[PoolWork]:
    """Return the work of each pool that had any, or was held for some."""
    worked: defaultdict[str, float] = defaultdict(float)
    for stage in summary.stages.values():
        for pool, seconds in stage.pools.items():
            share = seconds / stage.seconds if stage.seconds else 0.0
            worked[pool] += share * worker_hours(stage)
    held = held_by_pool(summary)
    prices = {str(pool): price for pool, price in summary.options.prices.items()}
    return [
        _work(pool, worked[pool], held.get(pool), prices.get(pool))
        for pool in sorted({*worked, *held})
    ]


def _work(pool: str, worked: float, time: PoolTime | None, price: float | None) -> PoolWork:
    has_jobs = time is not None and time.jobs_s + time.pending_s > 0
    held = None if time is None else time.held_s / 3600
    return PoolWork(
        pool=pool,
        worked=worked,
        held=held,
        jobs=time.jobs_s / 3600 if time is not None and has_jobs else None,
        gpus=time.gpus_s / 3600 if time is not None and time.gpus_s else None,
        pending=time.pending_s / 3600 if time is not None and has_jobs else None,
        cost=None if price is None else price * (worked if held is None else held),
    )
