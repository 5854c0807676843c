"""Tables of urls and texts as a source beside archives: one row is one image link.

Parquet, CSV and TSV (``.gz`` too) in the layouts of LAION, COYO, DataComp, cc2dataset, img2dataset
and our own releases, or with columns of any name. Text is read line by line, so that a row that is
none costs itself only.

A table may have been published: a row whose uid is that of its url and text keeps both as they
stand, else the uids of subset files would be those of no row.
"""

import contextlib
import csv
import gzip
import io
import itertools
import zlib
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cah_dask.archives.remote import Stream, is_remote, open_archive
from cah_dask.candidates.page import Page
from cah_dask.candidates.page_images import IMAGE, Link
from cah_dask.counts import Reject
from cah_dask.errors import CahError, InputError, ShardError
from cah_dask.keys import Keys, among, from_digests, holds
from cah_dask.schema import UID_BYTES, uid
from cah_dask.urls import NOWHERE

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".tsv", ".tsv.gz")
"""Ends of names that are tables."""

_COLUMNS = {
    "url": ("url", "URL", "image_url"),
    "text": ("text", "TEXT", "caption", "alt"),
    "page": ("page_url",),
    "license": ("license", "LICENSE"),
    "uid": ("uid",),
    "sha256": ("sha256",),
}
_REPEATED = ("url", "text", "page", "license")
"""Kinds whose cells may be equal in many rows."""
_UNKNOWN_LICENSE = "?"  # of LAION
_SHA256_BYTES = 32
_BATCH_ROWS = 1 << 14
_BATCH_BYTES = 8 << 20  # of rows that are Python objects at a time
_CELL_CHARACTERS = 4 << 20  # of a CSV; what is longer, such as all behind a lost quote, is no row

_ROW_LINES = 100
"""Lines that a row of a CSV may span; more of them are behind a quote that is never closed."""
Row: TypeAlias = tuple[Any, Any, Any, Any, Any, Any]
"""Url, text, page, licence, uid and SHA-256 of the image."""
Numbered: TypeAlias = tuple[int, Row]


class TableOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Names of the columns of tables, where they are not the usual ones."""

    url: str | None = None
    """Column of image urls. Default: url, URL or image_url."""
    text: str | None = None
    """Column of texts. Default: text, TEXT, caption or alt."""
    page: str | None = None
    """Column of the pages' urls, which may be missing. Default: page_url."""
    license: str | None = None
    """Column of licences, which may be missing. Default: license or LICENSE."""
    uid: str | None = None
    """Column of uids, which may be missing. Default: uid. A row whose uid is the md5 of text and
    url keeps both as they stand; any other uid is not believed."""
    sha256: str | None = None
    """Column of the SHA-256 of images as downloaded, which may be missing. Default: sha256."""
    verify: bool = True
    """Whether an image must have the SHA-256 that its row gives, if it gives one; what a server
    sends instead of it ends as `changed`."""
    subset: str | None = None
    """File of uids: rows with others are rejected as `not_in_subset`. DataComp's `.npy` is mapped,
    parquet (column uid) and text (one a line) are held in memory."""
    quoted: bool | None = None
    """Whether cells of a TSV may stand in quotes, as in a CSV. Default: if its header does; else a
    quote is a letter like any other, as in CC12M."""


def is_table(name: str) -> bool:
    """Tell whether an input is a table rather than an archive."""
    return name.lower().endswith(SUFFIXES)


def check_table(name: str, options: TableOptions) -> None:
    """Look at the columns of a local table; a remote one is taken on trust.

    Raises
    ------
    InputError
        It cannot be read, or lacks a column.
    """
    if is_remote(name):
        return
    try:
        with contextlib.closing(read_table(name, options, Counter())) as rows:
            next(rows, None)
    except CahError as error:
        raise InputError(str(error)) from error


