"""What became of every row of a run, stage by stage: the numbers behind report and data card."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from cah_dask.counts import Counts, CountsSum
from cah_dask.pairs.embed import HISTOGRAM_BINS, LONG_TEXTS
from cah_dask.pairs.select import KEPT_LANGUAGE, SCORED_LANGUAGE
from cah_dask.pairs.timings import WORKER
from cah_dask.release.pool_time import PoolTimes
from cah_dask.release.timeline import Timeline
from cah_dask.schema import SPLITS, Split
from cah_dask.storage import Receipt

LANGUAGES_SHOWN = 40
"""Languages in report and data card, those with the most samples."""


class StageSummary(msgspec.Struct, frozen=True):
    """All finished tasks of one stage together."""

    tasks: int
    counts: Counts
    seconds: float
    """Seconds of work, summed over tasks that may have run side by side."""
    rows: str
    """What its rows are, in words; empty for a stage that is no step of the funnel."""
    peak_mb: int = 0
    """Most memory that a worker took for one of them; 0 if that is not known."""
    timings: dict[str, int] = {}
    """Milliseconds of parts of that work, by what they were for."""
    pools: dict[str, float] = {}
    """Seconds of that work by the pool whose workers did it: a run may get other pools."""

    def share(self, part: str) -> float:
        """Return which share of the time of the workers a part of `timings` took, 0 to 1.

        That time is counted once where a worker had two tasks at once.
        """
        worker = self.timings.get(WORKER, 0)
        return self.timings.get(part, 0) / worker if worker else 0.0


class StageTotal:
    """A `StageSummary` that tasks are still added to."""

    def __init__(self, rows: str) -> None:
        self._rows = rows
        self._tasks = 0
        self._counts = CountsSum()
        self._seconds = 0.0
        self._peak_mb = 0
        self._timings: Counter[str] = Counter()
        self._pools: defaultdict[str, float] = defaultdict(float)

    def add(self, receipt: Receipt, seconds: float, pool: str, peak_mb: int = 0) -> None:
        """Add a task that a worker of a pool has finished."""
        self._tasks += 1
        self._counts.add(receipt.counts)
        self._timings.update(receipt.timings)
        self._seconds += seconds
        self._pools[pool] += seconds
        self._peak_mb = max(self._peak_mb, peak_mb)

    @property
    def summary(self) -> StageSummary:
        """All tasks so far."""
        counts = self._counts.total
        timings = dict(sorted(self._timings.items()))
        return StageSummary(
            self._tasks,
            counts,
            self._seconds,
            self._rows,
            self._peak_mb,
            timings,
            dict(sorted(self._pools.items())),
        )


class ReportOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a report says beside the facts of the run."""

    prices: dict[Literal["cpu", "gpu", "io"], Annotated[float, msgspec.Meta(ge=0, le=1e9)]] = {}
    """Price of an hour of one worker process of each pool, such as `{cpu: 0.04, gpu: 2.5}`, with a
    task or without: of a Slurm pool, that of an hour of a job divided by its `processes`."""
    currency: str = ""
    """What they are counted in."""


