"""Exact deduplication, one host bucket at a time, without a service.

Equal pairs have equal hosts, so they meet in one bucket. Its task sorts their 128-bit keys, keeps
the first of equal ones in canonical order, and drops what earlier waves kept: sorted arrays, 16
bytes a row (`candidates.seen`). A second kind, of urls, tells which list fetched a url already.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cah_dask.blocklists.exclusion import Exclusion
from cah_dask.candidates.gather import HELD_ROWS, GatheredLists
from cah_dask.candidates.host_quotas import NO_QUOTAS, HostQuotas, beyond_quota
from cah_dask.counts import Counts, Reject
from cah_dask.keys import (
    Index,
    Keys,
    Mask,
    PlacedKeys,
    contains,
    find,
    from_digests,
    no_keys,
    of_texts,
    placed,
    sort_order,
    span,
    starts_run,
    unique,
)
from cah_dask.schema import BUCKET
from cah_dask.storage import open_part


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
    """Files of what must not be fetched: `kind:path`, kind one of uid, url, url_md5, host (with all
    names below it), md5 (of an image) and phrase (whole words of the text, in any case). Text (one
    a line), parquet or npy; text may be .gz."""


@dataclass(frozen=True, slots=True)
class Deduped:
    """What is left of one bucket of one wave, `schema.SAMPLES`.

    ``lists`` hold urls to fetch: at most `DedupOptions.list_urls` distinct ones each, rows in the
    order of the md5 of their url (so hosts are mixed), rows of one url together in canonical order.
    ``late`` tables of no more rows hold new texts of urls that earlier waves fetched. ``keys`` (of
    all rows kept) and ``urls`` (to fetch) are for the waves to come, sorted.
    """

    lists: Sequence[pa.Table]
    late: Sequence[pa.Table]
    keys: Keys
    urls: PlacedKeys
    counts: Counts


def host_bucket(host: str, buckets: int) -> int:
    """Return the bucket of a host: the first 8 bytes of its md5, little-endian, modulo `buckets`.

    The same on every machine and in every release; files on disk depend on it.
    """
    digest = hashlib.md5(host.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "little") % buckets


class Bucket:
    """One bucket of some candidates parts, in canonical order; read anew at each iteration."""

    def __init__(self, parts: Sequence[Path], number: int) -> None:
        self._parts = parts
        self._number = number

    def __iter__(self) -> Iterator[pa.Table]:
        return (read_bucket(part, self._number) for part in self._parts)


def read_bucket(path: Path, bucket: int) -> pa.Table:
    """Return the rows of one bucket of a candidates part, in canonical order, as `BUCKET`.

    Only the row groups that hold the bucket are read.

    See `storage.open_part` for errors.
    """
    with open_part(path) as part:
        groups = [
            group
            for group in range(part.metadata.num_row_groups)
            if _may_hold(part.metadata.row_group(group).column(0).statistics, bucket)
        ]
        table = part.read(groups)
    table = table.filter(pc.equal(table["bucket"], bucket))
    return table.drop_columns("bucket").cast(BUCKET)


def _may_hold(statistics: pq.Statistics | None, bucket: int) -> bool:
    if statistics is None or not statistics.has_min_max:
        return True
    return bool(statistics.min <= bucket <= statistics.max)


def dedup_bucket(  # noqa: PLR0913  # one input file or option each
    tables: Iterable[pa.Table],
    seen: Iterable[Keys],
    options: DedupOptions,
    exclusion: Exclusion | None = None,
    *,
    fetched: Iterable[PlacedKeys] = (),
    wave: int = 0,
    quotas: HostQuotas = NO_QUOTAS,
    held_rows: int = HELD_ROWS,
) -> Deduped:
    """Deduplicate one bucket of one wave against itself and all earlier waves.

    Parameters
    ----------
    tables
        The bucket of each archive of the wave, `BUCKET`, in canonical order. Of equal rows the
        first wins. Read more than once if large: give a `Bucket` rather than a generator.
    seen
        Keys that earlier waves kept: sorted arrays.
    exclusion
        Rows that must not be fetched.
    fetched
        `Deduped.urls` of earlier waves, likewise.
    wave
        The number of this one.
    quotas
        Urls of one host that may be fetched: the first ones by their md5. The others are as if they
        had not been seen, so a later wave may fetch them.
    held_rows
        Rows in memory at a time, about 250 bytes each; the tables of a larger bucket are read
        again for every so many rows. Keys take 100 bytes a row on top.

    Returns
    -------
    Deduped
        Its counts reject EXCLUDED rows first, then DUPLICATE ones, those SEEN_EARLIER, and at last
        those beyond the HOST_QUOTA.
    """
    rows = _read_keys(tables, options, exclusion, held_rows)
    order = rows.allowed[sort_order(rows.keys[rows.allowed])]
    distinct = order[starts_run(rows.keys[order])]
    new = distinct[~_in_any(seen, rows.keys[distinct])]
    kept = np.sort(new)
    image_wave, number = _where_fetched(fetched, rows.urls[kept])
    to_fetch = kept[image_wave < 0]
    beyond, notes = beyond_quota(rows.tables, to_fetch, rows.urls[to_fetch], quotas)
    if len(beyond):
        within = ~np.isin(kept, beyond)
        kept, image_wave, number = kept[within], image_wave[within], number[within]
        new = new[~np.isin(new, beyond)]
    urls, is_new = rows.urls[kept], image_wave < 0
    fresh_urls = unique(urls[is_new])
    image_wave[is_new] = wave
    number[is_new] = find(fresh_urls, urls[is_new]) // options.list_urls
    order = np.lexsort((urls["f1"], urls["f0"], image_wave))
    late, fresh = order[~is_new[order]], order[is_new[order]]

    def gathered(part: Index, bounds: Sequence[int]) -> GatheredLists:
        places = (image_wave[part], number[part])
        return GatheredLists(rows.tables, kept[part], bounds, places, held_rows=held_rows)

    return Deduped(
        lists=gathered(fresh, _bounds(number[fresh])),
        late=gathered(late, _bounds(np.arange(len(late)) // options.list_urls)),
        keys=rows.keys[new],
        urls=placed(fresh_urls, wave, np.arange(len(fresh_urls)) // options.list_urls),
        counts=_counts(rows, len(distinct), len(beyond), len(new), notes),
    )


class _Rows(NamedTuple):
    """All rows of a bucket, by their keys; the rows themselves can be read again."""

    tables: Iterable[pa.Table]
    keys: Keys
    urls: Keys
    allowed: Index


def _read_keys(
    tables: Iterable[pa.Table],
    options: DedupOptions,
    exclusion: Exclusion | None,
    held_rows: int,
) -> _Rows:
    held: list[pa.Table] | None = []
    n_rows = 0
    keys, urls, allowed = [no_keys()], [no_keys()], [np.empty(0, bool)]
    for table in tables:
        urls.append(of_texts(table["url"].to_pylist()))
        keys.append(_digests(table["uid"]) if options.key == "uid" else urls[-1])
        allowed.append(~exclusion.excludes(table) if exclusion else np.ones(len(table), bool))
        n_rows += len(table)
        if n_rows > held_rows and iter(tables) is not tables:
            held = None
        if held is not None:
            held.append(table)
    return _Rows(
        tables if held is None else held,
        np.concatenate(keys),
        np.concatenate(urls),
        np.flatnonzero(np.concatenate(allowed)),
    )


def _where_fetched(fetched: Iterable[PlacedKeys], urls: Keys) -> tuple[Index, Index]:
    """Return the wave and the number of the list that fetches each url, -1 if there is none yet.

    Keys in ascending order are found three times as fast.
    """
    order = sort_order(urls)
    ascending = urls[order]
    wave, number = np.full(len(urls), -1), np.full(len(urls), -1)
    for earlier in fetched:
        within = span(ascending, earlier)
        found = find(earlier, ascending[within])
        rows, places = order[within][found >= 0], earlier[found[found >= 0]]
        wave[rows], number[rows] = places["wave"], places["list"]
    return wave, number


def _bounds(number: Index) -> list[int]:
    """Return where the ascending `number` changes, with both ends."""
    if not len(number):
        return [0]
    return [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(number)]


def _counts(
    rows: _Rows, n_distinct: int, n_beyond: int, n_kept: int, notes: dict[str, int]
) -> Counts:
    n_rows, n_allowed = len(rows.keys), len(rows.allowed)
    rejected = {
        Reject.DUPLICATE: n_allowed - n_distinct,
        Reject.EXCLUDED: n_rows - n_allowed,
        Reject.HOST_QUOTA: n_beyond,
        Reject.SEEN_EARLIER: n_distinct - n_beyond - n_kept,
    }
    return Counts(n_rows, n_kept, {reason.value: n for reason, n in rejected.items() if n}, notes)


def _digests(column: pa.ChunkedArray) -> Keys:
    return from_digests(b"".join(column.to_pylist()))


def _in_any(seen: Iterable[Keys], keys: Keys) -> Mask:
    """Tell of each of some sorted keys whether it is in any of the sorted arrays."""
    found = np.zeros(len(keys), bool)
    for earlier in seen:
        within = span(keys, earlier)
        found[within] |= contains(earlier, keys[within])
    return found
