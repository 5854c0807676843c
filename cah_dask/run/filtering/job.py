"""What drives a filter over a pool, and what comes of it."""

import contextlib
import hashlib
import shutil
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec

from cah_dask.curate.filters import rules
from cah_dask.curate.filters.file import FilterFile, assets_of, made_from
from cah_dask.curate.filters.whole import Resolution
from cah_dask.curate.pools.pool import Pool
from cah_dask.curate.uid_ranges import as_keys, n_ranges
from cah_dask.errors import ConfigError
from cah_dask.keys import Keys
from cah_dask.run.filtering.tasks import FILTER, KEEP, LOOK, SCAN, SORT, FilterTask, Output
from cah_dask.run.folder.job_folder import Existing, JobFolder
from cah_dask.run.plan import Unit
from cah_dask.run.pools import pools
from cah_dask.run.session import FolderWork, Session, View
from cah_dask.run.settings.config import PoolsOptions
from cah_dask.run.signals import Signals
from cah_dask.run.slurm.options import SlurmOptions
from cah_dask.run.stages import Stage
from cah_dask.run.stagewise import Stagewise
from cah_dask.run.task import Done
from cah_dask.schema import Counts
from cah_dask.storage import disk_errors, file_sha256, read_part


@dataclass(frozen=True)
class FilterJob:
    """A pool, a filter, and what is to be left."""

    pool: Pool
    file: FilterFile
    """As `file.located` returned it."""
    output: Output
    scratch: Path
    """The folder within which it keeps what is done."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Names of columns in the pool, by ours."""

    def __post_init__(self) -> None:
        rules.require_columns(made_from(self.file), self.pool)

    @cached_property
    def lists(self) -> dict[str, str]:
        """SHA-256 of the lists that the filter reads, by their paths.

        Raises
        ------
        ConfigError
            If one cannot be read.
        """
        names = {name for leaf in made_from(self.file).leaves() for name in leaf.files}
        try:
            return {name: file_sha256(Path(name)) for name in sorted(names)}
        except OSError as error:
            raise ConfigError(f"list {error.filename} cannot be read: {error.strerror}") from error

    @property
    def assets(self) -> dict[str, str]:
        """SHA-256 of the assets, by their names."""
        return {name: asset.sha256 for name, (asset, _) in assets_of(self.file).items()}

    @cached_property
    def name(self) -> str:
        """What another pool, filter or output does not have."""
        chosen = (self.pool.fingerprint, made_from(self.file).source, self.lists, self.assets)
        return hashlib.sha256(msgspec.json.encode((chosen, self.output))).hexdigest()[:16]

    @cached_property
    def folder(self) -> JobFolder:
        """Where it keeps what is done."""
        return JobFolder(self.scratch / self.name, FILTER)

    @cached_property
    def ranges(self) -> int:
        """In how many ranges uids are sorted."""
        return n_ranges(self.pool.most_rows)

    @property
    def sizes(self) -> dict[Stage, int]:
        """How many units each stage has."""
        units = len(self.pool.units)
        n_scans = units if made_from(self.file).whole else 0
        ranges = self.ranges if self.output == "uids" else 0
        return {SCAN: n_scans, LOOK: n_scans, KEEP: units, SORT: ranges}

    def part(self, stage: Stage, number: int) -> Path:
        """Return the part of a unit."""
        unit = Unit(stage, bucket=number) if stage is SORT else Unit(stage, number=number)
        return self.folder.path / unit.part

    @cached_property
    def scanned(self) -> Resolution:
        """What counting all scores tells of thresholds, once that is done."""
        resolution = Resolution(made_from(self.file).whole)
        for number in range(self.sizes[SCAN]):
            resolution.add(read_part(self.part(SCAN, number)))
        resolution.settle()
        return resolution

    @cached_property
    def thresholds(self) -> dict[str, dict[str, float]]:
        """By whole-pool node and group, once all are looked for."""
        resolution = self.scanned
        if any(resolution.open.values()):
            looks = range(self.sizes[LOOK])
            resolution.settle_open(read_part(self.part(LOOK, number)) for number in looks)
        return resolution.thresholds

    def forget(self) -> None:
        """Delete what is done, once all is."""
        shutil.rmtree(self.folder.path)
        with contextlib.suppress(OSError):  # another job may be at work beside it
            self.scratch.rmdir()


class Filtering(FolderWork):
    """The job as its driver sees it (`driver.Work`)."""

    def __init__(self, job: FilterJob, units: Stagewise, view: View) -> None:
        super().__init__(job.folder)
        self._job = job
        self._units = units
        self._view = view

    def task(self, unit: Unit, *, is_last_attempt: bool) -> FilterTask:
        """Return what a worker is told about a unit."""
        job = self._job
        return FilterTask(
            run_dir=str(job.folder.path.resolve()),
            unit=unit,
            config_hash=job.name,
            pool=str(job.pool.path.resolve()),
            columns=dict(job.columns),
            filter=job.file,
            output=job.output,
            units=len(job.pool.units),
            ranges=job.ranges,
            near=job.scanned.open if unit.stage == LOOK else {},
            thresholds=job.thresholds if unit.stage == KEEP else {},
            is_last_attempt=is_last_attempt,
        )

    def done(self, unit: Unit, done: Done) -> None:
        """Write down that a unit is done."""
        commit = self.folder.commit(unit, done)
        self._units.complete(unit, done.receipt)
        self._view.update(commit)

    def given_up(self, unit: Unit, reason: str, attempts: int) -> None:
        """Go on without a unit; nothing comes of the job."""
        self._units.fail(unit, reason)
        self._view.warn(f"{unit.stage} {unit.name} is given up after {attempts} attempts: {reason}")

    def look(self) -> None:
        """Nothing has to be looked at meanwhile."""

    def more(self) -> bool:
        """Nothing comes when all is done."""
        return False


class Ended(msgspec.Struct, frozen=True):
    """How far a job came."""

    counts: Counts
    """Of the rows of the pool."""
    given_up: int
    stopped_by: signal.Signals | None


def carry_out(
    job: FilterJob, options: tuple[PoolsOptions, SlurmOptions], view: View, signals: Signals
) -> Ended:
    """Do all of a job that is left to do; its folder is held by this process.

    Parameters
    ----------
    options
        Of the pools, and of Slurm.

    Raises
    ------
    RunError
        If the pool is not what its filter needs, or a person must look otherwise.
    """
    pool_options, slurm = options
    units = Stagewise(job.sizes, Existing(job.folder))
    session = Session(job.folder, pools(pool_options, slurm.launch, FILTER), slurm)
    work = Filtering(job, units, view)
    with disk_errors(job.folder.path):
        stopped_by = session.carry_out(units, work, view, signals)
    return Ended(units.counts[KEEP], len(units.failed), stopped_by)


def sorted_uids(job: FilterJob) -> Iterator[Keys]:
    """Yield the uids of all kept rows in ascending order, a range at a time."""
    for number in range(job.ranges):
        yield as_keys(read_part(job.part(SORT, number)))
