"""Tables of urls and texts as a source beside archives: one row is one image link.

Parquet, CSV and TSV (``.gz`` too) in the layouts of LAION, DataComp, cc2dataset and img2dataset, or
with columns of any name. Text is read line by line, so that a row that is none costs itself only.
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
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cah_dask.candidates.page_images import IMAGE, Link
from cah_dask.candidates.remote import Stream, is_remote, open_archive
from cah_dask.candidates.wat import Page
from cah_dask.errors import CahError, InputError, ShardError
from cah_dask.urls import NOWHERE

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".tsv", ".tsv.gz")
"""Ends of names that are tables."""

_COLUMNS = {
    "url": ("url", "URL", "image_url"),
    "text": ("text", "TEXT", "caption", "alt"),
    "page": ("page_url",),
    "license": ("license", "LICENSE"),
}
_BATCH_ROWS = 1 << 14
_BATCH_BYTES = 8 << 20  # of rows that are Python objects at a time
_CELL_CHARACTERS = 4 << 20  # of a CSV; what is longer, such as all behind a lost quote, is no row

_ROW_LINES = 100
"""Lines that a row of a CSV may span; more of them are behind a quote that is never closed."""
Row: TypeAlias = tuple[Any, Any, Any, Any]
"""Url, text, page and licence."""


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
    name: str, options: TableOptions, notes: Counter[str]
) -> Generator[tuple[int, Page], None, None]:
    """Yield the number of each row, and a page that holds nothing but its image.

    Parameters
    ----------
    notes
        Its ``bad_records`` count the lines that are no rows: with another number of cells than
        columns, or an endless one.

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
            for row in read(name, stream, options, notes):
                yield number, _page(*row)
                number += 1
    except (pa.ArrowInvalid, OSError, EOFError, zlib.error) as error:
        raise ShardError(f"{name} is unreadable after row {number}: {error}") from error


def _page(url: Any, text: Any, page: Any, license_: Any) -> Page:
    link = Link(IMAGE, _text(url), _text(text))
    made = Page(
        _text(page) or "", None, [link], is_reserved=False, find_license=lambda: _text(license_)
    )
    made.base = NOWHERE  # a url of a table is relative to nothing
    return made


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None


def _read_text(
    name: str, stream: Stream, options: TableOptions, notes: Counter[str]
) -> Iterator[Row]:
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
        n_swallowed, line = 0, reader.line_num
        for cells in _rows(reader, notes):
            n_lines, line = reader.line_num - line, reader.line_num
            if n_lines > _ROW_LINES:
                n_swallowed += n_lines
                notes["bad_records"] += n_lines
            elif len(cells) == len(columns):
                url, text, page, license_ = (None if at is None else cells[at] for at in picked)
                yield url, text, page, license_
            elif cells:
                notes["bad_records"] += 1
    if n_swallowed:
        raise ShardError(f"{name}: {n_swallowed} lines are lost within quotes that are not closed")


@contextlib.contextmanager
def _opened(stream: Stream) -> Iterator[BinaryIO]:
    if isinstance(stream, str):
        with Path(stream).open("rb") as file:
            yield file
    else:
        yield stream


def _rows(reader: Iterator[list[str]], notes: Counter[str]) -> Iterator[list[str]]:
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            notes["bad_records"] += 1


def _read_parquet(
    name: str, stream: Stream, options: TableOptions, _: Counter[str]
) -> Iterator[Row]:
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
    with pq.ParquetFile(stream, read_dictionary=columns) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
            for piece in _pieces(batch):
                cells = {column: piece.column(column).to_pylist() for column in columns}
                missing = [None] * len(piece)
                yield from zip(*(cells[c] if c else missing for c in picked), strict=True)


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
        if found is None and (kind in ("url", "text") or getattr(options, kind)):
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
