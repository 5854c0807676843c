"""Candidate rows of one archive: gathered page by page, finished in batches, grouped by bucket.

Languages are found a batch at a time: CLD3's tables fill the processor's cache, so a text costs
half as much when it is not the only one (docs/benchmarks.md).
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cah_dask.candidates.dedup import host_bucket
from cah_dask.candidates.language import NO_LANGUAGE, Detector, Language
from cah_dask.candidates.text import is_filename
from cah_dask.schema import CANDIDATES, Split

GROUP_ROWS = 4096
"""Rows after which a row group ends with its bucket. Reading one bucket of a part reads one row
group: fewer rows cost more in footers than they save in rows that are not of the bucket."""

MAX_GROUP_ROWS = 4 * GROUP_ROWS
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


class RowBuilder:
    """Pairs are added in (record_offset, link_index) order; the wanted splits become rows."""

    def __init__(self, detector: Detector, splits: tuple[Split, ...], buckets: int) -> None:
        self._detector = detector
        self._splits = splits
        self._describe = lru_cache(_CACHED)(self._describe_text)
        self._bucket = lru_cache(_CACHED)(lambda host: host_bucket(host, buckets))
        self._pairs: list[Pair] = []
        self._columns: list[list[pa.Array]] = [[pa.array([], field.type)] for field in _COLUMNS]

    def add(self, pair: Pair) -> None:
        """Append one pair."""
        self._pairs.append(pair)
        if len(self._pairs) == _BATCH_ROWS:
            self._finish_batch()

    def groups(self, archive: str) -> "Groups":
        """Hand over all rows, as row groups."""
        self._finish_batch()
        columns = [_concatenate(chunks) for chunks in self._columns]
        return Groups(pa.table(columns, schema=_COLUMNS), archive)

    def _finish_batch(self) -> None:
        described = [self._describe(pair.text) for pair in self._pairs]
        rows = [
            (
                self._bucket(pair.host),
                pair.uid,
                pair.url,
                pair.text,
                language.split,
                language.lang,
                language.confidence,
                language.is_reliable,
                names_file,
                *pair[4:],
            )
            for pair, (language, names_file) in zip(self._pairs, described, strict=True)
            if language.split in self._splits
        ]
        self._pairs.clear()
        if rows:
            columns = zip(self._columns, _COLUMNS, zip(*rows, strict=True), strict=True)
            for chunks, field, values in columns:
                chunks.append(pa.array(values, field.type))

    def _describe_text(self, text: str) -> tuple[Language, bool]:
        """Return the language of a text, and whether it names a file; then it has no language."""
        names_file = is_filename(text)
        return NO_LANGUAGE if names_file else self._detector.classify(text), names_file


class Groups(Sequence[pa.Table]):
    """Rows in (bucket, record_offset, link_index) order, one table a row group.

    A group is made when it is asked for, so that the rows are in memory once and not twice.
    """

    def __init__(self, rows: pa.Table, archive: str) -> None:
        self._rows = rows
        self._archive = archive
        bucket = rows["bucket"].to_numpy()
        self._order = np.argsort(bucket, kind="stable")
        self._bounds = list(_group_bounds(bucket[self._order]))

    def __len__(self) -> int:
        return len(self._bounds)

    def __getitem__(self, index: int) -> pa.Table:  # type: ignore[override]  # no slices
        start, stop = self._bounds[index]
        table = self._rows.take(self._order[start:stop])
        at = CANDIDATES.get_field_index("archive")
        return table.add_column(at, CANDIDATES.field(at), pa.repeat(self._archive, len(table)))

    @property
    def n_rows(self) -> int:
        """Rows of all groups together."""
        return len(self._rows)


def _concatenate(chunks: list[pa.Array]) -> pa.Array:
    """Join chunks and let go of them."""
    joined = pa.concat_arrays(chunks)
    chunks.clear()
    return joined


def _group_bounds(bucket: npt.NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of the row groups of a sorted bucket column."""
    ends = np.append(np.flatnonzero(np.diff(bucket)) + 1, len(bucket))
    start = 0
    for end in ends.tolist():
        if end - start < GROUP_ROWS and end < len(bucket):
            continue
        for stop in (*range(start + MAX_GROUP_ROWS, end, MAX_GROUP_ROWS), end):
            if stop > start:
                yield start, stop
            start = stop
