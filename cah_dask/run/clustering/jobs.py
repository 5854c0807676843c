"""What drives the jobs over vectors."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from cah_dask.curate.pools.pool import Pool
from cah_dask.curate.vectors.centroids import load_centroids
from cah_dask.errors import ConfigError
from cah_dask.run.clustering.centroid_tasks import (
    CLUSTER,
    MOVE,
    SAMPLE,
    START,
    SUMS,
    ClusterOptions,
    ClusterTask,
    n_ranges,
)
from cah_dask.run.clustering.duplicate_clusters import (
    ASSIGN,
    GATHER,
    JUDGE,
    LINK,
    NEAR_DUPLICATES,
    PAIR,
    SETTLE,
    NearDuplicateOptions,
    NearDuplicateTask,
)
from cah_dask.run.clustering.duplicate_tasks import ROUNDS, ROWS_PER_RANGE
from cah_dask.run.folder.job_folder import JobFolder
from cah_dask.run.jobs import Job, name_of
from cah_dask.run.stages import Stage
from cah_dask.run.stagewise import Committed, Stepwise, numbered
from cah_dask.run.unit import Unit

MOST_EXACT_ROWS = 1_000_000
"""Rows that are compared with all others, at most: they are in memory, 3 GB of 512 dimensions."""


def array_of(pool: Pool, name: str) -> str:
    """Return the array of a pool that a name means; without one, its only one of images.

    Raises
    ------
    ConfigError
        If there is none, or if there are several.
    """
    known = ", ".join(pool.vectors) or "no vectors"
    if name:
        if name not in pool.vectors:
            raise ConfigError(f"{pool.path} has no vectors {name}; it has {known}")
        return name
    images = [each for each in pool.vectors if each.endswith("/image")]
    if len(images) != 1:
        raise ConfigError(f"{pool.path} has {known}; choose by --vectors")
    return images[0]


def rank_of(pool: Pool, name: str) -> str:
    """Return the column that ranks rows: a name, without one `similarity`, "" if there is none.

    Raises
    ------
    ConfigError
        If there are only similarities of several models, such as ``similarity_b32``.
    """
    if name or "similarity" in pool.columns:
        return name or "similarity"
    if others := [each for each in pool.columns if each.startswith("similarity_")]:
        raise ConfigError(
            f"{pool.path} has no column similarity; choose by --by among {', '.join(others)}"
        )
    return ""


def require_valid(options: msgspec.Struct) -> None:
    """Raise ConfigError unless options are within the limits of their types."""
    try:
        msgspec.convert(msgspec.to_builtins(options), type(options))
    except msgspec.ValidationError as error:
        raise ConfigError(str(error)) from error


def steps_of(sizes: Mapping[Stage, int], wave: int = 0) -> list[list[Unit]]:
    """Return a step for each of some stages, over units numbered from 0."""
    return [[numbered(stage, at, wave) for at in range(n)] for stage, n in sizes.items()]


@dataclass(frozen=True)
class ClusterJob(Job):
    """k-means over vectors of a pool."""

    pool: Pool
    options: ClusterOptions
    scratch: Path
    """The folder within which it keeps what is done."""

    def __post_init__(self) -> None:
        require_valid(self.options)
        array_of(self.pool, self.options.vectors)
        if self.pool.most_rows < self.options.k:
            raise ConfigError(
                f"{self.pool.path} has {self.pool.most_rows:,} rows, too few for "
                f"{self.options.k:,} clusters"
            )

    @cached_property
    def name(self) -> str:
        """What another pool or options do not have."""
        return name_of(self.pool.fingerprint, self.options)

    @cached_property
    def folder(self) -> JobFolder:
        """Where it keeps what is done."""
        return JobFolder(self.scratch / self.name, CLUSTER)

    @cached_property
    def ranges(self) -> int:
        """In how many ranges centroids are moved."""
        return n_ranges(self.options.k, self.pool.vectors[self.options.vectors])

    @property
    def steps(self) -> list[list[Unit]]:
        """A sample, its first centroids, and two steps for each iteration."""
        units = len(self.pool.units)
        steps = steps_of({SAMPLE: units, START: 1})
        for wave in range(self.options.iterations):
            steps += steps_of({SUMS: units, MOVE: self.ranges}, wave)
        return steps

    def plan(self, committed: Committed) -> Stepwise:
        """Return its units."""
        return Stepwise(CLUSTER, self.steps, committed)

    def task_of(self, unit: Unit, *, is_last_attempt: bool) -> ClusterTask:
        """Return what a worker is told about a unit."""
        return ClusterTask(
            run_dir=str(self.folder.path.resolve()),
            unit=unit,
            config_hash=self.name,
            pool=str(self.pool.path.resolve()),
            columns={},
            stamp=self.pool.stamp(unit.number) if unit.stage == SAMPLE else "",
            vectors=self.options.vectors,
            units=len(self.pool.units),
            ranges=self.ranges,
            options=self.options,
            is_last_attempt=is_last_attempt,
        )

    def moves(self, wave: int) -> list[Path]:
        """Return the parts that hold the centroids that an iteration leaves."""
        return [
            self.folder.path / numbered(MOVE, number, wave).part for number in range(self.ranges)
        ]


@dataclass(frozen=True)
class NearDuplicateJob(Job):
    """Near duplicates among the rows of a pool."""

    pool: Pool
    options: NearDuplicateOptions
    scratch: Path
    """The folder within which it keeps what is done."""
    centroids: Path | None = None
    """A file of them, as `centroids_file` finds it."""

    def __post_init__(self) -> None:
        require_valid(self.options)
        array = array_of(self.pool, self.options.vectors)
        if self.options.by and self.options.by not in self.pool.columns:
            raise ConfigError(
                f"{self.pool.path} has no column {self.options.by}, which --by names; it has "
                f"{', '.join(self.pool.columns)}"
            )
        if self.centroids is None:
            if self.pool.most_rows > MOST_EXACT_ROWS:
                raise ConfigError(
                    f"{self.pool.path} has {self.pool.most_rows:,} rows; more than "
                    f"{MOST_EXACT_ROWS:,} are compared by --centroids, which `cah cluster` makes"
                )
            return
        (_, found), dim = self.shape, self.pool.vectors[array]
        if found != dim:
            raise ConfigError(
                f"{self.centroids} holds centroids of length {found}, {array} of {self.pool.path} "
                f"has vectors of length {dim}"
            )

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Number and length of the centroids; one cluster where all rows are compared with all."""
        if self.centroids is None:
            return 1, self.pool.vectors[self.options.vectors]
        found = load_centroids(self.centroids, self.options.centroids)
        return len(found), found.dim

    @cached_property
    def name(self) -> str:
        """What another pool or options do not have."""
        return name_of(self.pool.fingerprint, self.options)

    @cached_property
    def folder(self) -> JobFolder:
        """Where it keeps what is done."""
        return JobFolder(self.scratch / self.name, NEAR_DUPLICATES)

    @cached_property
    def ranges(self) -> int:
        """In how many ranges clusters are compared."""
        return min(self.shape[0], max(1, -(-self.pool.most_rows // ROWS_PER_RANGE)))

    @property
    def steps(self) -> list[list[Unit]]:
        """Rows by cluster, rounds of judgement, and what is left."""
        steps = steps_of({LINK: 1, ASSIGN: len(self.pool.units), GATHER: self.ranges})
        for wave in range(ROUNDS):
            steps += steps_of({JUDGE: self.ranges}, wave)
        return steps + steps_of({PAIR: self.ranges, SETTLE: 1})

    def plan(self, committed: Committed) -> Stepwise:
        """Return its units."""
        return Stepwise(NEAR_DUPLICATES, self.steps, committed)

    def task_of(self, unit: Unit, *, is_last_attempt: bool) -> NearDuplicateTask:
        """Return what a worker is told about a unit."""
        return NearDuplicateTask(
            run_dir=str(self.folder.path.resolve()),
            unit=unit,
            config_hash=self.name,
            pool=str(self.pool.path.resolve()),
            columns={},
            stamp=self.pool.stamp(unit.number) if unit.stage == ASSIGN else "",
            vectors=self.options.vectors,
            units=len(self.pool.units),
            ranges=self.ranges,
            options=self.options,
            centroids_file="" if self.centroids is None else str(self.centroids.resolve()),
            is_last_attempt=is_last_attempt,
        )

    @property
    def result(self) -> Path:
        """The part that names the rows that go."""
        return self.folder.path / numbered(SETTLE, 0).part
