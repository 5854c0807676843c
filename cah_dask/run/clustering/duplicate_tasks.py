"""What runs on a worker of `cah near-duplicates`.

``neighbours/`` says which clusters are compared. ``assigned/`` holds the rows of a unit of the pool
with their vectors, a row group for each range of clusters and every `ASSIGNED_ROWS` rows;
``gathered/`` those of a range, a row group for each cluster, in the order of their ranks.
``fates/`` says, round by round, what becomes of the first row of each vector, ``pairs/`` what is
still open then, and ``settled/`` which rows of the pool go.
"""

import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import pyarrow as pa

from cah_dask.curate.pools.pool import Batch
from cah_dask.curate.uid_ranges import as_table
from cah_dask.curate.vectors.centroids import (
    Centroids,
    Float32s,
    Vectors,
    centroids_of,
    closest_centroid,
    load_centroids,
)
from cah_dask.curate.vectors.near_duplicates import (
    RANKED,
    Cluster,
    Fate,
    Neighbour,
    Pairs,
    Ranked,
    joined,
    judge,
    neighbour,
    neighbours,
    open_pairs,
    rank_order,
    settled,
    unit_vectors,
)
from cah_dask.errors import RunError
from cah_dask.keys import KEY, starts_run
from cah_dask.run.clustering.centroid_tasks import range_of
from cah_dask.run.clustering.duplicate_rows import (
    DUPLICATES,
    FATES,
    GONE,
    NO_PAIRS,
    gone_of,
    gone_table,
    keys_of,
    pair_table,
    pairs_of,
    ranked_columns,
    ranked_of,
)
from cah_dask.run.clustering.rows import PoolTask, packed, regrouped, vectors_of, with_schema
from cah_dask.run.stages import Kind, Stage
from cah_dask.run.stagewise import numbered
from cah_dask.schema import Counts
from cah_dask.storage import Receipt, open_part, read_part, write_part


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

ROUNDS = 2
"""How often clusters are judged; a second time what was open, as the fates of others are known."""
ROWS_PER_RANGE = 1 << 17
"""Rows that a unit of `GATHER` holds at once if clusters are of one size: 134 MB at 512 dimensions
in float16, and once more while they are brought in order."""
ASSIGNED_ROWS = 1 << 16
CACHED_CLUSTERS = 64
"""Clusters that a worker remembers, as neighbours have neighbours in common."""
GROUP_ROWS = 1 << 18
PLACE_BITS = 40
"""A place is the number of a unit of the pool and, in so many bits, that of a row in it."""


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


class NearDuplicateTask(PoolTask, frozen=True, kw_only=True, dict=True):
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
    def clusters(self) -> range:
        """Those of the unit's range."""
        return range_of(self.unit.bucket, len(self.centroids), self.ranges)

    def place_of(self, cluster: int) -> tuple[int, int]:
        """Return range of a cluster, and its number there."""
        k = len(self.centroids)
        number = ((cluster + 1) * self.ranges - 1) // k
        return number, cluster - range_of(number, k, self.ranges).start


@lru_cache(maxsize=1)
def _centroids(path: str, sha256: str) -> Centroids:
    """Read centroids once per worker."""
    return load_centroids(Path(path), sha256)


def link_task(task: NearDuplicateTask) -> Receipt:
    """Say of each cluster with which others it is compared."""
    started = time.perf_counter()
    near = [each.tolist() for each in neighbours(task.centroids, task.options.neighbours)]
    table = pa.table({"neighbours": pa.array(near, pa.list_(pa.int64()))})
    receipt = task.receipt(Counts(len(near), len(near)), started)
    return write_part(task.part, table.schema, [table], receipt)


def assign_task(task: NearDuplicateTask) -> Receipt:
    """Deal the rows of a unit of the pool out to the ranges of their clusters."""
    started = time.perf_counter()
    n_rows = sum(map(len, task.uids()))
    receipt = task.receipt(Counts(n_rows, n_rows), started)
    return write_part(task.part, *with_schema(_dealt(task), _no_rows(task)), receipt)


def _no_rows(task: NearDuplicateTask) -> pa.Table:
    empty = {"cluster": pa.array([], pa.int64()), "vector": pa.array([], pa.binary(task.dim * 2))}
    return pa.table({**ranked_columns(np.empty(0, RANKED)), **empty})


