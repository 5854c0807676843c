"""What runs on a worker of `cah filter`: one unit of a pool, or one range of uids."""

import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from cah_dask.counts import Counts
from cah_dask.curate.filters import rules
from cah_dask.curate.filters.file import FilterFile, assets_of, made_from
from cah_dask.curate.filters.node import Test, Tools
from cah_dask.curate.filters.whole import TALLY, NearTally, Tally, TopFraction
from cah_dask.curate.pools.pool import Batch
from cah_dask.curate.pools.uids import keys_of
from cah_dask.curate.uid_ranges import UIDS, as_keys, as_table, cut
from cah_dask.keys import in_order, no_keys
from cah_dask.pairs.select import SELECTION, checksum
from cah_dask.run.pool_task import PoolTask
from cah_dask.run.stages import Kind, Stage
from cah_dask.run.unit import Unit
from cah_dask.schema import SELECTED
from cah_dask.storage import Receipt, read_part, write_part

Output: TypeAlias = Literal["uids", "rows", "counts"]
"""What a job leaves: sorted uids, the selected rows of each unit, or only numbers."""

Thresholds: TypeAlias = dict[str, dict[str, float]]
"""By the key of a whole-pool node, and by group."""


def _stage(name: str, kind: Kind, rows: str, after: str = "") -> Stage:
    task = f"cah_dask.run.filtering.tasks:{name}_task"
    return Stage(
        name=name, kind=kind, folder=f"{name}s", pool="cpu", task=task, rows=rows, after=after
    )


SCAN = _stage("scan", Kind.SHARD, "rows")
LOOK = _stage("look", Kind.SHARD, "rows", "scan")
KEEP = _stage("keep", Kind.SHARD, "rows", "look")
SORT = _stage("sort", Kind.BUCKET, "uids", "keep")
FILTER = (SCAN, LOOK, KEEP, SORT)
"""The job of `cah filter`."""


class FilterTask(PoolTask, frozen=True, kw_only=True):
    """All that a worker is told about one unit."""

    filter: FilterFile
    output: Output
    ranges: int
    near: Thresholds
    """What `look` looks for."""
    thresholds: Thresholds

    @property
    def drops_nulls(self) -> bool:
        """Whether rows with empty cells are left out rather than a fault."""
        return self.filter.nulls == "drop"

    def part_of(self, stage: Stage, number: int) -> Path:
        """Return the part of a unit."""
        return Path(self.run_dir) / Unit(stage, number=number).part


def scan_task(task: FilterTask) -> Receipt:
    """Count the scores of a unit that whole-pool nodes are about."""
    nodes = made_from(task.filter).whole
    return _tally(task, nodes, Tally(nodes, drops_nulls=task.drops_nulls))


def look_task(task: FilterTask) -> Receipt:
    """Count one by one the scores near a threshold."""
    nodes = [node for node in made_from(task.filter).whole if task.near.get(node.key)]
    return _tally(task, nodes, NearTally(nodes, task.near, drops_nulls=task.drops_nulls))


def _tally(task: FilterTask, nodes: list[TopFraction], tally: Tally | NearTally) -> Receipt:
    started = time.perf_counter()
    columns = sorted({column for node in nodes for column in node.columns})
    n_rows = 0
    for batch in task.read(task.unit.number, columns):
        n_rows += len(batch)
        tally.add(batch)
    receipt = task.receipt(Counts(n_rows, n_rows), started)
    return write_part(task.part, TALLY, [tally.table], receipt)


def keep_task(task: FilterTask) -> Receipt:
    """Ask all rows of a unit; leave the uids of those that are kept, or which rows they are."""
    started = time.perf_counter()
    made = made_from(task.filter)
    is_trial = task.output == "counts"
    tests = _tests(task.config_hash, *map(msgspec.json.encode, (task.filter, task.thresholds)))
    asked = rules.Rules(made, tests, is_trial=is_trial)
    left = _LEAVERS[task.output](task)
    for batch in task.read(task.unit.number, rules.columns(made), rules.vectors(made)):
        left.add(asked.keep(batch))
    groups = left.groups()
    counts = asked.counts
    if task.output == "rows":
        notes = {**counts.notes, SELECTION: checksum(groups)}
        counts = msgspec.structs.replace(counts, notes=notes)
    return write_part(task.part, left.schema, groups, task.receipt(counts, started))


@cache
def _tests(_: str, filter_: bytes, thresholds: bytes) -> list[tuple[str, Test]]:
    """Load what a filter needs, once per worker and job.

    Its arguments are what tells jobs from others, and JSON, because dicts have no hash.
    """
    file = msgspec.json.decode(filter_, type=FilterFile)
    found = msgspec.json.decode(thresholds, type=Thresholds)
    return rules.tests(made_from(file), Tools(assets_of(file), found))


class _Numbers:
    """Leaves nothing but the receipt."""

    schema = UIDS

    def __init__(self, task: FilterTask) -> None:
        self.task = task

    def add(self, batch: Batch) -> None:
        """Look at kept rows."""

    def groups(self) -> list[pa.Table]:
        """Return what the part holds."""
        return []


class _Uids(_Numbers):
    """Leaves the uids, sorted, a row group for each range."""

    def __init__(self, task: FilterTask) -> None:
        super().__init__(task)
        self._keys = [no_keys()]

    def add(self, batch: Batch) -> None:
        """Remember kept rows."""
        if len(batch):
            self._keys.append(keys_of(batch.table["uid"], batch.part))

    def groups(self) -> list[pa.Table]:
        """Return what the part holds."""
        return cut(in_order(np.concatenate(self._keys)), self.task.ranges)


class _Rows(_Numbers):
    """Leaves which rows of which parts they are, as a selection of a run does."""

    schema = SELECTED

    def __init__(self, task: FilterTask) -> None:
        super().__init__(task)
        self._tables: list[pa.Table] = []

    def add(self, batch: Batch) -> None:
        """Remember kept rows."""
        if len(batch):
            uids = as_table(keys_of(batch.table["uid"], batch.part))["uid"]
            part, rows = pa.repeat(batch.part, len(batch)), pa.array(batch.rows, pa.int32())
            self._tables.append(pa.table([part, rows, uids], schema=SELECTED))

    def groups(self) -> list[pa.Table]:
        """Return what the part holds."""
        return self._tables


_LEAVERS: Mapping[Output, type[_Numbers]] = {"counts": _Numbers, "uids": _Uids, "rows": _Rows}


def sort_task(task: FilterTask) -> Receipt:
    """Sort the uids of one range of all units."""
    started = time.perf_counter()
    number = task.unit.bucket
    parts = [task.part_of(KEEP, unit) for unit in range(task.units)]
    keys = in_order(np.concatenate([as_keys(read_part(part, row_group=number)) for part in parts]))
    counts = Counts(len(keys), len(keys))
    groups = [as_table(keys)]
    return write_part(task.part, UIDS, groups, task.receipt(counts, started))
