"""The parts of a bucket group -> a few files in their place: compact."""

from pathlib import Path

import msgspec

from cah_dask.counts import Counts
from cah_dask.groups import group_name_of
from cah_dask.run.folder.compaction import REQUESTS_FOLDER, compact, drop_own_files
from cah_dask.run.folder.listing import PART
from cah_dask.run.tasks.crawl_task import CrawlTask
from cah_dask.storage import Receipt, read_receipt


def compact_task(task: CrawlTask) -> Receipt:
    """Bring the parts of one bucket group of one wave together, in a few files.

    Nothing in them tells when they were made: an attempt that follows a dead one leaves the same.
    """
    run_dir, group = Path(task.run_dir), task.unit.name
    units: dict[str, list[str]] = {}
    for unit in task.group_units():
        units.setdefault(unit.stage.folder, []).append(unit.name)
    units[REQUESTS_FOLDER] = _logs(task)
    if not task.part.exists():  # looked at last: what is complete may be gone from where it was
        receipt = task.receipt(Counts(), 0.0, inputs=tuple(units))
        compact(run_dir, group, units, msgspec.structs.replace(receipt, seconds=None))
    drop_own_files(run_dir, group)
    return read_receipt(task.part)


def _logs(task: CrawlTask) -> list[str]:
    """Return the names of all logs of requests of the bucket group of a task."""
    folder = Path(task.run_dir) / REQUESTS_FOLDER
    wave, _, _ = task.unit.name.partition("/")
    names = sorted(f"{wave}/{path.stem}" for path in (folder / wave).glob(f"b*{PART}"))
    return [name for name in names if group_name_of(name) == task.unit.name]
