"""Captures: which record of which archive holds an answer to a url, and which of several counts."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cah_dask.images.web.responses import has_body, is_redirect
from cah_dask.keys import Index
from cah_dask.schema import CAPTURES
from cah_dask.urls import absolute

GROUP_ROWS = 1 << 13
"""Rows of a row group: what is read to find one capture."""

NO_DATE = 0
"""Date of a record whose own cannot be read: the beginning of 1970."""
RESOURCE_STATUS = 200
"""Status of a record that is no answer of a server but the thing itself."""

_BATCH_ROWS = 1 << 15


class Key(NamedTuple):
    """What a url is found by: 64-bit hashes of its host and of all of it but its scheme.

    Browsers ask for http pictures of https pages by https, so either stands for both. The bucket of
    a host is its hash modulo the number of buckets, as for fetch lists.
    """

    host: int
    url: int


class Capture(NamedTuple):
    """A record that an archive holds of a url."""

    url: str
    """As the archive has it."""
    date: int
    """Seconds since 1970, UTC."""
    status: int
    """Of HTTP; 0 where only the record itself tells."""
    is_revisit: bool
    """Whether it only says that what it would hold is in another record."""
    digest: str
    """Of its payload, as the archive has it; "" if there is none."""
    archive: str
    """What its archive is called."""
    offset: int
    """Where it begins."""


def key_of(url: str) -> Key | None:
    """Return the key of an absolute url, however it is spelt; None if it leads to no host."""
    found = absolute(url)
    if found is None:
        return None
    return Key(_hash(found.host), _hash(found.href.partition("://")[2]))


def _hash(text: str) -> int:
    digest = hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "little")


def digest_hash(digest: str) -> int:
    """Return what a payload digest is compared by, with or without its algorithm; 0 for none."""
    value = digest.rpartition(":")[2].strip().upper()
    return _hash(value) if value.strip("-") else 0


def moment(date: str) -> datetime:
    """Return the time that a WARC-Date, or the 14 digits of a CDX file, tell; else that of 1970."""
    text = date.strip()
    if len(text) == 14 and text.isdigit():
        text = f"{text[:8]}T{text[8:]}Z"
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return datetime.fromtimestamp(NO_DATE, UTC)


def seconds_of(date: str) -> int:
    """Return the whole seconds of `moment`."""
    return int(moment(date).timestamp())


class CaptureRows:
    """Captures on their way into a table; those of urls that lead nowhere are only counted."""

    def __init__(self, buckets: int) -> None:
        self._buckets = buckets
        self._rows: list[tuple[int, ...]] = []
        self._archives: list[str] = []
        self._tables: list[pa.Table] = []
        self.n_kept = self.n_elsewhere = 0

    def add(self, capture: Capture) -> None:
        """Take one capture."""
        key = key_of(capture.url)
        if key is None:
            self.n_elsewhere += 1
            return
        self.n_kept += 1
        self._archives.append(capture.archive)
        digest = digest_hash(capture.digest)
        about = (capture.date, capture.status, capture.is_revisit, digest, capture.offset)
        self._rows.append((key.host % self._buckets, *key, *about))
        if len(self._rows) == _BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        columns = [*zip(*self._rows, strict=True)] or [()] * (len(CAPTURES) - 1)
        arrays = [
            pa.array(values, field.type)
            for field, values in zip(CAPTURES, columns, strict=False)  # the archives come last
        ]
        arrays.append(pa.array(self._archives, pa.string()).dictionary_encode())
        self._tables.append(pa.table(arrays, schema=CAPTURES))
        self._rows, self._archives = [], []

    def table(self) -> pa.Table:
        """Return all of them by bucket, within it as they came."""
        self._flush()
        table = pa.concat_tables(self._tables).unify_dictionaries().combine_chunks()
        return table.take(np.argsort(table["bucket"].to_numpy(), kind="stable"))


def row_groups(table: pa.Table) -> Iterator[pa.Table]:
    """Yield a table in pieces of a row group each."""
    starts = range(0, len(table), GROUP_ROWS)
    return (table.slice(start, GROUP_ROWS) for start in starts)


def in_order(tables: Sequence[pa.Table]) -> pa.Table:
    """Return captures by key, of one url the one that counts first; each record once.

    First comes what holds something: the newest one. Then revisits, redirects, all others: again
    the newest first. Of those of one second the one in the archive whose name comes first.
    """
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    column = {name: table[name].to_numpy() for name in CAPTURES.names if name != "archive"}
    names = table["archive"].combine_chunks()
    rank = _rank(names)
    order = np.lexsort(
        (
            column["offset"], rank, -column["date"],
            _classes(column["status"], column["is_revisit"]),
            column["url"], column["host"],
        )
    )  # fmt: skip
    same = [each[order] for each in (column["host"], column["url"], rank, column["offset"])]
    return table.take(order[is_first(same)])


def _rank(names: pa.DictionaryArray) -> Index:
    """Return, for each row, the place of its name among all names in order."""
    known = names.dictionary.to_pylist()
    place = {name: at for at, name in enumerate(sorted(set(known)))}
    ranks = np.array([place[name] for name in known] or [0], np.int64)
    found: Index = ranks[names.indices.to_numpy(zero_copy_only=False)]
    return found


def _classes(status: npt.NDArray[np.int16], is_revisit: npt.NDArray[np.bool_]) -> Index:
    """Return what kind of answer each row is, the best one as 0."""
    codes, at = np.unique(status, return_inverse=True)
    kinds: Index = np.array([_class(code) for code in codes.tolist()], np.int64)
    found: Index = kinds[at]
    found[is_revisit] = 1
    return found


def _class(status: int) -> int:
    return 0 if has_body(status) else 2 if is_redirect(status) else 3


def is_first(columns: Iterable[npt.NDArray[np.generic]]) -> npt.NDArray[np.bool_]:
    """Tell of each row whether it is not like the one before it in all columns."""
    differs: npt.NDArray[np.bool_] | None = None
    for column in columns:
        is_other = np.ones(len(column), bool)
        is_other[1:] = column[1:] != column[:-1]
        differs = is_other if differs is None else differs | is_other
    return np.empty(0, bool) if differs is None else differs
