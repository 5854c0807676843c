"""What runs on a worker of `cah cluster`: sampling, and the two halves of an iteration of k-means.

``samples/`` holds the rows that are drawn, with their vectors; ``starts/`` the centroids of the
first iteration. Then each iteration is a wave: ``sums/`` says of each unit of the sample what it
adds to each cluster, a row group for each range of clusters, and ``moves/`` holds the centroids
that come of them, a part for each range.
"""

import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import pyarrow as pa

from cah_dask.counts import Counts
from cah_dask.curate.pools.pool import VECTOR_ROWS
from cah_dask.curate.uid_hashes import is_drawn
from cah_dask.curate.uid_ranges import as_keys, as_table
from cah_dask.curate.vectors.centroids import (
    Centroids,
    Float32s,
    Float64s,
    Index,
    centroids_of,
)
from cah_dask.curate.vectors.kmeans import (
    ClusterSums,
    Start,
    cluster_sums,
    donors,
    merged,
    next_centroids,
    objectives,
)
from cah_dask.errors import RunError
from cah_dask.keys import no_keys
from cah_dask.run.clustering.rows import (
    VectorTask,
    packed,
    regrouped,
    unpacked,
    vectors_of,
    with_schema,
)
from cah_dask.run.stages import Kind, Stage
from cah_dask.run.stagewise import numbered
from cah_dask.storage import Receipt, open_part, read_part, write_part


def _stage(name: str, kind: Kind, rows: str, after: str = "") -> Stage:
    task = f"cah_dask.run.clustering.centroid_tasks:{name}_task"
    folder = f"{name.removesuffix('s')}s"
    return Stage(name=name, kind=kind, folder=folder, pool="cpu", task=task, rows=rows, after=after)


SAMPLE = _stage("sample", Kind.SHARD, "rows")
START = _stage("start", Kind.SHARD, "rows", "sample")
SUMS = _stage("sums", Kind.BUCKET, "rows", "start")
MOVE = _stage("move", Kind.BUCKET, "clusters", "sums")
CLUSTER = (SAMPLE, START, SUMS, MOVE)
"""The job of `cah cluster`."""

RANGE_BYTES = 1 << 26
"""Sums of clusters that a unit of `MOVE` holds at once."""


class ClusterOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a person asks of k-means."""

    vectors: str
    """Which array, such as ``b32/image``."""
    k: Annotated[int, msgspec.Meta(ge=1)]
    iterations: Annotated[int, msgspec.Meta(ge=1)] = 20
    share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """Of all rows, how many are looked at; drawn by a hash of their uids."""
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0


class ClusterTask(VectorTask, frozen=True, kw_only=True):
    """One unit of `cah cluster`."""

    options: ClusterOptions

    def part_of(self, stage: Stage, number: int, wave: int = 0) -> Path:
        """Return the part of a unit."""
        return Path(self.run_dir) / numbered(stage, number, wave).part

    @property
    def centroid_parts(self) -> list[Path]:
        """The parts that hold the centroids of the unit's iteration."""
        wave = self.unit.wave
        if not wave:
            return [self.part_of(START, 0)]
        return [self.part_of(MOVE, number, wave - 1) for number in range(self.ranges)]