def read_table(
    name: str, options: TableOptions, notes: Counter[str], subset: Keys | None = None
) -> Generator[tuple[int, Page], None, None]:
    """Yield the number of each row, and a page that holds nothing but its image.

    Parameters
    ----------
    notes
        Its ``bad_records`` count the lines that are no rows: with another number of cells than
        columns, or an endless one; ``bad_uids`` and ``bad_sha256`` what was not believed, and
        ``not_in_subset`` the rows that are left out.
    subset
        Sorted uids of the rows that are wanted, which may be mapped.

    Raises
    ------
    ShardError
        The table cannot be read from here on, or lacks a column.
    RetryableError
        The server of a remote table stopped answering.
    """
    number = 0
    read = _read_parquet if name.lower().endswith(".parquet") else _read_text
    try:
        with open_archive(name) as stream:
            for number, row in read(name, stream, options, _Notes(notes, subset)):
                yield number, _page(row, options, notes)
    except (pa.ArrowInvalid, OSError, EOFError, zlib.error) as error:
        raise ShardError(f"{name} is unreadable after row {number}: {error}") from error


class _Notes:
    """What is counted of rows that are not read, and which of them are wanted."""

    def __init__(self, notes: Counter[str], subset: Keys | None) -> None:
        self._notes = notes
        self._subset = subset

    def is_bad(self, lines: int = 1) -> None:
        """Count lines that are no rows."""
        self._notes["bad_records"] += lines

    def is_wanted(self, uid: Any) -> bool:
        """Tell whether the row with this uid is one of the subset; count it if it is not."""
        if self._subset is None:
            return True
        key = _digest(uid, UID_BYTES)
        is_wanted = key is not None and holds(self._subset, key)
        self._notes[Reject.NOT_IN_SUBSET] += not is_wanted
        return is_wanted

    def wanted(self, uids: pa.Array | None, rows: int) -> npt.NDArray[np.int64]:
        """Return which of some rows are of the subset; count the others."""
        if self._subset is None or uids is None:
            return np.arange(rows)
        digests = [_digest(value, UID_BYTES) for value in uids.to_pylist()]
        known = np.flatnonzero([digest is not None for digest in digests])
        keys = from_digests(b"".join(filter(None, digests)))
        wanted: npt.NDArray[np.int64] = known[among(self._subset, keys)]
        self._notes[Reject.NOT_IN_SUBSET] += rows - len(wanted)
        return wanted


def _page(row: Row, options: TableOptions, notes: Counter[str]) -> Page:
    url, text, page, license_ = (_text(cell) for cell in row[:4])
    known, sha256 = row[4:]
    made = Page(
        page or "",
        None,
        [Link(IMAGE, url, text)],
        is_reserved=False,
        find_license=lambda: None if license_ == _UNKNOWN_LICENSE else license_,
    )
    made.base = NOWHERE  # a url of a table is relative to nothing
    if known:
        made.is_published = uid(text or "", url or "") == _digest(known, UID_BYTES)
        notes["bad_uids"] += not made.is_published
    if sha256 and options.verify:
        made.sha256 = _digest(sha256, _SHA256_BYTES)
        notes["bad_sha256"] += made.sha256 is None
    return made


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None


def _digest(value: Any, n_bytes: int) -> bytes | None:
    """Return a digest that is given as bytes or in hex; None if it is none."""
    if isinstance(value, bytes) and len(value) == n_bytes:
        return value
    digits = _text(value) or ""
    try:
        return bytes.fromhex(digits) if len(digits) == 2 * n_bytes and digits.isalnum() else None
    except ValueError:
        return None


def _read_text(
    name: str, stream: Stream, options: TableOptions, notes: _Notes
) -> Iterator[Numbered]:
    """Yield the rows of a CSV or a TSV."""
    is_tsv = ".tsv" in name.lower()
    csv.field_size_limit(_CELL_CHARACTERS)
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(_opened(stream))
        if name.lower().endswith(".gz"):
            file = stack.enter_context(gzip.GzipFile(fileobj=file))
        lines = io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="")
        header = lines.readline()
        is_quoted = header.startswith('"') if options.quoted is None else options.quoted
        reader = csv.reader(
            itertools.chain([header], lines),
            delimiter="\t" if is_tsv else ",",
            quoting=csv.QUOTE_MINIMAL if is_quoted or not is_tsv else csv.QUOTE_NONE,
        )
        columns = next(reader, [])
        picked = [columns.index(c) if c else None for c in _pick(columns, options, name)]
        n_swallowed, line, number = 0, reader.line_num, 0
        for cells in _rows(reader, notes):
            n_lines, line = reader.line_num - line, reader.line_num
            if n_lines > _ROW_LINES:
                n_swallowed += n_lines
                notes.is_bad(n_lines)
            elif len(cells) == len(columns):
                row: Any = tuple(None if at is None else cells[at] for at in picked)
                if notes.is_wanted(row[4]):
                    yield number, row
                number += 1
            elif cells:
                notes.is_bad()
    if n_swallowed:
        raise ShardError(f"{name}: {n_swallowed} lines are lost within quotes that are not closed")


