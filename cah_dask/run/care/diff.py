"""The job of `cah diff`: what two releases do not share.

Each part of either is read once, and leaves digests of its pairs, cut into ranges of uids; then
each range is compared by itself.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from cah_dask.counts import Counts
from cah_dask.curate.care.digests import compared, differences, kinds_of, record, records
from cah_dask.curate.uid_ranges import as_table, bounds, packed
from cah_dask.release.layout import Layout, layout_of_release
from cah_dask.release.manifest import Step, steps_before
from cah_dask.run.folder.job_folder import JobFolder
from cah_dask.run.jobs import Ended, Job, name_of
from cah_dask.run.stages import Kind, Stage
from cah_dask.run.stagewise import Committed, Stagewise
from cah_dask.run.task import Task
from cah_dask.run.unit import Unit
from cah_dask.schema import UID_BYTES
from cah_dask.storage import Receipt, read_part, write_part

ROWS_PER_RANGE = 500_000
"""Pairs of either release that are compared at once: 530 MB for thirty columns if half changed."""
MOST_RANGES = 1024

READ = Stage(
    name="read",
    kind=Kind.SHARD,
    folder="read",
    pool="cpu",
    task="cah_dask.run.care.diff:read_task",
    rows="pairs",
)
COMPARE = Stage(
    name="compare",
    kind=Kind.BUCKET,
    folder="compared",
    pool="cpu",
    task="cah_dask.run.care.diff:compare_task",
    rows="pairs of either",
    after="read",
)
DIFF = (READ, COMPARE)
"""The job of `cah diff`."""

ONLY_IN_ONE, ONLY_IN_OTHER, CHANGED = "only_in_a", "only_in_b", "changed"
"""Why a pair is not shared."""

DIFFERENCES = pa.schema(
    [
        pa.field("uid", pa.binary(UID_BYTES), nullable=False),
        pa.field("what", pa.string(), nullable=False),
    ]
)
"""``compared/``: the pairs that are not shared, a row group for each reason."""


class DiffTask(Task, frozen=True, kw_only=True):
    """All that a worker is told about one unit."""

    releases: tuple[str, str]
    layouts: tuple[Layout, Layout]
    columns: list[str]
    ranges: int

    def read(self, number: int) -> Path:
        """Return where the digests of a part are; parts of the second come after the first."""
        return Path(self.run_dir) / Unit(READ, number=number).part


def read_task(task: DiffTask) -> Receipt:
    """Leave the digests of the pairs of one part, cut into ranges."""
    started = time.perf_counter()
    number, n_first = task.unit.number, task.layouts[0].shards
    which, number = (0, number) if number < n_first else (1, number - n_first)
    found = records(Path(task.releases[which]), number, task.layouts[which], task.columns)
    cuts = np.split(found, bounds(found, task.ranges))
    schema = pa.schema([pa.field("record", pa.binary(found.itemsize), nullable=False)])
    groups = [
        pa.table(
            [pa.Array.from_buffers(schema.types[0], len(cut), [None, pa.py_buffer(cut.tobytes())])],
            schema=schema,
        )
        for cut in cuts
    ]
    receipt = task.receipt(Counts(len(found), len(found)), started)
    return write_part(task.part, schema, groups, receipt, statistics=False)


def compare_task(task: DiffTask) -> Receipt:
    """Compare one range of both releases."""
    started = time.perf_counter()
    n_first = task.layouts[0].shards
    n_all = n_first + task.layouts[1].shards
    one, other = (_range(task, range(n_first)), _range(task, range(n_first, n_all)))
    *found, n_of = differences(one, other, task.columns)
    reasons = (ONLY_IN_ONE, ONLY_IN_OTHER, CHANGED)
    rejected = {what: len(keys) for what, keys in zip(reasons, found, strict=True) if len(keys)}
    seen = len(one) + len(found[1])
    notes = {f"{CHANGED}/{name}": n for name, n in n_of.items()}
    counts = Counts(seen, seen - sum(rejected.values()), rejected, notes)
    groups = [
        pa.table([as_table(keys)["uid"], pa.repeat(what, len(keys))], schema=DIFFERENCES)
        for what, keys in zip(reasons, found, strict=True)
    ]
    return write_part(task.part, DIFFERENCES, groups, task.receipt(counts, started))


def _range(task: DiffTask, parts: range) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """Return the records of one range of some parts."""
    tables = (read_part(task.read(part), row_group=task.unit.bucket) for part in parts)
    data = b"".join(packed(table["record"]) for table in tables)
    return np.frombuffer(data, record(task.columns))


@dataclass(frozen=True)
class DiffJob(Job):
    """Two releases that are to be compared."""

    one: Path
    other: Path
    scratch: Path
    """Within it is kept what is done; it goes when all is."""

    def __post_init__(self) -> None:
        """Raise InputError if one of them is no release."""
        self.layouts  # noqa: B018  # they are read

    @cached_property
    def layouts(self) -> tuple[Layout, Layout]:
        """Of both."""
        return layout_of_release(self.one), layout_of_release(self.other)

    @cached_property
    def columns(self) -> list[str]:
        """What is compared."""
        return compared(*self.layouts)

    @cached_property
    def name(self) -> str:
        """What other releases do not have."""
        return name_of(*(layout.fingerprint for layout in self.layouts))

    @cached_property
    def folder(self) -> JobFolder:
        """Where it keeps what is done."""
        return JobFolder(self.scratch / self.name, DIFF)

    @cached_property
    def ranges(self) -> int:
        """In how many ranges pairs are compared, a power of two."""
        needed = -(-max(layout.rows for layout in self.layouts) // ROWS_PER_RANGE)
        return min(MOST_RANGES, 1 << max(0, needed - 1).bit_length())

    def plan(self, committed: Committed) -> Stagewise:
        """Return its units."""
        n_parts = sum(layout.shards for layout in self.layouts)
        return Stagewise({READ: n_parts, COMPARE: self.ranges}, committed)

    def task_of(self, unit: Unit, *, is_last_attempt: bool) -> DiffTask:
        """Return what a worker is told about a unit."""
        return DiffTask(
            run_dir=str(self.folder.path.resolve()),
            unit=unit,
            config_hash=self.name,
            is_last_attempt=is_last_attempt,
            releases=(str(self.one.resolve()), str(self.other.resolve())),
            layouts=self.layouts,
            columns=self.columns,
            ranges=self.ranges,
        )


class Difference(msgspec.Struct, frozen=True):
    """What two releases do not share."""

    rows: tuple[int, int]
    equal: int
    """Pairs that are in both with the same values and vectors."""
    only_in_a: int
    only_in_b: int
    changed: int
    changed_columns: dict[str, int]
    """Changed pairs by column or array; one may be changed in several."""
    columns_only_in_a: list[str]
    """Those of another type are in both of these."""
    columns_only_in_b: list[str]
    reasons: list[str]
    """What layouts and manifests tell of it, a line each."""

    @property
    def is_none(self) -> bool:
        """Whether they hold the same."""
        unshared = (self.only_in_a, self.only_in_b, self.changed)
        return not (any(unshared) or self.columns_only_in_a or self.columns_only_in_b)


def difference_of(job: DiffJob, ended: Ended) -> Difference:
    """Return what a job found, once it is complete."""
    counts = ended.counts[COMPARE.name]
    one, other = job.layouts
    own, theirs = kinds_of(one), kinds_of(other)
    n_of = {name.removeprefix(f"{CHANGED}/"): n for name, n in counts.notes.items() if "/" in name}
    return Difference(
        rows=(one.rows, other.rows),
        equal=counts.kept,
        only_in_a=counts.rejected.get(ONLY_IN_ONE, 0),
        only_in_b=counts.rejected.get(ONLY_IN_OTHER, 0),
        changed=counts.rejected.get(CHANGED, 0),
        changed_columns=n_of,
        columns_only_in_a=[name for name in own if own[name] != theirs.get(name)],
        columns_only_in_b=[name for name in theirs if own.get(name) != theirs[name]],
        reasons=list(_reasons(job)),
    )


def _reasons(job: DiffJob) -> Iterator[str]:
    """Yield what layouts and manifests tell of how the two came to differ."""
    one, other = job.layouts
    steps = steps_before(job.one), steps_before(job.other)
    names = ("A", "B")
    for base, which in ((one, 1), (other, 0)):
        for number, step in enumerate(steps[which]):
            if step.fingerprint == base.fingerprint:
                yield from (
                    f"{names[which]} was made of {names[1 - which]} by {_told(each)}"
                    for each in steps[which][number:]
                )
                return
    firsts = [found[0].fingerprint if found else "" for found in steps]
    if firsts[0] and firsts[0] == firsts[1]:
        for name, found in zip(names, steps, strict=True):
            yield from (f"{name} was made of the same {found[0].of} by {_told(e)}" for e in found)
    elif one.run and one.run == other.run:
        same = "the same" if one.config == other.config else "other"
        yield f"both are of one run, with {same} settings of select and pack"


def _told(step: Step) -> str:
    rejected: Mapping[str, int] = step.counts.rejected
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in rejected.items()) or "nothing left out"
    return f"{step.how}: {reasons}"
