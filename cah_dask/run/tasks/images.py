"""A fetch list -> an image shard, and an outcomes part that names it: download."""

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from cah_dask.blocklists.exclusion import Exclusion
from cah_dask.blocklists.optouts import load_optouts
from cah_dask.counts import Status
from cah_dask.errors import RetryableError
from cah_dask.images.archived.download import download_archived
from cah_dask.images.archived.index import ArchiveIndex, opened_index
from cah_dask.images.download import Downloaded, download_list
from cah_dask.images.manners.loans import Loans
from cah_dask.images.manners.pause import PAUSED
from cah_dask.images.outcomes import troubled_hosts
from cah_dask.images.published import expectations
from cah_dask.run.cluster.lending import exchange_with_driver
from cah_dask.run.folder.compaction import REQUESTS_FOLDER
from cah_dask.run.settings.pinned_lists import read_exclusion, read_hash_lists
from cah_dask.run.tasks.crawl_task import CrawlTask
from cah_dask.schema import OUTCOMES, PUBLISHED_SHA256
from cah_dask.storage import TEMPORARY, Receipt, side_file, staged, write_atomic, write_part

logger = logging.getLogger(__name__)


def download_task(task: CrawlTask) -> Receipt:
    """Fetch one list into an image shard; the outcomes part names the shard and comes last.

    Of several attempts the one that began last counts: an earlier one may be cut off from the
    network, and would report its own trouble as that of the web.

    Raises
    ------
    RetryableError
        If a later attempt has begun meanwhile; or if half of the list could not even be connected
        to, which speaks of this node's network, and there is another attempt to come; or if more
        urls are in archives that cannot be read than `max_lost_share` allows.
    """
    started = time.perf_counter()
    begun = task.part.with_name(f"{TEMPORARY}begun-{task.part.stem}")
    attempt = uuid.uuid4().hex
    write_atomic(begun, attempt.encode())
    samples = task.fetch_list(columns=["url", PUBLISHED_SHA256.name])
    urls = list(dict.fromkeys(samples["url"].to_pylist()))
    shard = task.part.with_name(f"{task.part.stem}-{attempt[:8]}.h5")
    download = _downloader(task, attempt, shard.stem)
    with staged(shard) as unfinished:
        made = download(
            urls,
            unfinished,
            task.config.download,
            task.config.decode,
            exclusion=_not_asked(task),
            hash_lists=read_hash_lists(task.config, task.folder.lists_dir),
            published=expectations(samples),
        )
    if begun.exists() and begun.read_text() != attempt:
        shard.unlink()
        raise RetryableError("a later attempt at this list has begun")
    if trouble := _trouble(task, made):
        shard.unlink()
        raise RetryableError(trouble)
    receipt = task.receipt(
        made.counts,
        started,
        inputs=(task.lists_part,),
        errors=made.errors,
        side=(side_file(shard),),
        hosts=troubled_hosts(made.outcomes),
        timings={PAUSED: round(1000 * made.paused_s)} if made.paused_s else {},
    )
    published = write_part(task.part, OUTCOMES, [made.outcomes], receipt)
    begun.unlink(missing_ok=True)
    if published.side != receipt.side:
        shard.unlink()  # another attempt was first, and its part names its own shard
    return published


def _downloader(task: CrawlTask, attempt: str, log: str) -> Callable[..., Downloaded]:
    """Return what takes a list from where its pictures are: the web, or archives."""
    folder, options = task.folder, task.config.download
    progress = folder.progress_path(task.unit.name)
    if options.source == "archives":
        path = Path(options.index) if options.index else folder.index_dir
        about = opened_index(path, options.index_id)
        place_of = cache(partial(about.place_of, root=options.archives_root))
        index = ArchiveIndex(path, about.buckets)
        return partial(download_archived, index=index, place_of=place_of, progress_file=progress)
    logs = Path(task.run_dir) / REQUESTS_FOLDER / task.part.parent.name
    return partial(
        download_list,
        pause_file=folder.pause_file,
        lists_at_once=task.lists_at_once,
        request_log=logs / f"{log}.parquet",
        robots_file=folder.robots_path(task.unit.bucket),
        loans=_loans(task, attempt),
        progress_file=progress,
    )


def _loans(task: CrawlTask, attempt: str) -> Loans | None:
    """Return the way to the other lists in flight; None if this one is always alone."""
    if task.lists_at_once == 1:
        return None
    buckets = task.config.dedup.buckets
    return Loans(exchange_with_driver(), attempt, bucket=task.unit.bucket, buckets=buckets)


def _not_asked(task: CrawlTask) -> Exclusion | None:
    """Return what must not be fetched, with the hosts that opted out since the run began."""
    exclusion = read_exclusion(task.config, task.folder.lists_dir)
    optouts = task.folder.optout_file
    if not optouts.exists():
        return exclusion
    exclusion = exclusion or Exclusion()
    added, faults = load_optouts(optouts)
    for fault in faults:
        logger.warning("%s; this line is ignored", fault)
    return replace(exclusion, optouts=added)


def _trouble(task: CrawlTask, made: Downloaded) -> str:
    """Return why a download must be tried again, from another node if there is one; else ""."""
    rejected, n_urls = made.counts.rejected, made.counts.seen
    n_unconnected = rejected.get(Status.CONNECT_ERROR, 0)
    if n_unconnected and 2 * n_unconnected >= n_urls and not task.is_last_attempt:
        return f"no route to {n_unconnected} of {n_urls} urls of a list"
    n_lost = rejected.get(Status.ARCHIVE_LOST, 0)
    may_be_lost = task.is_last_attempt and n_lost <= task.config.max_lost_share * n_urls
    if n_lost and not may_be_lost:
        return f"{n_lost} of {n_urls} urls of a list are lost: {made.errors[0]}"
    return ""