@contextlib.contextmanager
def _opened(stream: Stream) -> Iterator[BinaryIO]:
    if isinstance(stream, str):
        with Path(stream).open("rb") as file:
            yield file
    else:
        yield stream


def _rows(reader: Iterator[list[str]], notes: _Notes) -> Iterator[list[str]]:
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            notes.is_bad()


def _read_parquet(
    name: str, stream: Stream, options: TableOptions, notes: _Notes
) -> Iterator[Numbered]:
    """Yield the rows of a parquet file; equal cells are in memory once."""
    with pq.ParquetFile(stream) as file:
        schema = file.schema_arrow
        picked = _pick(schema.names, options, name)
        columns = [column for column in picked if column]
        for column in columns:
            if pa.types.is_nested(schema.field(column).type):
                raise ShardError(
                    f"{name}: column {column} holds {schema.field(column).type}, not text"
                )
    by_kind = dict(zip(_COLUMNS, picked, strict=True))
    repeated = [by_kind[kind] for kind in _REPEATED if by_kind[kind]]
    start = 0
    with pq.ParquetFile(stream, read_dictionary=repeated) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
            uids = batch.column(by_kind["uid"]) if by_kind["uid"] else None
            wanted = notes.wanted(uids, len(batch))
            numbers = iter((start + wanted).tolist())
            start += len(batch)
            for piece in _pieces(batch if len(wanted) == len(batch) else batch.take(wanted)):
                cells = {column: _cells(piece.column(column)) for column in columns}
                missing = [None] * len(piece)
                rows = zip(*(cells[c] if c else missing for c in picked), strict=True)
                yield from zip(itertools.islice(numbers, len(piece)), rows, strict=True)


def _cells(column: pa.Array) -> list[Any]:
    """Return a column as Python objects: texts as bytes if any of them is no UTF-8."""
    try:
        return column.to_pylist()  # type: ignore[no-any-return]  # pyarrow has no types
    except UnicodeDecodeError:
        plain = column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column
        return plain.cast(pa.binary()).to_pylist()  # type: ignore[no-any-return]  # likewise


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch where its rows would take too much memory as Python objects."""
    n_bytes = np.zeros(len(batch), np.int64)
    for column in batch.columns:
        n_bytes += _lengths(column)
    piece = np.cumsum(n_bytes) // _BATCH_BYTES
    starts = [0, *(np.flatnonzero(np.diff(piece)) + 1).tolist(), len(batch)]
    for start, stop in itertools.pairwise(starts):
        yield batch.slice(start, stop - start)


def _lengths(column: pa.Array) -> Any:
    """Return the bytes of each cell of a column of texts, 0 for those of anything else."""
    if not isinstance(column, pa.DictionaryArray):
        return 0
    lengths = pc.binary_length(column.dictionary).take(column.indices)
    return lengths.fill_null(0).to_numpy(zero_copy_only=False)


def _names(kind: str, options: TableOptions) -> tuple[str, ...]:
    named = getattr(options, kind)
    return (named,) if named else _COLUMNS[kind]


def _pick(columns: Sequence[str], options: TableOptions, name: str) -> list[str | None]:
    """Return the column of each kind, or None where an optional one is missing."""
    picked = []
    for kind in _COLUMNS:
        names = _names(kind, options)
        found = next((column for column in names if column in columns), None)
        if found is None and (_is_needed(kind, options) or getattr(options, kind)):
            raise ShardError(
                f"{name} has no column {' or '.join(names)}; it has {', '.join(columns)}. Name its "
                f"column with extract.table.{kind}"
            )
        if found is not None and list(columns).count(found) > 1:
            raise ShardError(
                f"{name} has more than one column {found}; it has {', '.join(columns)}"
            )
        picked.append(found)
    return picked


def _is_needed(kind: str, options: TableOptions) -> bool:
    return kind in ("url", "text") or (kind == "uid" and options.subset is not None)