def n_ranges(k: int, dim: int) -> int:
    """Return in how many ranges so many clusters are moved."""
    return min(k, -(-k * dim * 8 // RANGE_BYTES))


def range_of(number: int, k: int, ranges: int) -> range:
    """Return the clusters of a range."""
    return range(number * k // ranges, (number + 1) * k // ranges)


def sample_task(task: ClusterTask) -> Receipt:
    """Draw rows of a unit of the pool."""
    started = time.perf_counter()
    share, seed = task.options.share, task.options.seed
    masks = [is_drawn(uids, share, seed) for uids in task.uids(task.unit.number)]
    n_seen, n_drawn = sum(map(len, masks)), sum(int(mask.sum()) for mask in masks)
    rejected = {"not_drawn": n_seen - n_drawn} if n_seen > n_drawn else {}
    receipt = task.receipt(Counts(n_seen, n_drawn, rejected), started)
    empty = pa.table({"uid": as_table(no_keys())["uid"], "vector": pa.array([], pa.binary(2))})
    groups = regrouped(_drawn(task), VECTOR_ROWS)
    return write_part(task.part, *with_schema(groups, empty), receipt)


def _drawn(task: ClusterTask) -> Iterator[pa.Table]:
    for _, uids, vectors in task.batches([]):
        mask = is_drawn(uids, task.options.share, task.options.seed)
        yield pa.table({"uid": as_table(uids[mask])["uid"], "vector": packed(vectors[mask])})


def start_task(task: ClusterTask) -> Receipt:
    """Choose the rows that are the first centroids."""
    started = time.perf_counter()
    options = task.options
    chosen = Start(options.k, options.seed)
    n_rows = 0
    for number in range(task.units):
        uids = as_keys(read_part(task.part_of(SAMPLE, number), columns=["uid"]))
        chosen.add(number, uids)
        n_rows += len(uids)
    if n_rows < options.k:
        raise RunError(f"{n_rows:,} rows are drawn, too few for {options.k:,} clusters")
    vectors = np.empty((options.k, task.dim), np.float32)
    places = np.array(chosen.places)
    for number in np.unique(places[:, 0]).tolist():
        at = np.flatnonzero(places[:, 0] == number)
        vectors[at] = _rows_of(task.part_of(SAMPLE, number), places[at, 1], task.dim)
    others = {"no_centroid": n_rows - options.k} if n_rows > options.k else {}
    table = pa.table({"vector": packed(vectors)})
    receipt = task.receipt(Counts(n_rows, options.k, others), started)
    return write_part(task.part, table.schema, [table], receipt)


def _rows_of(part: Path, rows: Index, dim: int) -> Float32s:
    """Return the vectors of some rows of a part, in the order of these."""
    found, first = np.empty((len(rows), dim), np.float32), 0
    with open_part(part) as opened:
        for group in range(opened.n_row_groups):
            vectors = vectors_of(opened.read([group], ["vector"]), dim)
            is_here = (rows >= first) & (rows < first + len(vectors))
            found[is_here] = vectors[rows[is_here] - first]
            first += len(vectors)
    return found


def sums_task(task: ClusterTask) -> Receipt:
    """Add up the rows of a unit of the sample by the centroid they are closest to."""
    started = time.perf_counter()
    centroids = read_centroids(tuple(map(str, task.centroid_parts)), task.dim)
    with open_part(task.part_of(SAMPLE, task.unit.bucket)) as part:
        groups = (part.read([group], ["vector"]) for group in range(part.n_row_groups))
        total = cluster_sums((vectors_of(table, task.dim) for table in groups), centroids)
    n_rows = int(total.counts.sum())
    is_there = total.counts > 0
    tables = [
        _sums_table(total, np.flatnonzero(is_there[each.start : each.stop]) + each.start)
        for each in _ranges(task)
    ]
    return write_part(
        task.part, tables[0].schema, tables, task.receipt(Counts(n_rows, n_rows), started)
    )


@lru_cache(maxsize=1)
def read_centroids(parts: tuple[str, ...], dim: int) -> Centroids:
    """Return the centroids that some parts hold; those of one iteration are read once."""
    columns = [
        unpacked(read_part(Path(part), columns=["vector"])["vector"], "<f4") for part in parts
    ]
    return centroids_of(np.concatenate(columns).reshape(-1, dim))


def _ranges(task: ClusterTask) -> list[range]:
    return [range_of(number, task.options.k, task.ranges) for number in range(task.ranges)]


def _sums_table(total: ClusterSums, clusters: Index) -> pa.Table:
    return pa.table(
        {
            "cluster": clusters,
            "count": total.counts[clusters],
            "sum": packed(total.sums[clusters]),
            "square": total.squares[clusters],
        }
    )


def _sums_of(table: pa.Table) -> ClusterSums:
    numbers = [table[name].to_numpy() for name in ("cluster", "count", "square")]
    sums: Float64s = unpacked(table["sum"], "<f8")  # type: ignore[assignment]  # of that type
    return ClusterSums(numbers[0], numbers[1], sums, numbers[2])


def move_task(task: ClusterTask) -> Receipt:
    """Put the centroids of a range where the rows are that are closest to them."""
    started = time.perf_counter()
    options, number = task.options, task.unit.bucket
    parts = [task.part_of(SUMS, unit, task.unit.wave) for unit in range(task.units)]
    counts = np.zeros(options.k, np.int64)
    for part in parts:
        table = read_part(part, columns=["cluster", "count"])
        counts[table["cluster"].to_numpy()] += table["count"].to_numpy()
    mine = _ranges(task)[number]
    given = donors(counts)
    wanted = sorted({*mine, *(given[each] for each in mine if each in given)})
    total = merged(_sums_in(parts, wanted, _ranges(task)), np.array(wanted), task.dim)
    centroids = read_centroids(tuple(map(str, task.centroid_parts)), task.dim)
    moved = next_centroids(mine, total, counts, centroids)
    is_mine = (total.clusters >= mine.start) & (total.clusters < mine.stop)
    columns = {
        "cluster": np.arange(mine.start, mine.stop),
        "count": counts[mine.start : mine.stop],
        "objective": objectives(total, centroids)[is_mine],
        "vector": packed(moved),
    }
    table = pa.table(columns)
    receipt = task.receipt(Counts(len(mine), len(mine)), started)
    return write_part(task.part, table.schema, [table], receipt)


def _sums_in(
    parts: Sequence[Path], wanted: Sequence[int], ranges: Sequence[range]
) -> Iterator[ClusterSums]:
    """Yield what parts say of the ranges that some clusters belong to."""
    groups = [at for at, each in enumerate(ranges) if any(one in each for one in wanted)]
    for part in parts:
        with open_part(part) as opened:
            for group in groups:
                yield _sums_of(opened.read([group]))
