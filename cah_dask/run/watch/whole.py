"""The figures of a whole run: what was so on average, for the judgements of the verdict."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from cah_dask.pairs.timings import INPUT, MODEL, TURN
from cah_dask.release.pool_time import PoolTime
from cah_dask.release.summary import StageSummary, Summary
from cah_dask.release.work import held_by_pool
from cah_dask.run.pools import Pool
from cah_dask.run.stages import DOWNLOAD, EMBED, EXTRACT
from cah_dask.run.watch.figures import (
    Figures,
    HostFigures,
    ModelFigures,
    PoolFigures,
    StagedFigures,
    StageFigures,
)


class WholeRun(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run so far is judged by."""

    figures: Figures
    """Means over the looks of all drivers while lists were embedded; outcomes and hosts are those
    of all lists."""
    archives: int
    lost: int
    """Archives that gave nothing, as they were not to be had."""
    cut: int
    """Archives that could not be read whole."""
    cut_lists: int
    """Fetch lists whose pictures could not all be read, as the archives they are in are damaged."""
    times: Mapping[str, PoolTime]
    """By pool; empty if they are not known."""


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run beside its summary."""

    now: datetime
    run: str
    state: str
    hosts: Sequence[HostFigures]
    failed: Mapping[str, int]
    """Tasks of each stage that were given up and are not done since."""
    lost: int


def whole_run(summary: Summary, pools: Sequence[Pool], beside: Beside) -> WholeRun:
    """Return what a run is judged by.

    Parameters
    ----------
    pools
        As the run was told; one is left out if it is not known for how long it was held.
    """
    times = held_by_pool(summary)
    download, embed = summary.counts(DOWNLOAD.name), summary.stages[EMBED.name]
    figures = Figures(
        at=beside.now,
        run=beside.run,
        state=beside.state,
        started=summary.started,
        last_commit=summary.finished,
        verdict=[],
        left_s=None,
        stages=[
            _stage(name, stage, times.get(summary.pools.get(name, ""), PoolTime()), beside.failed)
            for name, stage in summary.stages.items()
        ],
        pools=[
            _pool(pool, times[pool.name], summary.pools) for pool in pools if pool.name in times
        ],
        staged=StagedFigures(n_bytes=0, bound=0),
        model=ModelFigures(
            at_work=embed.share(MODEL),
            waiting_for_pictures=embed.share(INPUT),
            waiting_for_turn=embed.share(TURN),
        ),
        recent_outcomes={"ok": download.kept, **download.rejected},
        moments=[],
        histograms=[],
        hosts=list(beside.hosts),
        recent_hosts=list(beside.hosts),
        pairs=[],
        workers_given_up=[],
        can_start={
            stage: _mean(ready_s, time.midst_s)
            for time in times.values()
            for stage, ready_s in time.ready_s.items()
        },
    )
    return WholeRun(
        figures=figures,
        archives=len(summary.archives),
        lost=beside.lost,
        cut=summary.cut.get(EXTRACT.name, 0),
        cut_lists=summary.cut.get(DOWNLOAD.name, 0),
        times=times,
    )


def _mean(number_s: float, seconds: float) -> float:
    """Return how many of something there were on average."""
    return number_s / seconds if seconds else 0.0


def _busy(time: PoolTime) -> float | None:
    """Return the share of its workers that had a task while lists were embedded."""
    return time.busy_s / time.midst_s if time.midst_s else None


def _stage(
    name: str, stage: StageSummary, time: PoolTime, failed: Mapping[str, int]
) -> StageFigures:
    """Return the figures of a stage; its rate is that of its workers while they had tasks."""
    counts, busy = stage.counts, _busy(time)
    rate = stage.tasks / time.midst_s / busy if busy else 0.0
    return StageFigures(
        name=name,
        rows=stage.rows,
        known=stage.tasks,
        done=stage.tasks,
        running=_mean(stage.seconds, time.midst_s),
        waiting=round(_mean(time.ready_s.get(name, 0.0), time.midst_s)),
        failed=failed.get(name, 0),
        seen=counts.seen,
        kept=counts.kept,
        rejected=counts.rejected,
        rows_per_s=0.0,
        tasks_per_s=rate,
        mean_tasks_per_s=rate,
        task_s=stage.seconds / max(1, stage.tasks),
        tail_s=0.0,
        left_s=None,
    )


def _pool(pool: Pool, time: PoolTime, served: Mapping[str, str]) -> PoolFigures:
    """Return the figures of a pool; a stage that another one did is none of its own."""
    is_slurm = pool.job is not None
    workers = _mean(time.midst_workers_s, time.midst_s)
    jobs_of_a_worker = _mean(time.jobs_s if is_slurm else time.held_s, time.connected_s)
    running = round(workers * jobs_of_a_worker)
    return PoolFigures(
        name=pool.name,
        stages=tuple(stage.name for stage in pool.stages if served[stage.name] == pool.name),
        is_slurm=is_slurm,
        most=pool.max_jobs if is_slurm else pool.workers,
        wanted=running,
        pending=round(_mean(time.pending_s, time.looked_s)),
        reasons={},
        running=running,
        workers=round(workers),
        busy=_busy(time),
    )
