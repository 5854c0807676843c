"""Exact deduplication, one host bucket at a time, without a service.

Equal pairs have equal hosts, so they meet in one bucket. Its task sorts their 128-bit keys, keeps
the first of equal ones in canonical order, and drops what earlier waves kept: one sorted array per
wave and bucket, 16 bytes a row.
"""

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cah_dask.candidates.exclusion import Exclusion
from cah_dask.candidates.keys import (
    Index,
    Keys,
    Mask,
    contains,
    from_digests,
    of_texts,
    sort_order,
    starts_run,
)
from cah_dask.errors import RunError
from cah_dask.schema import SAMPLES, Counts, Reject


class DedupOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What counts as the same candidate, and how the work is cut."""

    buckets: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 256
    """Host buckets. One task deduplicates one bucket of one wave in memory, about 1 kB a row."""
    key: Literal["uid", "url"] = "uid"
    """What makes two candidates equal: `uid` is text and url, so an image keeps its captions;
    `url` keeps the first caption of each image (LAION-5B)."""
    list_urls: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    """Distinct urls of one fetch list at the most (crawling@home: 10,000 links a job)."""
    exclude: tuple[str, ...] = ()
    """Files of what must not be fetched: `kind:path`, see `exclusion.load_exclusion`."""


@dataclass(frozen=True, slots=True)
class Deduped:
    """What is left of one bucket of one wave.

    ``lists`` follow `schema.SAMPLES`: at most `DedupOptions.list_urls` distinct urls each, rows in
    the order of the md5 of their url (so hosts are mixed), rows of one url together in canonical
    order. ``keys`` are the sorted keys of all rows kept, for the waves to come.
    """

    lists: list[pa.Table]
    keys: Keys
    counts: Counts


def host_bucket(host: str, buckets: int) -> int:
    """Return the bucket of a host: the first 8 bytes of its md5, little-endian, modulo `buckets`.

    The same on every machine and in every release; files on disk depend on it.
    """
    digest = hashlib.md5(host.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "little") % buckets


def read_bucket(path: Path, bucket: int) -> pa.Table:
    """Return the rows of one bucket of a candidates part, in canonical order, as `SAMPLES`.

    Only the row groups that hold the bucket are read.

    Raises
    ------
    RunError
        If the part is damaged.
    """
    try:
        with pq.ParquetFile(path) as file:
            groups = [
                group
                for group in range(file.num_row_groups)
                if _may_hold(file.metadata.row_group(group).column(0).statistics, bucket)
            ]
            table = file.read_row_groups(groups, use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise RunError(f"{path} cannot be read: {error}; delete it and run again") from error
    table = table.filter(pc.equal(table["bucket"], bucket))
    return table.drop_columns("bucket").cast(SAMPLES)


def _may_hold(statistics: pq.Statistics | None, bucket: int) -> bool:
    if statistics is None or not statistics.has_min_max:
        return True
    return bool(statistics.min <= bucket <= statistics.max)


def dedup_bucket(
    tables: Iterable[pa.Table],
    seen: Iterable[Keys],
    options: DedupOptions,
    exclusion: Exclusion | None = None,
) -> Deduped:
    """Deduplicate one bucket of one wave against itself and all earlier waves.

    Parameters
    ----------
    tables
        The bucket of each archive of the wave, `SAMPLES`, in canonical order. Of equal rows the
        first wins.
    seen
        Keys that earlier waves kept, sorted, one array a wave.
    exclusion
        Rows that must not be fetched.

    Returns
    -------
    Deduped
        Its counts reject EXCLUDED rows first, then DUPLICATE ones, then those SEEN_EARLIER.
    """
    rows = pa.concat_tables([SAMPLES.empty_table(), *tables])
    keys = _digests(rows["uid"]) if options.key == "uid" else of_texts(rows["url"].to_pylist())
    allowed = np.arange(len(rows))
    if exclusion is not None:
        allowed = np.flatnonzero(~exclusion.excludes(rows))
    order = allowed[sort_order(keys[allowed])]
    distinct = order[starts_run(keys[order])]
    new = distinct[~_in_any(seen, keys[distinct])]
    return Deduped(
        _fetch_lists(rows, np.sort(new), options.list_urls),
        keys[new],
        _counts(len(rows), len(allowed), len(distinct), len(new)),
    )


def _counts(rows: int, allowed: int, distinct: int, new: int) -> Counts:
    rejected = {
        Reject.DUPLICATE: allowed - distinct,
        Reject.EXCLUDED: rows - allowed,
        Reject.SEEN_EARLIER: distinct - new,
    }
    return Counts(rows, new, {reason.value: n for reason, n in rejected.items() if n})


def _digests(column: pa.ChunkedArray) -> Keys:
    return from_digests(b"".join(column.to_pylist()))


def _in_any(seen: Iterable[Keys], keys: Keys) -> Mask:
    found = np.zeros(len(keys), bool)
    for earlier in seen:
        found |= contains(earlier, keys)
    return found


def _fetch_lists(rows: pa.Table, kept: Index, list_urls: int) -> list[pa.Table]:
    """Cut the kept rows, in the order of the md5 of their url, after every `list_urls` urls."""
    urls = of_texts(rows["url"].take(kept).to_pylist())
    order = sort_order(urls)
    number = (np.cumsum(starts_run(urls[order])) - 1) // list_urls
    table = rows.take(kept[order])
    bounds = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(table)]
    return [table.slice(a, b - a) for a, b in itertools.pairwise(bounds) if b > a]