class Summary(msgspec.Struct, frozen=True):
    """One run so far."""

    stages: dict[str, StageSummary]
    """By name, in the order of the data; a stage without a finished task is there with zeros."""
    archives: list[str]
    """Names of the inputs, as the column `archive` has them."""
    lost: list[str]
    """What could not be read of the inputs, and why."""
    started: datetime | None
    finished: datetime | None
    """Time of the first and of the last commit."""
    versions: dict[str, str]
    settings: dict[str, object]
    """Every setting of the run by dotted key."""
    encoder: str
    """Name of the one that decides what is kept."""
    thresholds: dict[Split, float]
    selected: list[str]
    """Paths of the selected parts, in canonical order, relative to the run folder."""
    cut: dict[str, int] = {}
    """By stage, inputs that were to be had and could not be read whole."""
    is_finished: bool = True
    """Whether all that it shall pack is packed."""
    lists: list[str] = []
    """Names of some fetch lists, drawn from all that are downloaded or embedded."""
    timeline: Timeline | None = None
    pools: dict[str, str] = {}
    """By stage, the pool whose workers did most of it, or would do it."""
    held: PoolTimes | None = None
    """For how long it held their workers; None if nobody wrote that down."""
    stands_out: list[str] = []
    """What went wrong or held the run back, and what to change, in words."""
    are_pools_judged: bool = False
    """Whether it was known for long enough how busy pools were to say which waited for which."""
    hosts: dict[str, dict[str, int]] = {}
    """What became of urls of the hosts with the most trouble, by status; the worst first."""
    options: ReportOptions = ReportOptions()
    rules: dict[str, dict[str, dict[str, float | None]]] = {}
    """By name of the rule and of the score: limits of the scores of rows that it drops."""
    keeps_images: bool = True
    """Whether the run keeps images that are embedded."""

    @property
    def n_archives(self) -> int:
        """How many archives are extracted; one that was lost and came later counts once."""
        return min(self.stages["extract"].tasks, len(self.archives))

    def counts(self, stage: str) -> Counts:
        """Return the counts of one stage."""
        return self.stages[stage].counts


class FunnelStep(msgspec.Struct, frozen=True):
    """One narrowing of the funnel, in rows of its own unit."""

    stage: str
    unit: str
    seen: int
    kept: int
    rejected: dict[str, int]


def funnel(summary: Summary) -> list[FunnelStep]:
    """Return seen, kept and rejected of each stage; most frequent reasons first."""
    steps = []
    for name, stage in summary.stages.items():
        if not stage.rows:
            continue
        counts = stage.counts
        rejected = most_first(counts.rejected)
        steps.append(FunnelStep(name, stage.rows, counts.seen, counts.kept, rejected))
    return steps


def most_first(numbers: Mapping[str, int]) -> dict[str, int]:
    """Return the same, the largest number first."""
    return dict(sorted(numbers.items(), key=lambda item: (-item[1], item[0])))


class LanguageRow(msgspec.Struct, frozen=True):
    """What became of the scored samples of one language of one split."""

    split: str
    lang: str
    scored: int
    kept: int


def by_language(summary: Summary) -> list[LanguageRow]:
    """Return all languages, those with the most samples first."""
    notes = summary.counts("select").notes
    rows = []
    for key, scored in notes.items():
        kind, _, group = key.partition("/")
        if kind == SCORED_LANGUAGE:
            split, _, lang = group.partition("/")
            rows.append(LanguageRow(split, lang, scored, notes.get(f"{KEPT_LANGUAGE}/{group}", 0)))
    return sorted(rows, key=lambda row: (-row.scored, row.split, row.lang))


def long_texts(summary: Summary) -> int:
    """Return how many texts were longer than the context of the tower that decides."""
    notes = summary.counts("embed").notes
    return sum(notes.get(f"{LONG_TEXTS}/{summary.encoder}/{split}", 0) for split in SPLITS)


def left_edge(index: int) -> float:
    """Return the similarity at the left edge of a bin, as the decimal that it stands for."""
    return round(-1 + 2 * index / HISTOGRAM_BINS, 6)


def similarity_histogram(summary: Summary) -> dict[Split, dict[int, int]]:
    """Return how many samples of each split fell into each bin of the similarity that decides."""
    return histogram_of(summary.counts("embed"), summary.encoder)


def histogram_of(embedded: Counts, encoder: str) -> dict[Split, dict[int, int]]:
    """Return how many embedded samples of each split fell into each bin of their similarity."""
    bins: dict[Split, dict[int, int]] = {split: {} for split in SPLITS}
    for key, count in embedded.notes.items():
        if key.startswith(f"similarity/{encoder}/"):
            split, index = key.split("/")[2:]
            bins[split][int(index)] = count  # type: ignore[index]  # written by embed from SPLITS
    return {split: found for split, found in bins.items() if found}
