"""The figures of a run, as page, terminal, `/cah.json` and metrics show them."""

from datetime import datetime

import msgspec

from cah_dask.release.summary import FunnelStep

AT_WORK, PAUSED, PUBLISHED, NOT_DRIVEN = "at work", "paused", "published", "no driver is at work"
PACKED = "all is packed"
"""States of a run."""


class StageFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How far one stage is; its rates are those of now, or of its end if no task of it is left."""

    name: str
    rows: str
    """What its rows are, in words; empty for a stage that is no step of the funnel."""
    known: int
    """Tasks, as far as they are known: lists are, once their bucket is deduplicated."""
    done: int
    running: float
    """Tasks that are handed out, in each pool one more than its workers take at once; 0 where only
    files are known. Of a whole run a mean, as `Figures.can_start` is."""
    waiting: int
    failed: int
    """Tasks that this driver gave up; 0 where only files are known."""
    seen: int
    kept: int
    rejected: dict[str, int]
    """Rows by reason, the most frequent first."""
    rows_per_s: float
    """Over the last minute; over the last 10 or 60 where fewer than 8 tasks ended in it."""
    tasks_per_s: float
    """Over the second half of the time since the first of its tasks began, if 8 ended in it."""
    mean_tasks_per_s: float
    """Over all of that time."""
    task_s: float
    """How long its last tasks took, on average, without pauses; 0 before the first is done."""
    tail_s: float
    """Seconds until the last one of the tasks that are at work ends, as their times tell."""
    left_s: float | None
    """Seconds at work for the tasks known so far, at the rate of the last minute at work, or of the
    last 10 or 60; None while there is no rate."""


class JobFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A job that is no run, at one moment."""

    at: datetime
    stages: list[StageFigures]


class PoolFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The workers of one pool: processes on this machine, or Slurm jobs."""

    name: str
    stages: tuple[str, ...]
    is_slurm: bool
    most: int
    """Jobs, or processes, that it may have: `max_jobs`, or `workers`."""
    wanted: int
    """Jobs, or processes, that there is work for."""
    pending: int
    """Jobs that wait in Slurm."""
    reasons: dict[str, int]
    """Pending jobs by Slurm's reason."""
    running: int
    """Jobs that run, or processes."""
    workers: int
    """Processes that are connected."""
    busy: float | None
    """Share of the time of its workers in which they had a task, over the last 10 minutes, 0 to 1,
    pauses of the downloads excepted; None if there is no such time."""


class ModelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the models of the gpu pool do while their workers have lists; shares of 0 to 1."""

    at_work: float
    waiting_for_pictures: float
    waiting_for_turn: float
    """Lists that are ready while another one has the models."""


class StagedFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Images that wait for the models."""

    n_bytes: int
    bound: int


class ListsFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The fetch lists that are being downloaded, together."""

    lists: int = 0
    urls: int = 0
    done: int = 0
    """Urls of them that have an outcome."""
    again: int = 0
    """Urls of them that failed and are to be asked again."""
    n_bytes: int = 0
    bytes_per_s: float = 0.0
    """Over the time that each was at work so far, added up."""
    hosts: dict[str, int] = {}
    """Urls to go of the hosts with the most of them: those hold their lists back."""


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the urls whose lists were committed in one span of time."""

    at: datetime
    seconds: float
    outcomes: dict[str, int]


class HistogramFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Similarities of the scored samples of one split."""

    split: str
    threshold: float | None
    bins: dict[int, int]
    """Samples by number of the bin; see `pairs.embed.HISTOGRAM_BINS`."""


class HostFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One of the hosts with the most trouble, as receipts name them."""

    host: str
    trouble: int
    """Urls that came to nothing for reasons of the host, at least so many: not every host can be
    kept in mind."""
    outcomes: dict[str, int]
    """Of the urls that were counted, by status."""


class PairFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A pair that was scored lately."""

    url: str
    text: str
    split: str
    similarity: float
    is_kept: bool
    thumbnail: str
    """A data url; empty if the image is gone, and in `/cah.json`."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """A run at one moment. What only the driver knows is empty where it was made from files."""

    at: datetime
    run: str
    """Name of the run folder."""
    state: str
    """`AT_WORK`, `PAUSED`, `PUBLISHED`, `PACKED` (the release is not in the folder) or
    `NOT_DRIVEN`."""
    started: datetime | None
    last_commit: datetime | None
    verdict: list[str]
    """What holds the run back, in words; the first line matters most."""
    left_s: float | None
    """Seconds until its last list is embedded, of those that are not given up; None while that
    cannot be said, and without a driver."""
    stages: list[StageFigures]
    pools: list[PoolFigures]
    at_work: ListsFigures = ListsFigures()
    staged: StagedFigures
    model: ModelFigures
    """Over the last lists."""
    recent_outcomes: dict[str, int]
    """Of the urls whose lists were committed in the last 10 minutes."""
    moments: list[Moment]
    histograms: list[HistogramFigures]
    hosts: list[HostFigures]
    """Those of the whole run."""
    recent_hosts: list[HostFigures]
    """Those of the last 10 minutes, without hosts that are in the file OPTOUT of the run."""
    pairs: list[PairFigures]
    workers_given_up: list[str]
    can_start: dict[str, float]
    """Tasks of each stage that a free worker could take; empty where only files are known."""

    @property
    def is_driven(self) -> bool:
        """Whether a driver is at work."""
        return self.state in (AT_WORK, PAUSED)

    def stage(self, name: str) -> StageFigures | None:
        """Return the figures of a stage, None if the run has none of that name."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def funnel(self) -> list[FunnelStep]:
        """Return the stages that are steps of the funnel."""
        return [
            FunnelStep(stage.name, stage.rows, stage.seen, stage.kept, stage.rejected)
            for stage in self.stages
            if stage.rows
        ]

    def without_thumbnails(self) -> "Figures":
        """Return the same without the pictures of the pairs, which are most of their bytes."""
        pairs = [msgspec.structs.replace(pair, thumbnail="") for pair in self.pairs]
        return msgspec.structs.replace(self, pairs=pairs)
