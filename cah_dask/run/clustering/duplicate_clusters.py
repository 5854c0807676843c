"""Clusters of rows as `cah near-duplicates` keeps them in files: what a unit is told, and reads."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Self

import msgspec
import numpy as np
import pyarrow as pa

from cah_dask.curate.vectors.centroids import (
    Centroids,
    Float32s,
    Index,
    Vectors,
    centroids_of,
    load_centroids,
)
from cah_dask.curate.vectors.near_duplicates import (
    Cluster,
    Fate,
    Neighbour,
    Ranked,
    neighbour,
    unit_vectors,
)
from cah_dask.run.clustering.centroid_tasks import range_of
from cah_dask.run.clustering.duplicate_rows import ranked_of
from cah_dask.run.clustering.rows import VectorTask, vectors_of
from cah_dask.run.stages import Kind, Stage
from cah_dask.run.stagewise import numbered
from cah_dask.storage import Part, open_part, read_part


def _stage(name: str, folder: str, kind: Kind, rows: str, after: str = "") -> Stage:
    task = f"cah_dask.run.clustering.duplicate_tasks:{name}_task"
    return Stage(name=name, kind=kind, folder=folder, pool="cpu", task=task, rows=rows, after=after)


LINK = _stage("link", "neighbours", Kind.SHARD, "clusters")
ASSIGN = _stage("assign", "assigned", Kind.SHARD, "rows", "link")
GATHER = _stage("gather", "gathered", Kind.BUCKET, "rows", "assign")
JUDGE = _stage("judge", "fates", Kind.BUCKET, "vectors", "gather")
PAIR = _stage("pair", "pairs", Kind.BUCKET, "vectors", "judge")
SETTLE = _stage("settle", "settled", Kind.SHARD, "rows", "pair")
NEAR_DUPLICATES = (LINK, ASSIGN, GATHER, JUDGE, PAIR, SETTLE)
"""The job of `cah near-duplicates`."""

CACHED_ROWS = 1 << 16
"""Rows that a unit remembers as it will look at them again soon: 200 MB of 512 dimensions."""


OPEN_PARTS = 64
"""Parts of ranges that a unit keeps open, whose footers are in memory."""


class NearDuplicateOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a person asks for."""

    vectors: str
    """Which array, such as ``b32/image``."""
    bound: Annotated[float, msgspec.Meta(gt=0, le=1)]
    """Least cosine of near duplicates, compared in float32."""
    by: str = ""
    """Column whose higher value makes the better row; without it the lower uid is better."""
    neighbours: Annotated[int, msgspec.Meta(ge=0)] = 16
    """With how many of the clusters around it each cluster is compared, at least."""
    centroids: str = ""
    """SHA-256 of the file of centroids; without it all rows are compared with all."""


class NearDuplicateTask(VectorTask, frozen=True, kw_only=True, dict=True):
    """One unit of `cah near-duplicates`."""

    options: NearDuplicateOptions
    centroids_file: str

    def part_of(self, stage: Stage, number: int, wave: int = 0) -> Path:
        """Return the part of a unit."""
        return Path(self.run_dir) / numbered(stage, number, wave).part

    @property
    def centroids(self) -> Centroids:
        """The centroids of the clusters; a single one where all rows are compared with all."""
        if not self.centroids_file:
            return centroids_of(np.zeros((1, self.dim), np.float32))
        return _centroids(self.centroids_file, self.options.centroids)

    @property
    def links(self) -> "Links":
        """How clusters lie to each other."""
        return _links(str(self.part_of(LINK, 0)))

    @property
    def clusters(self) -> list[int]:
        """Those of the unit's range, which are close to each other."""
        mine = range_of(self.unit.bucket, len(self.centroids), self.ranges)
        found: list[int] = self.links.order[mine.start : mine.stop].tolist()
        return found

    def ranges_of(self, clusters: Index) -> Index:
        """Return the range of each of some clusters."""
        return ((self.links.position[clusters] + 1) * self.ranges - 1) // len(self.centroids)

    def place_of(self, cluster: int) -> tuple[int, int]:
        """Return the range of a cluster, and its number there."""
        number = int(self.ranges_of(np.array([cluster]))[0])
        first = range_of(number, len(self.centroids), self.ranges).start
        return number, int(self.links.position[cluster]) - first


