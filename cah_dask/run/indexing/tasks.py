"""What runs on a worker of `cah index`: one source, or one bucket of hosts."""

import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.counts import Counts
from cah_dask.errors import RetryableError, ShardError
from cah_dask.images.archived.captures import in_order, row_groups
from cah_dask.images.archived.index import CAPTURES_FOLDER
from cah_dask.images.archived.scan import scan
from cah_dask.run.stages import Kind, Stage
from cah_dask.run.task import Task
from cah_dask.run.unit import Unit
from cah_dask.schema import CAPTURES
from cah_dask.storage import Receipt, open_part, write_part

SCAN = Stage(
    name="scan",
    kind=Kind.SHARD,
    folder="entries",
    pool="cpu",
    task="cah_dask.run.indexing.tasks:scan_task",
    rows="records",
)
SORT = Stage(
    name="sort",
    kind=Kind.BUCKET,
    folder=CAPTURES_FOLDER,
    pool="cpu",
    task="cah_dask.run.indexing.tasks:sort_task",
    rows="captures",
    after="scan",
    sees="scan",
)
INDEX = (SCAN, SORT)
"""The job of `cah index`."""


class IndexTask(Task, frozen=True, kw_only=True):
    """All that a worker is told about one unit."""

    name: str
    """What the source of the unit is called; "" for a bucket."""
    place: str
    """Where it lies."""
    label: str
    """What an archive is called; of a CDX file, see `About.label_of`."""
    n_sources: int
    buckets: int


def scan_task(task: IndexTask) -> Receipt:
    """Write down which records an archive, or the archives of a CDX file, hold of which urls."""
    started = time.perf_counter()
    try:
        found = scan(task.place, task.label, task.buckets)
    except (ShardError, RetryableError) as error:  # it is shown, and a url may hold a secret
        raise type(error)(str(error).replace(task.place, task.name)) from None
    errors = tuple(f"{task.name}: {error}" for error in found.errors)
    receipt = task.receipt(found.counts, started, inputs=(task.name,), errors=errors)
    return write_part(task.part, CAPTURES, row_groups(found.captures), receipt)


def sort_task(task: IndexTask) -> Receipt:
    """Bring the captures of one bucket together, sorted by what they are looked up by."""
    started = time.perf_counter()
    found = pa.concat_tables([CAPTURES.empty_table(), *_captures(task)])
    captures = in_order([found])
    n_alike = len(found) - len(captures)
    rejected = {"duplicate": n_alike} if n_alike else {}
    counts = Counts(len(found), len(captures), rejected)
    receipt = task.receipt(counts, started)
    return write_part(task.part, CAPTURES, row_groups(captures), receipt)


def _captures(task: IndexTask) -> Iterator[pa.Table]:
    """Yield what each source has of the bucket of a task."""
    bucket = task.unit.bucket
    for number in range(task.n_sources):
        with open_part(Path(task.run_dir) / Unit(SCAN, number=number).part) as part:
            for group in range(part.n_row_groups):
                least, greatest = part.bounds(group, "bucket")
                if least <= bucket <= greatest:
                    rows = part.read([group])
                    yield rows.filter(pc.equal(rows["bucket"], bucket))