def _dealt(task: NearDuplicateTask) -> Iterator[pa.Table]:
    """Yield a table for each range, again and again."""
    for table in regrouped(_assigned(task), ASSIGNED_ROWS):
        yield from _cut(table, task)


def _cut(table: pa.Table, task: NearDuplicateTask) -> Iterator[pa.Table]:
    k = len(task.centroids)
    for number in range(task.ranges):
        mine = range_of(number, k, task.ranges)
        clusters = table["cluster"].to_numpy()
        yield table.filter(pa.array((clusters >= mine.start) & (clusters < mine.stop)))


def _assigned(task: NearDuplicateTask) -> Iterator[pa.Table]:
    """Yield the rows of a unit of the pool with their clusters."""
    by = task.options.by
    first = task.unit.number << PLACE_BITS
    for batch, uids, vectors in task.batches([by] if by else []):
        rows = np.zeros(len(batch), RANKED)
        rows["f0"], rows["f1"] = uids["f0"], uids["f1"]
        rows["place"] = first + np.arange(len(batch))
        if by:
            rows["similarity"] = _values(batch, by)
        first += len(batch)
        at = closest_centroid(unit_vectors(vectors), task.centroids)
        yield pa.table({**ranked_columns(rows), "cluster": at, "vector": packed(vectors)})


def _values(batch: Batch, column: str) -> Float32s:
    """Return the numbers that ranks are made of."""
    cells = batch.table[column]
    if not _is_number(cells.type):
        raise RunError(f"{batch.part}: column {column} holds {cells.type}, which is no rank")
    values: Float32s = cells.to_numpy().astype(np.float32)
    if np.isnan(values).any():
        raise RunError(f"{batch.part}: column {column} has empty cells or NaN, which are no ranks")
    return values


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def gather_task(task: NearDuplicateTask) -> Receipt:
    """Bring the rows of a range of clusters together, each cluster in the order of its ranks."""
    started = time.perf_counter()
    number = task.unit.bucket
    tables = [_no_rows(task)]
    for unit in range(task.units):
        with open_part(task.part_of(ASSIGN, unit)) as part:
            if part.n_row_groups:
                tables.append(part.read(range(number, part.n_row_groups, task.ranges)))
    table = pa.concat_tables(tables[1:] or tables)
    order = rank_order(ranked_of(table))
    at = table["cluster"].to_numpy()[order]
    groups = (
        _with_twins(table.take(order[at == cluster]).drop_columns(["cluster"]))
        for cluster in task.clusters
    )
    receipt = task.receipt(Counts(len(table), len(table)), started)
    return write_part(task.part, *with_schema(groups, _no_rows(task)), receipt)


def _with_twins(table: pa.Table) -> pa.Table:
    """Add of each row which one is the first with the same vector."""
    vectors = table["vector"].combine_chunks().dictionary_encode()
    codes = vectors.indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    return table.append_column("twin", pa.array(first[codes], pa.int64()))


def judge_task(task: NearDuplicateTask) -> Receipt:
    """Decide what becomes of the rows of a range of clusters, as far as it can be told."""
    started = time.perf_counter()
    groups, total = [], np.zeros(len(Fate), np.int64)
    for cluster, home, others in _clusters(task, task.unit.wave - 1):
        table = _judged(task, cluster, home, others)
        groups.append(table)
        total += np.bincount(home.fates, minlength=len(Fate))
    rejected = {"near_duplicate": int(total[Fate.GOES]), "open": int(total[Fate.OPEN])}
    rejected = {name: n for name, n in rejected.items() if n}
    counts = Counts(int(total.sum()), int(total[Fate.STAYS]), rejected)
    return write_part(task.part, FATES, groups, task.receipt(counts, started))


def _judged(
    task: NearDuplicateTask, cluster: int, home: Cluster, others: Iterator[Neighbour]
) -> pa.Table:
    """Judge a cluster; return the fates of its rows."""
    stays, cosines = np.zeros(len(home.rows), KEY), np.zeros(len(home.rows), np.float32)
    if task.unit.wave:
        before = _fates(task, cluster, task.unit.wave - 1)
        stays, cosines = keys_of(before["stays"]), before["cosine"].to_numpy().copy()
    going = judge(home, others, task.options.bound)
    stays["f0"][going.at], stays["f1"][going.at] = going.stays["f0"], going.stays["f1"]
    cosines[going.at] = going.cosines
    return pa.table([home.fates, as_table(stays)["uid"], cosines], schema=FATES)