class Links:
    """The order of clusters, in which those that are close to each other mostly lie together."""

    def __init__(self, table: pa.Table) -> None:
        self.order: Index = table["cluster"].to_numpy()
        self.position = np.argsort(self.order)
        """Of each cluster in that order."""
        self._neighbours = table["neighbours"]

    def neighbours(self, cluster: int) -> list[int]:
        """Return the clusters that a cluster is compared with, ascending."""
        found: list[int] = self._neighbours[int(self.position[cluster])].as_py()
        return found


@lru_cache(maxsize=1)
def _centroids(path: str, sha256: str) -> Centroids:
    """Read centroids once per worker."""
    return load_centroids(Path(path), sha256)


@lru_cache(maxsize=1)
def _links(part: str) -> Links:
    """Read links once per worker."""
    return Links(read_part(Path(part)))


class Clusters:
    """The clusters of a unit and their neighbours, with the fates of a round; a context manager.

    It keeps the `OPEN_PARTS` parts open that were read last, as a footer says where all clusters of
    a range are.

    Parameters
    ----------
    wave
        The round; before the first one (-1) all rows are open.
    """

    def __init__(self, task: NearDuplicateTask, wave: int) -> None:
        self._task = task
        self._wave = wave
        self._cache: OrderedDict[int, tuple[Ranked, Vectors, Float32s]] = OrderedDict()
        self._n_cached = 0
        self._parts: OrderedDict[Path, tuple[Part, ExitStack]] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._parts:
            self._close_oldest()

    def __iter__(self) -> Iterator[tuple[int, Cluster]]:
        """Yield the clusters of the unit, by their numbers."""
        return ((number, self._cluster(number)) for number in self._task.clusters)

    def fates(self, number: int) -> pa.Table:
        """Return what is known of a cluster."""
        return self._read(JUDGE, number, self._wave)

    def gathered(self, number: int, columns: list[str] | None = None) -> pa.Table:
        """Return the rows of a cluster, or some of their columns."""
        return self._read(GATHER, number, 0, columns)

    def others(self, number: int, home: Cluster) -> Iterator[Neighbour]:
        """Yield what is near of the neighbours of a cluster while any of its rows is open."""
        centroids, bound = self._task.centroids.vectors, self._task.options.bound
        for each in self._task.links.neighbours(number):
            if (home.fates == Fate.OPEN).any():
                other = self._cluster(each)
                yield neighbour(home, other, centroids[number], centroids[each], bound)

    def _cluster(self, number: int) -> Cluster:
        rows, vectors, units = self._rows(number)
        fates = np.zeros(len(rows), np.uint8)
        if self._wave >= 0:
            fates = self.fates(number)["fate"].to_numpy().copy()
        return Cluster(rows, vectors, units, fates)

    def _rows(self, number: int) -> tuple[Ranked, Vectors, Float32s]:
        """Return the first row of each vector of a cluster."""
        found = self._cache.pop(number, None)
        if found is None:
            table = self.gathered(number)
            table = table.filter(pa.array(table["twin"].to_numpy() == np.arange(len(table))))
            vectors = vectors_of(table, self._task.dim)
            found = ranked_of(table), vectors, unit_vectors(vectors)
            self._n_cached += len(table)
        self._cache[number] = found
        while self._n_cached > CACHED_ROWS and len(self._cache) > 1:
            _, (rows, _, _) = self._cache.popitem(last=False)
            self._n_cached -= len(rows)
        return found

    def _read(
        self, stage: Stage, number: int, wave: int, columns: list[str] | None = None
    ) -> pa.Table:
        at, group = self._task.place_of(number)
        return self._part(self._task.part_of(stage, at, wave)).read([group], columns)

    def _part(self, path: Path) -> Part:
        if path in self._parts:
            self._parts.move_to_end(path)
            return self._parts[path][0]
        if len(self._parts) >= OPEN_PARTS:
            self._close_oldest()
        stack = ExitStack()
        part = stack.enter_context(open_part(path))
        self._parts[path] = part, stack
        return part

    def _close_oldest(self) -> None:
        _, (_, stack) = self._parts.popitem(last=False)
        stack.close()
