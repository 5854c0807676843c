"""The figures of a run from what became of its tasks, as a driver or its files know it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec

from cah_dask.counts import Counts
from cah_dask.release.summary import histogram_of, most_first
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.settings.config import Config
from cah_dask.run.settings.identity import is_of, variants
from cah_dask.run.stages import COMPACT, EMBED, Stage
from cah_dask.run.watch import eta
from cah_dask.run.watch.figures import (
    NOT_DRIVEN,
    Figures,
    HistogramFigures,
    ListsFigures,
    PairFigures,
    PoolFigures,
    StagedFigures,
    StageFigures,
)
from cah_dask.run.watch.history import History
from cah_dask.run.watch.verdict import judged
from cah_dask.schema import Split

T = TypeVar("T")


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What of a run does not change while it is watched."""

    folder: RunFolder
    stages: tuple[Stage, ...]
    encoder: str
    """Name of the one that decides what is kept."""
    thresholds: Mapping[Split, float]
    staged_bound: int
    """Bytes."""
    buckets: int
    shows_pairs: bool
    """Whether no rules drop pairs, which may be there for what a picture shows."""
    variants: Mapping[str, str]
    """For stages whose units may be of several selections: the one that is watched."""

    def is_about(self, stage: str, unit: str) -> bool:
        """Tell whether a unit belongs to what is watched."""
        return is_of(self.variants, stage, unit)


def facts(config: Config, folder: RunFolder) -> Facts:
    """Return the facts of a run that was told `config`."""
    return Facts(
        folder=folder,
        stages=tuple(stage for stage in folder.stages if config.compact or stage != COMPACT),
        encoder=config.select.encoder or "",  # preflight names it
        thresholds=config.select.thresholds,
        staged_bound=int(config.staged_gb * 1e9),
        buckets=config.dedup.buckets,
        shows_pairs=not config.select.drop,
        variants=variants(config),
    )


class Tasks(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of a run by the name of their stage, and what became of their rows."""

    known: Mapping[str, int]
    done: Mapping[str, int]
    counts: Mapping[str, Counts]
    running: Mapping[str, int] = {}
    failed: Mapping[str, int] = {}
    blocked: Mapping[str, int] = {}
    """Those that will not be done: `failed`, and what needs them."""
    can_start: Mapping[str, int] = {}


def by_name(values: Mapping[Stage, T]) -> dict[str, T]:
    """Return values of stages by their names."""
    return {stage.name: value for stage, value in values.items()}


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run beside its tasks."""

    state: str
    staged: int
    """Bytes of images that wait to be embedded."""
    at_work: ListsFigures = ListsFigures()
    pools: Sequence[PoolFigures] = ()
    pairs: Sequence[PairFigures] = ()
    workers_given_up: Sequence[str] = ()


def figures(known: Facts, tasks: Tasks, history: History, beside: Beside, now: datetime) -> Figures:
    """Return the figures of a run, verdict and time left included."""
    stages = [stage_figures(stage, tasks, history, now) for stage in known.stages]
    made = Figures(
        at=now,
        run=known.folder.name,
        state=beside.state,
        started=history.started,
        last_commit=history.last_commit,
        verdict=[],
        left_s=None
        if beside.state == NOT_DRIVEN
        else eta.left_s({stage.name: stage for stage in stages}, tasks.blocked),
        stages=stages,
        pools=list(beside.pools),
        at_work=beside.at_work,
        staged=StagedFigures(n_bytes=beside.staged, bound=known.staged_bound),
        model=history.model(),
        recent_outcomes=history.recent_outcomes(now),
        moments=history.moments(),
        histograms=_histograms(known, tasks.counts.get(EMBED.name, Counts())),
        hosts=history.hosts(),
        recent_hosts=[
            host for host in history.recent_hosts(now) if not known.folder.has_opted_out(host.host)
        ],
        pairs=list(beside.pairs),
        workers_given_up=list(beside.workers_given_up),
        can_start=dict(tasks.can_start),
    )
    return judged(made)


def stage_figures(stage: Stage, tasks: Tasks, history: History, now: datetime) -> StageFigures:
    """Return the figures of one stage."""
    name = stage.name
    known, done = tasks.known.get(name, 0), tasks.done.get(name, 0)
    running, failed = tasks.running.get(name, 0), tasks.failed.get(name, 0)
    counts = tasks.counts.get(name, Counts())
    left = known - done
    to_do = max(0, left - max(failed, tasks.blocked.get(name, 0)))
    until = now if to_do else history.ended(name) or now
    lately = history.tasks_per_s(name, until)
    half, mean = history.steady_rates(name, until)
    seconds = history.task_seconds(name)
    task_s = sum(seconds) / max(1, len(seconds))
    at_once = max(1.0, (half or mean) * task_s)
    return StageFigures(
        name=name,
        rows=stage.rows,
        known=known,
        done=done,
        running=running,
        waiting=max(0, left - running - failed),
        failed=failed,
        seen=counts.seen,
        kept=counts.kept,
        rejected=most_first(counts.rejected),
        rows_per_s=history.rows_per_s(name, until),
        tasks_per_s=half,
        mean_tasks_per_s=mean,
        task_s=task_s,
        tail_s=eta.tail_s(seconds, min(at_once, to_do or at_once)),
        left_s=to_do / lately if lately else 0.0 if known and not to_do else None,
    )


def _histograms(known: Facts, embedded: Counts) -> list[HistogramFigures]:
    return [
        HistogramFigures(split=split, threshold=known.thresholds.get(split), bins=bins)
        for split, bins in histogram_of(embedded, known.encoder).items()
    ]
