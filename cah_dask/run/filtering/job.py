"""What drives a filter over a pool, and what comes of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec
import pyarrow as pa

from cah_dask.counts import Counts
from cah_dask.curate.filters import rules
from cah_dask.curate.filters.file import FilterFile, assets_of, made_from
from cah_dask.curate.filters.node import Tools
from cah_dask.curate.filters.whole import Resolution
from cah_dask.curate.pools.pool import Pool
from cah_dask.curate.uid_ranges import as_keys, n_ranges
from cah_dask.errors import ConfigError
from cah_dask.keys import Keys
from cah_dask.release.manifest import Step
from cah_dask.run.derive import PACK, Derivation
from cah_dask.run.filtering.rule import asked_of, limits_of, rule_of
from cah_dask.run.filtering.tasks import FILTER, KEEP, LOOK, SCAN, SORT, FilterTask, Output
from cah_dask.run.folder.job_folder import JobFolder
from cah_dask.run.jobs import Job, name_of
from cah_dask.run.stages import Stage
from cah_dask.run.stagewise import Committed, Size, Stagewise
from cah_dask.run.unit import Unit
from cah_dask.storage import file_sha256, read_part


@dataclass(frozen=True)
class FilterJob(Job):
    """A pool, a filter, and what is to be left."""

    pool: Pool
    file: FilterFile
    """As `file.located` returned it."""
    output: Output
    to: Path
    """Where that goes; of no meaning for mere counts."""
    scratch: Path
    """The folder within which it keeps what is done."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Names of columns in the pool, by ours."""

    def __post_init__(self) -> None:
        made = made_from(self.file)
        rules.require_columns(made, self.pool)
        self._require_outside()
        for leaf in made.leaves():
            if leaf.files:
                leaf.test(Tools())  # or say in a line what is wrong with its lists
        self.derivation  # noqa: B018  # it looks at source and target

    def _require_outside(self) -> None:
        """Raise ConfigError if anything would be written into a pool that is a folder of files."""
        pool = self.pool.path.resolve()
        for option, path in (("--to", self.to), ("--scratch", self.scratch)):
            is_within = pool == path.resolve() or pool in path.resolve().parents
            if self.pool.kind != "run" and pool.is_dir() and is_within:
                raise ConfigError(f"{option} {path} lies in the pool {self.pool.path}; set another")

    @cached_property
    def lists(self) -> dict[str, str]:
        """SHA-256 of the lists that the filter reads, by their paths, in the order of the filter.

        Raises
        ------
        ConfigError
            If one cannot be read.
        """
        leaves = made_from(self.file).leaves()
        names = dict.fromkeys(name for leaf in leaves for name in leaf.files)
        try:
            return {name: file_sha256(Path(name)) for name in names}
        except OSError as error:
            raise ConfigError(f"list {error.filename} cannot be read: {error.strerror}") from error

    @property
    def assets(self) -> dict[str, str]:
        """SHA-256 of the assets, by their names."""
        return {name: asset.sha256 for name, (asset, _) in assets_of(self.file).items()}

    @cached_property
    def name(self) -> str:
        """What another pool, filter or output does not have."""
        return name_of(self.pool.fingerprint, asked_of(self), self.output)

    @cached_property
    def folder(self) -> JobFolder:
        """Where it keeps what is done."""
        stages = (*FILTER, PACK) if self.output == "rows" else FILTER
        return JobFolder(self.scratch / self.name, stages)

    @cached_property
    def ranges(self) -> int:
        """In how many ranges uids are sorted."""
        return n_ranges(self.pool.most_rows)

    def plan(self, committed: Committed) -> Stagewise:
        """Return its units."""
        return Stagewise(self._sizes, committed)

    @property
    def _sizes(self) -> dict[Stage, Size]:
        units = len(self.pool.units)
        sizes: dict[Stage, Size] = {KEEP: units}
        if made_from(self.file).whole:
            sizes = {SCAN: units, LOOK: lambda: units if self.is_open else 0, KEEP: units}
        if self.output == "uids":
            return sizes | {SORT: self.ranges}
        return sizes | {PACK: self.begin} if self.output == "rows" else sizes

    def part(self, stage: Stage, number: int) -> Path:
        """Return the part of a unit."""
        unit = Unit(stage, bucket=number) if stage is SORT else Unit(stage, number=number)
        return self.folder.path / unit.part

    @cached_property
    def scanned(self) -> Resolution:
        """What counting all scores tells of thresholds, once that is done."""
        resolution = Resolution(made_from(self.file).whole)
        for tally in self._tallies(SCAN) if made_from(self.file).whole else ():
            resolution.add(tally)
        resolution.settle()
        return resolution

    @property
    def is_open(self) -> bool:
        """Whether a second look is needed."""
        return any(self.scanned.open.values())

    def _tallies(self, stage: Stage) -> Iterator[pa.Table]:
        for number in range(len(self.pool.units)):
            yield read_part(self.part(stage, number))

    @cached_property
    def thresholds(self) -> dict[str, dict[str, float]]:
        """By whole-pool node and group, once all are looked for."""
        if self.is_open:
            self.scanned.settle_open(self._tallies(LOOK))
        return self.scanned.thresholds

    def task_of(self, unit: Unit, *, is_last_attempt: bool) -> FilterTask:
        """Return what a worker is told about a unit."""
        return FilterTask(
            run_dir=str(self.folder.path.resolve()),
            unit=unit,
            config_hash=self.name,
            pool=str(self.pool.path.resolve()),
            columns=dict(self.columns),
            filter=self.file,
            output=self.output,
            stamp="" if unit.stage == SORT else self.pool.stamp(unit.number),
            units=len(self.pool.units),
            ranges=self.ranges,
            near=self.scanned.open if unit.stage == LOOK else {},
            thresholds=self.thresholds if unit.stage == KEEP else {},
            is_last_attempt=is_last_attempt,
        )

    @cached_property
    def derivation(self) -> Derivation | None:
        """Of the release that is to be made; None for another output.

        Raises
        ------
        ConfigError
            If the pool is neither a run nor a release, or there is no place for a new one.
        """
        if self.output != "rows":
            return None
        if self.pool.kind not in ("run", "release"):
            raise ConfigError(
                f"{self.pool.path} is {self.pool.kind}; a release is made of a run or a release. "
                "Give --to a FILE.npy or FILE.parquet, or `cah import` it first"
            )
        return Derivation(self.pool.path, self.to, self.folder)

    def begin(self) -> int:
        """Begin the new release, once all rows are asked; return its shards."""
        parts = [Unit(KEEP, number=number).part for number in range(len(self.pool.units))]
        return self.derivation.begin(parts, self.step) if self.derivation else 0

    def step(self, counts: Counts) -> Step:
        """Return what the manifest of the new release says."""
        return Step(
            how="filter",
            of="run" if self.pool.kind == "run" else "release",
            fingerprint=self.pool.fingerprint,
            rule=rule_of(self),
            counts=msgspec.structs.replace(counts, notes={}),
            limits=tuple(limits_of(self)),
        )


def sorted_uids(job: FilterJob) -> Iterator[Keys]:
    """Yield the uids of all kept rows in ascending order, a range at a time."""
    for number in range(job.ranges):
        yield as_keys(read_part(job.part(SORT, number)))
