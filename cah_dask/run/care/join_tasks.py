"""What runs on a worker of `cah join`: a new release with columns of a table.

Pairs and rows of the table meet by ranges of their keys: each part of the release and each file of
the table is cut into ranges, each range is joined by itself, and what it gives is cut into parts
again. So neither has to fit into memory.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cah_dask.counts import Counts
from cah_dask.curate.care.tables import Key, TableFile, pair_keys
from cah_dask.curate.uid_ranges import as_keys, as_table, bounds
from cah_dask.errors import InputError, RunError
from cah_dask.keys import Keys, find, sort_order, starts_run
from cah_dask.pairs.select import SELECTION, checksum
from cah_dask.release.layout import ReleasedColumn, part_path
from cah_dask.run.derive import PACK
from cah_dask.run.stages import Kind, Stage
from cah_dask.run.task import Task
from cah_dask.run.unit import Unit
from cah_dask.schema import SELECTED, UID_BYTES
from cah_dask.storage import Receipt, file_sha256, open_part, read_part, write_part


def _stage(name: str, folder: str, kind: Kind, rows: str, after: str = "") -> Stage:
    task = f"cah_dask.run.care.join_tasks:{name}_task"
    return Stage(name=name, kind=kind, folder=folder, pool="cpu", task=task, rows=rows, after=after)


KEYS = _stage("keys", "keys", Kind.SHARD, "pairs")
READ = _stage("read", "read", Kind.SHARD, "table rows", "keys")
MATCH = _stage("match", "matched", Kind.BUCKET, "table rows", "read")
CHOOSE = _stage("choose", "chosen", Kind.SHARD, "pairs", "match")
JOIN = (KEYS, READ, MATCH, CHOOSE, PACK)
"""The job of `cah join`."""

GATHERED_ROWS = 1_000_000
"""Rows of a file that are cut into ranges together, so that row groups are few."""
GATHERED_BYTES = 128_000_000
"""Of their columns, likewise; sorting holds them twice."""

_KEY = pa.field("uid", pa.binary(UID_BYTES), nullable=False)
_ROW = pa.field("row", pa.int32(), nullable=False)
_PLACE = (pa.field("/file", pa.int32()), pa.field("/row", pa.int64()))
"""Where a row of a table stands; no wanted column has such a name."""
PLACED = pa.schema([_KEY, _ROW])
"""``keys/``: key and row in its part of each pair, one row group for each range of keys."""


class JoinTask(Task, frozen=True, kw_only=True):
    """All that a worker is told about one unit."""

    release: str
    shards: int
    """Parts of the release."""
    ranges: int
    on: Key
    columns: dict[str, str]
    released: tuple[ReleasedColumn, ...]
    """The wanted columns, as the new release has them."""
    file: str = ""
    """That `READ` reads."""
    files: tuple[str, ...] = ()
    """Names of all, for `MATCH`."""

    def part_of(self, stage: Stage, number: int) -> Path:
        """Return the part of a unit."""
        return Path(self.run_dir) / unit_of(stage, number).part


def unit_of(stage: Stage, number: int) -> Unit:
    """Return a unit of a stage by its number."""
    is_range = stage.kind is Kind.BUCKET
    return Unit(stage, bucket=number) if is_range else Unit(stage, number=number)


def keys_task(task: JoinTask) -> Receipt:
    """Cut the keys of one part of the release into ranges."""
    started = time.perf_counter()
    path = part_path(Path(task.release), task.unit.number)
    keys = pair_keys(read_part(path, columns=[task.on])[task.on], task.on, str(path))
    order = sort_order(keys)
    rows = pa.array(order.astype(np.int32))
    table = pa.table([as_table(keys[order])["uid"], rows], schema=PLACED)
    groups = _cut(table, keys[order], task.ranges)
    receipt = task.receipt(Counts(len(keys), len(keys)), started)
    return write_part(task.part, PLACED, groups, receipt)


def read_task(task: JoinTask) -> Receipt:
    """Cut key and wanted columns of the rows of one file into ranges, some rows at a time."""
    started = time.perf_counter()
    file = TableFile(Path(task.file), task.on, task.columns, task.released)
    try:
        n_rows = file.n_rows()
        inputs = (file_sha256(file.path),)
        receipt = task.receipt(Counts(n_rows, n_rows), started, inputs=inputs)
        schema = pa.schema([_KEY, *_PLACE, *file.schema])
        groups = _ranges_of(task, _gathered(file.batches()), schema)
        return write_part(task.part, schema, groups, receipt)
    except InputError as error:
        raise RunError(str(error)) from error


def _gathered(batches: Iterator[tuple[Keys, pa.Table]]) -> Iterator[tuple[Keys, pa.Table]]:
    """Yield batches joined up to `GATHERED_ROWS` or `GATHERED_BYTES`, whichever comes first."""
    keys, tables = [], []
    n_rows = n_bytes = 0
    for of_batch, columns in batches:
        keys.append(of_batch)
        tables.append(columns)
        n_rows += len(of_batch)
        n_bytes += columns.nbytes
        if n_rows >= GATHERED_ROWS or n_bytes >= GATHERED_BYTES:
            yield np.concatenate(keys), pa.concat_tables(tables)
            keys, tables = [], []
            n_rows = n_bytes = 0
    if keys:
        yield np.concatenate(keys), pa.concat_tables(tables)


def _ranges_of(
    task: JoinTask, batches: Iterator[tuple[Keys, pa.Table]], schema: pa.Schema
) -> Iterator[pa.Table]:
    """Yield of each batch a row group for each range of keys."""
    n_rows = 0
    for keys, columns in batches:
        order = sort_order(keys)
        rows = columns.take(pa.array(order))
        place = [pa.repeat(task.unit.number, len(keys)), pa.array(n_rows + order)]
        arrays = [as_table(keys[order])["uid"], *place, *rows.columns]
        yield from _cut(pa.table(arrays, schema=schema), keys[order], task.ranges)
        n_rows += len(keys)


def _cut(table: pa.Table, keys: Keys, ranges: int) -> list[pa.Table]:
    cuts = [0, *bounds(keys, ranges).tolist(), len(keys)]
    return [table.slice(a, b - a) for a, b in pairwise(cuts)]


def match_task(task: JoinTask) -> Receipt:
    """Join one range: leave the rows of each part that the table has, a row group for each part.

    Raises
    ------
    RunError
        If the table has a key twice.
    """
    started = time.perf_counter()
    number = task.unit.bucket
    rows = pa.concat_tables(_of_range(task, number))
    keys = as_keys(rows)
    order = sort_order(keys)
    keys, rows = keys[order], rows.take(pa.array(order))
    if (again := np.flatnonzero(~starts_run(keys))).size:
        raise RunError(_twice(task, rows.slice(again[0] - 1, 2).to_pylist()))
    rows = rows.drop_columns(["uid", *(field.name for field in _PLACE)])
    is_named = np.zeros(len(keys), bool)
    groups = []
    for part in range(task.shards):
        placed = read_part(task.part_of(KEYS, part), row_group=number)
        at = find(keys, as_keys(placed))
        is_named[at[at >= 0]] = True
        there = np.flatnonzero(at >= 0)
        found = rows.take(pa.array(at[there]))
        groups.append(found.add_column(0, _ROW, placed["row"].take(pa.array(there))))
    n_named = int(is_named.sum())
    rejected = {"no_such_pair": len(keys) - n_named} if n_named < len(keys) else {}
    receipt = task.receipt(Counts(len(keys), n_named, rejected), started)
    return write_part(task.part, groups[0].schema, groups, receipt)


def _twice(task: JoinTask, rows: Sequence[Mapping[str, Any]]) -> str:
    one, other = (f"row {row['/row'] + 1:,} of {task.files[row['/file']]}" for row in rows)
    return f"{one} and {other} have the same {task.on}; each may be there once"


def _of_range(task: JoinTask, number: int) -> Iterator[pa.Table]:
    for file in range(len(task.files)):
        with open_part(task.part_of(READ, file)) as part:
            yield part.read(range(number, part.n_row_groups, task.ranges))


def choose_task(task: JoinTask) -> Receipt:
    """Choose all rows of one part of the release, each with what the table has of it."""
    started = time.perf_counter()
    number = task.unit.number
    path = part_path(Path(task.release), number)
    uids = read_part(path, columns=["uid"])["uid"].to_pylist()
    parts = [task.part_of(MATCH, each) for each in range(task.ranges)]
    found = pa.concat_tables([read_part(part, row_group=number) for part in parts])
    at = np.full(len(uids), -1)
    at[found["row"].to_numpy()] = np.arange(len(found))
    columns = found.drop_columns("row").take(pa.array(at, mask=at < 0))
    name = path.relative_to(task.release).as_posix()
    rows = pa.array(np.arange(len(uids)), pa.int32())
    digests = [bytes.fromhex(uid) for uid in uids]
    chosen = pa.table(
        [pa.repeat(name, len(uids)), rows, pa.array(digests, _KEY.type), *columns.columns],
        schema=pa.schema([*SELECTED, *columns.schema]),
    )
    groups = [chosen] if len(chosen) else []
    notes = {SELECTION: checksum(groups), "joined": len(found)}
    counts = Counts(len(uids), len(uids), {}, notes)
    return write_part(task.part, chosen.schema, groups, task.receipt(counts, started))
