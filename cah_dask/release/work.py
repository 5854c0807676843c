"""The work of a run by pool, and what it cost."""

from collections import defaultdict

import msgspec

from cah_dask.pairs.timings import WORKER
from cah_dask.release.summary import StageSummary, Summary


class PoolWork(msgspec.Struct, frozen=True):
    """What the workers of one pool did."""

    pool: str
    hours: float
    """In which workers had a task, summed over workers."""
    cost: float | None
    """None without a price."""


def worker_hours(stage: StageSummary) -> float:
    """Return for how long workers had tasks of a stage, in hours; two at once count once."""
    milliseconds = stage.timings.get(WORKER)
    return (stage.seconds if milliseconds is None else milliseconds / 1000) / 3600


def work_by_pool(summary: Summary) -> list[PoolWork]:
    """Return the work of each pool."""
    hours: defaultdict[str, float] = defaultdict(float)
    for name, stage in summary.stages.items():
        hours[summary.pools.get(name, "cpu")] += worker_hours(stage)
    prices = {str(pool): price for pool, price in summary.options.prices.items()}
    return [
        PoolWork(pool, spent, spent * prices[pool] if pool in prices else None)
        for pool, spent in sorted(hours.items())
    ]
