"""Candidate rows of one archive: gathered page by page, finished in batches, grouped by bucket.

Languages are found a batch at a time: CLD3's tables fill the processor's cache, so a text costs
half as much when it is not the only one (docs/benchmarks.md).
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import compress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cah_dask.candidates.dedup import host_bucket
from cah_dask.candidates.language import NO_LANGUAGE, Detector
from cah_dask.candidates.text import is_filename
from cah_dask.schema import CANDIDATES, Split

GROUP_ROWS = 2048
"""Rows after which a row group ends with its bucket. To read one bucket of a part costs 18 us for
each of its groups (the footer) and 0.9 us for each row of the group that is read."""

MAX_GROUP_ROWS = 8 * GROUP_ROWS
"""Rows of a row group at the most, when one bucket alone has more."""

_BATCH_ROWS = 1 << 14  # rows held as Python objects before they become Arrow
_CACHED = 1 << 15  # hosts, and texts such as "Facebook", that come again and again in an archive

_COLUMNS = pa.schema([field for field in CANDIDATES if field.name != "archive"])


class Pair(NamedTuple):
    """A new (text, url) pair and where it was found."""

    uid: bytes
    url: str
    host: str
    text: str
    license: str | None
    page_url: str
    record_offset: int
    link_index: int
    published_sha256: bytes | None = None


class RowBuilder:
    """Pairs are added in (record_offset, link_index) order; the wanted splits become rows."""

    def __init__(self, detector: Detector, splits: tuple[Split, ...], buckets: int) -> None:
        self._detector = detector
        self._splits = splits
        self._describe = lru_cache(_CACHED)(self._describe_text)
        self._bucket = lru_cache(_CACHED)(lambda host: host_bucket(host, buckets))
        self._pairs: list[Pair] = []
        self._batches: list[pa.RecordBatch] = []

    def add(self, pair: Pair) -> None:
        """Append one pair."""
        self._pairs.append(pair)
        if len(self._pairs) == _BATCH_ROWS:
            self._finish_batch()

    def groups(self, archive: str) -> "Groups":
        """Hand over all rows, as row groups."""
        self._finish_batch()
        return Groups(self._batches, archive)

    def _finish_batch(self) -> None:
        described = [self._describe(pair.text) for pair in self._pairs]
        wanted = [text.split in self._splits for text in described]
        pairs = list(compress(self._pairs, wanted))
        self._pairs.clear()
        if not pairs:
            return
        uid, url, host, text, *found_at = zip(*pairs, strict=True)
        about = zip(*compress(described, wanted), strict=True)
        columns = [list(map(self._bucket, host)), uid, url, text, *about, *found_at]
        arrays = [pa.array(v, f.type) for v, f in zip(columns, _COLUMNS, strict=True)]
        batch = pa.record_batch(arrays, schema=_COLUMNS)
        self._batches.append(batch.take(_by_bucket(batch)))

    def _describe_text(self, text: str) -> "_Description":
        names_file = is_filename(text)
        language = NO_LANGUAGE if names_file else self._detector.classify(text)
        return _Description(*language, names_file)


class _Description(NamedTuple):
    """What is known of a text; the name of a file has no language."""

    split: Split
    lang: str
    confidence: float
    is_reliable: bool
    is_filename: bool


class _Bounds(NamedTuple):
    """A row group: some rows of all those in a range of buckets."""

    first_bucket: int
    last_bucket: int
    start: int
    rows: int


class Groups(Sequence[pa.Table]):
    """Rows in (bucket, record_offset, link_index) order, one table a row group.

    A group is merged when it is asked for, so that the rows are in memory once and not twice.
    """

    def __init__(self, batches: Sequence[pa.RecordBatch], archive: str) -> None:
        """Take batches in reading order, each of them sorted by bucket."""
        self._batches = [(batch, batch["bucket"].to_numpy()) for batch in batches]
        self._archive = archive
        self._bounds = list(_bounds([buckets for _, buckets in self._batches]))
        self.n_rows = sum(map(len, batches))

    def __len__(self) -> int:
        return len(self._bounds)

    def __getitem__(self, index: int) -> pa.Table:  # type: ignore[override]  # no slices
        bounds = self._bounds[index]
        table = self._merge(bounds.first_bucket, bounds.last_bucket)
        table = table.slice(bounds.start, bounds.rows)
        at = CANDIDATES.get_field_index("archive")
        return table.add_column(at, CANDIDATES.field(at), pa.repeat(self._archive, len(table)))

    def _merge(self, first: int, last: int) -> pa.Table:
        parts = []
        for batch, buckets in self._batches:
            start = np.searchsorted(buckets, first, side="left")
            stop = np.searchsorted(buckets, last, side="right")
            parts.append(batch.slice(start, stop - start))
        table = pa.Table.from_batches(parts).combine_chunks()
        return table.take(_by_bucket(table))


def _by_bucket(rows: pa.Table | pa.RecordBatch) -> npt.NDArray[np.int64]:
    return np.argsort(rows["bucket"].to_numpy(), kind="stable")


def _bounds(sorted_buckets: list[npt.NDArray[np.int32]]) -> Iterator[_Bounds]:
    """Let each group end with a bucket, and cut those that are too long."""
    buckets, counts = np.unique(np.concatenate([[], *sorted_buckets]), return_counts=True)
    first, rows = 0, 0
    for bucket, count in zip(buckets.astype(int).tolist(), counts.tolist(), strict=True):
        rows += count
        if rows >= GROUP_ROWS or bucket == buckets[-1]:
            for start in range(0, rows, MAX_GROUP_ROWS):
                yield _Bounds(first, bucket, start, min(MAX_GROUP_ROWS, rows - start))
            first, rows = bucket + 1, 0
