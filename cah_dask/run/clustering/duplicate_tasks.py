"""What runs on a worker of `cah near-duplicates`.

``neighbours/`` says which clusters are compared. ``assigned/`` holds the rows of a unit of the pool
with their vectors, a row group for each range of clusters and every `ASSIGNED_ROWS` rows;
``gathered/`` those of a range, a row group for each cluster, in the order of their ranks.
``fates/`` says, round by round, what becomes of the first row of each vector, ``pairs/`` what is
still open then, and ``settled/`` which rows of the pool go.
"""

import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from cah_dask.counts import Counts
from cah_dask.curate.pools.pool import Batch
from cah_dask.curate.uid_ranges import as_table
from cah_dask.curate.vectors.centroids import Float32s, closest_centroid
from cah_dask.curate.vectors.near_duplicates import (
    RANKED,
    Cluster,
    Fate,
    Pairs,
    joined,
    judge,
    neighbours,
    open_pairs,
    rank_order,
    settled,
    spatial_order,
    unit_vectors,
)
from cah_dask.errors import RunError
from cah_dask.keys import KEY, among, no_keys, sort_order, starts_run
from cah_dask.run.clustering.duplicate_clusters import (
    ASSIGN,
    PAIR,
    Clusters,
    NearDuplicateTask,
)
from cah_dask.run.clustering.duplicate_rows import (
    DUPLICATES,
    FATES,
    GONE,
    NO_PAIRS,
    Gone,
    gone_of,
    gone_table,
    keys_of,
    pair_table,
    pairs_of,
    ranked_columns,
    ranked_of,
)
from cah_dask.run.clustering.rows import concatenated, packed, regrouped, with_schema
from cah_dask.storage import Receipt, open_part, read_part, write_part

ROUNDS = 2
"""How often clusters are judged; a second time what was open, as the fates of others are known."""
ROWS_PER_RANGE = 1 << 17
"""Rows that a unit of `GATHER` holds at once if clusters are of one size: 134 MB at 512 dimensions
in float16, and once more while they are brought in order."""
ASSIGNED_ROWS = 1 << 16
GROUP_ROWS = 1 << 18
PLACE_BITS = 40
"""A place is the number of a unit of the pool and, in so many bits, that of a row in it."""


def link_task(task: NearDuplicateTask) -> Receipt:
    """Say in which order clusters are dealt with, and with which others each is compared."""
    started = time.perf_counter()
    near = neighbours(task.centroids, task.options.neighbours)
    order = spatial_order(task.centroids)
    lists = pa.array([near[each].tolist() for each in order], pa.list_(pa.int64()))
    table = pa.table({"cluster": order, "neighbours": lists})
    receipt = task.receipt(Counts(len(near), len(near)), started)
    return write_part(task.part, table.schema, [table], receipt)


def assign_task(task: NearDuplicateTask) -> Receipt:
    """Deal the rows of a unit of the pool out to the ranges of their clusters."""
    started = time.perf_counter()
    n_rows = sum(map(len, task.uids(task.unit.number)))
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
    ranges = task.ranges_of(table["cluster"].to_numpy())
    for number in range(task.ranges):
        yield table.filter(pa.array(ranges == number))


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
    table = concatenated(tables[1:] or tables, task.dim)
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
    with Clusters(task, task.unit.wave - 1) as clusters:
        for number, home in clusters:
            groups.append(_judged(task, clusters, number, home))
            total += np.bincount(home.fates, minlength=len(Fate))
    rejected = {"near_duplicate": int(total[Fate.GOES]), "open": int(total[Fate.OPEN])}
    rejected = {name: n for name, n in rejected.items() if n}
    counts = Counts(int(total.sum()), int(total[Fate.STAYS]), rejected)
    return write_part(task.part, FATES, groups, task.receipt(counts, started))


def _judged(task: NearDuplicateTask, clusters: Clusters, number: int, home: Cluster) -> pa.Table:
    """Judge a cluster; return the fates of its rows."""
    stays, cosines = np.zeros(len(home.rows), KEY), np.zeros(len(home.rows), np.float32)
    if task.unit.wave:
        before = clusters.fates(number)
        stays, cosines = keys_of(before["stays"]), before["cosine"].to_numpy().copy()
    going = judge(home, clusters.others(number, home), task.options.bound)
    stays["f0"][going.at], stays["f1"][going.at] = going.stays["f0"], going.stays["f1"]
    cosines[going.at] = going.cosines
    return pa.table([home.fates, as_table(stays)["uid"], cosines], schema=FATES)


def pair_task(task: NearDuplicateTask) -> Receipt:
    """Name the pairs that decide about the rows of a range that are still open."""
    started = time.perf_counter()
    n_rows = n_open = 0
    groups = []
    with Clusters(task, ROUNDS - 1) as clusters:
        for number, home in clusters:
            n_rows += len(home.rows)
            if (home.fates == Fate.OPEN).any():
                n_open += int((home.fates == Fate.OPEN).sum())
                others = clusters.others(number, home)
                groups.append(pair_table(joined(open_pairs(home, others, task.options.bound))))
    counts = Counts(n_rows, n_rows - n_open, {"open": n_open} if n_open else {})
    return write_part(task.part, NO_PAIRS.schema, groups, task.receipt(counts, started))


def settle_task(task: NearDuplicateTask) -> Receipt:
    """Settle what is open, and name all rows that go, in the order of their uids.

    Filters go by uid, so a row does not go while another one of its uid stays.
    """
    started = time.perf_counter()
    parts = [task.part_of(PAIR, number) for number in range(task.ranges)]
    late = settled(joined(pairs_of(read_part(part)) for part in parts))
    order = np.argsort(late.rows["place"])
    late = Pairs(*(column[order] for column in late))  # type: ignore[arg-type]  # each its own
    n_rows, gone = 0, [np.empty(0, GONE)]
    with Clusters(task, ROUNDS - 1) as clusters:
        for number in task.links.order.tolist():
            rows = clusters.gathered(number, ["uid", "place", "twin"])
            n_rows += len(rows)
            gone.append(gone_of(rows, clusters.fates(number), late))
    found = _of_whole_uids(np.concatenate(gone), task)
    once = found[starts_run(found)]
    rejected = {"near_duplicate": len(found)} if len(found) else {}
    receipt = task.receipt(Counts(n_rows, n_rows - len(found), rejected), started)
    groups = (
        gone_table(once[start : start + GROUP_ROWS]) for start in range(0, len(once), GROUP_ROWS)
    )
    return write_part(task.part, DUPLICATES, groups, receipt)


def _of_whole_uids(gone: Gone, task: NearDuplicateTask) -> Gone:
    """Return rows that go in the order of their uids, without uids of which another row stays."""
    gone = gone[sort_order(gone)]
    starts = np.flatnonzero(starts_run(gone))
    uids = gone[starts][list(KEY.names or ())].astype(KEY)
    pieces = (piece for unit in range(task.units) for piece in task.uids(unit))
    rows = np.concatenate([no_keys(), *(piece[among(uids, piece)] for piece in pieces)])
    rows = rows[sort_order(rows)]
    n_going = np.diff(starts, append=len(gone))
    n_rows = np.diff(np.flatnonzero(starts_run(rows)), append=len(rows))
    whole: Gone = gone[np.repeat(n_going == n_rows, n_going)]
    return whole