def _clusters(
    task: NearDuplicateTask, wave: int
) -> Iterator[tuple[int, Cluster, Iterator[Neighbour]]]:
    """Yield the clusters of a range with their neighbours, with the fates of a round."""
    near = read_part(task.part_of(LINK, 0))["neighbours"]
    for cluster in task.clusters:
        home = _cluster(task, cluster, wave)
        yield cluster, home, _others(task, home, cluster, near[cluster].as_py(), wave)


def _others(
    task: NearDuplicateTask, home: Cluster, cluster: int, near: list[int], wave: int
) -> Iterator[Neighbour]:
    """Yield what is near of the neighbours of a cluster while any of its rows is open."""
    own = task.centroids.vectors[cluster]
    for number in near:
        if (home.fates == Fate.OPEN).any():
            other = _cluster(task, number, wave)
            yield neighbour(home, other, own, task.centroids.vectors[number], task.options.bound)


def _cluster(task: NearDuplicateTask, cluster: int, wave: int) -> Cluster:
    """Read the first row of each vector of a cluster, with the fates of a round."""
    number, group = task.place_of(cluster)
    rows, vectors, units = _rows(str(task.part_of(GATHER, number)), group, task.dim)
    fates = np.zeros(len(rows), np.uint8)
    if wave >= 0:
        fates = _fates(task, cluster, wave)["fate"].to_numpy().copy()
    return Cluster(rows, vectors, units, fates)


@lru_cache(maxsize=CACHED_CLUSTERS)
def _rows(part: str, group: int, dim: int) -> tuple[Ranked, Vectors, Float32s]:
    table = read_part(Path(part), row_group=group)
    table = table.filter(pa.array(table["twin"].to_numpy() == np.arange(len(table))))
    vectors = vectors_of(table, dim)
    return ranked_of(table), vectors, unit_vectors(vectors)


def _fates(task: NearDuplicateTask, cluster: int, wave: int) -> pa.Table:
    number, group = task.place_of(cluster)
    return read_part(task.part_of(JUDGE, number, wave), row_group=group)


def pair_task(task: NearDuplicateTask) -> Receipt:
    """Name the pairs that decide about the rows of a range that are still open."""
    started = time.perf_counter()
    n_rows = n_open = 0
    groups = []
    for _, home, others in _clusters(task, ROUNDS - 1):
        n_rows += len(home.rows)
        if (home.fates == Fate.OPEN).any():
            n_open += int((home.fates == Fate.OPEN).sum())
            groups.append(pair_table(joined(open_pairs(home, others, task.options.bound))))
    counts = Counts(n_rows, n_rows - n_open, {"open": n_open} if n_open else {})
    return write_part(task.part, NO_PAIRS.schema, groups, task.receipt(counts, started))


def settle_task(task: NearDuplicateTask) -> Receipt:
    """Settle what is open, and name all rows that go, in the order of their uids."""
    started = time.perf_counter()
    parts = [task.part_of(PAIR, number) for number in range(task.ranges)]
    late = settled(joined(pairs_of(read_part(part)) for part in parts))
    order = np.argsort(late.rows["place"])
    late = Pairs(*(column[order] for column in late))  # type: ignore[arg-type]  # each its own
    n_rows, gone = 0, [np.empty(0, GONE)]
    for cluster in range(len(task.centroids)):
        number, group = task.place_of(cluster)
        part = task.part_of(GATHER, number)
        rows = read_part(part, row_group=group, columns=["uid", "place", "twin"])
        n_rows += len(rows)
        gone.append(gone_of(rows, _fates(task, cluster, ROUNDS - 1), late))
    found = np.concatenate(gone)
    found = found[np.lexsort((found["f1"], found["f0"]))]
    once = found[starts_run(found)]
    rejected = {"near_duplicate": len(found)} if len(found) else {}
    receipt = task.receipt(Counts(n_rows, n_rows - len(found), rejected), started)
    groups = (
        gone_table(once[start : start + GROUP_ROWS]) for start in range(0, len(once), GROUP_ROWS)
    )
    return write_part(task.part, DUPLICATES, groups, receipt)
