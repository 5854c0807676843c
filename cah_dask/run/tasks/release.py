"""Selected pairs -> a shard of the release: pack."""

from pathlib import Path

from cah_dask.errors import RetryableError
from cah_dask.release.layout import read_layout
from cah_dask.release.pack import pack_shard
from cah_dask.run.tasks.crawl_task import CrawlTask
from cah_dask.storage import Receipt


def pack_task(task: CrawlTask) -> Receipt:
    """Write one shard of the release and the parquet part with the same rows.

    Raises
    ------
    RetryableError
        If another release is being made at that place now.
    """
    layout = read_layout(Path(task.release))
    if layout is None or layout.config != task.config_hash:
        raise RetryableError(f"{task.release} is not the release that this task belongs to")
    return pack_shard(Path(task.run_dir), Path(task.release), task.unit.number, task.slices)
