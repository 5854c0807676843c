"""A fetch list -> an image shard and the outcome of every url.

fetch -> decode -> shard, for thousands of hosts at once (`crawl`). What is kept depends on the
answers of the web, never on their order: images are laid out in the order of the list.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow as pa

from cah_dask.blocklists.exclusion import Exclusion
from cah_dask.blocklists.hashlists import HashLists, load_hash_lists
from cah_dask.counts import Counts
from cah_dask.images.crawl import Crawl, Work
from cah_dask.images.list_progress import progress_written
from cah_dask.images.manners.loans import Loans
from cah_dask.images.manners.pause import Pause
from cah_dask.images.manners.robots_cache import RobotsFile
from cah_dask.images.options import DownloadOptions, check_options
from cah_dask.images.outcomes import Ledger
from cah_dask.images.picture.decode import DecodeOptions
from cah_dask.images.picture.decoders import Decoders, Task
from cah_dask.images.picture_rules import PictureRules
from cah_dask.images.published import Expectations
from cah_dask.images.shards import ShardWriter
from cah_dask.images.web.budgets import Budget, Budgets
from cah_dask.images.web.clock import run
from cah_dask.images.web.fetch import Fetcher
from cah_dask.images.web.request_log import RequestLog


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What became of one fetch list."""

    outcomes: pa.Table
    """`schema.OUTCOMES`, one row per url, in the order given."""
    counts: Counts
    """Urls: kept are ok, rejected are by status; notes count requests, bytes and tries."""
    errors: tuple[str, ...] = ()
    """What could not be read of archives."""
    paused_s: float = 0.0
    """Seconds for which it was held back by the file of a pause."""


def download_list(  # noqa: PLR0913  who else is at work belongs to the run, not to its options
    urls: Sequence[str],
    shard: Path,
    options: DownloadOptions,
    decode: DecodeOptions,
    *,
    exclusion: Exclusion | None = None,
    hash_lists: HashLists | None = None,
    pause_file: Path | None = None,
    lists_at_once: int = 1,
    request_log: Path | None = None,
    robots_file: Path | None = None,
    loans: Loans | None = None,
    published: Expectations | None = None,
    progress_file: Path | None = None,
) -> Downloaded:
    """Download one fetch list, write its image shard, and say what became of every url.

    Runs an event loop of its own, in a thread of its own if this one has a loop (a notebook).

    Parameters
    ----------
    urls
        Distinct urls.
    shard
        Where to write the image shard: a temporary name, published by the caller. Its images are
        in the order of `urls`.
    exclusion
        Hosts that may not be asked, be it by a redirect (optout), and md5s of images that may
        never be stored (hash_listed); the other lists have done their work before the download.
    hash_lists
        What `options.hash_lists` hold, if that was read already.
    pause_file
        While this file exists no new request is made; looked at once a second.
    lists_at_once
        As many lists may be in flight in the whole run: this one has such a share of its budgets
        and of its requests to one address.
    request_log
        Where to write down every request (`schema.REQUESTS`), also when the download fails.
    robots_file
        What earlier lists of the bucket were told by robots.txt (`schema.ROBOTS`), if there were
        any: it is read, and replaced at the end, also when the download fails.
    loans
        The way to the other lists of the run, where there are any: hosts that redirects of several
        lists lead to are asked by one of them at a time.
    published
        The SHA-256 that images may have, of urls that may not give just any.
    progress_file
        Where to write down how far it is, for people (`list_progress`); gone at the end.

    Raises
    ------
    ConfigError
        If the options are not fit for a download, or a hash list cannot be read.
    RunError
        If so few hosts give an image, or so many have no name, that the fault must be on our side;
        the disk is full, or this process may not open more files.
    """
    check_options(options)
    options = msgspec.structs.replace(options, hosts=options.hosts.share(lists_at_once))
    log = None if request_log is None else RequestLog(request_log)
    with (
        Pause(pause_file) as pause,
        log or contextlib.nullcontext(),
        RobotsFile(robots_file) as robots,
        ShardWriter(shard) as writer,
    ):
        budgets = Budgets(
            Budget(options.requests_per_s, lists_at_once),
            Budget(options.bytes_per_s, lists_at_once),
        )
        ledger = Ledger(urls)
        listed = hash_lists or load_hash_lists(options.hash_lists)
        rules = PictureRules(
            exclusion or Exclusion(), listed, options.phash_distance, published or {}
        )
        work = Work(urls, ledger, writer, robots, rules)
        fetcher = Fetcher(options, budgets, log)
        with progress_written(progress_file, ledger, lambda: fetcher.n_bytes):
            notes = run(_download(work, options, decode, fetcher, pause, loans))
        writer.arrange(ledger.arrivals)
    return Downloaded(ledger.table(), ledger.counts(notes), paused_s=pause.paused_s)


async def _download(
    work: Work,
    options: DownloadOptions,
    decode: DecodeOptions,
    fetcher: Fetcher,
    pause: Pause,
    loans: Loans | None,
) -> dict[str, int]:
    decoders = decoders_of(options, decode, work.rules.listed)
    async with decoders, fetcher:
        await Crawl(work, options, decoders, fetcher, pause, loans).run()
    return {"requests": fetcher.n_requests, "bytes": fetcher.n_bytes}


def decoders_of(options: DownloadOptions, decode: DecodeOptions, listed: HashLists) -> Decoders:
    """Return the decoders of a list, which take all hashes that its lists are about."""
    takes_phash = decode.phash or listed.with_phash
    return Decoders(
        Task(msgspec.structs.replace(decode, phash=takes_phash), listed.with_sha1),
        processes=options.decoders,
        timeout_s=options.decode_timeout_s,
    )
