"""Tables of urls and texts as a source beside archives: one row is one image link.

Parquet, CSV and TSV (``.gz`` too) in the layouts of LAION, DataComp, cc2dataset and img2dataset, or
with columns of any name.
"""

import contextlib
from collections.abc import Generator, Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from cah_dask.candidates.page_images import IMAGE, Link
from cah_dask.candidates.remote import Stream, is_remote, open_archive
from cah_dask.candidates.urls import NOWHERE
from cah_dask.candidates.wat import Page
from cah_dask.errors import CahError, InputError, ShardError

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".tsv", ".tsv.gz")
"""Ends of names that are tables."""

_COLUMNS = {
    "url": ("url", "URL", "image_url"),
    "text": ("text", "TEXT", "caption", "alt"),
    "page": ("page_url",),
    "license": ("license", "LICENSE"),
}
_BATCH_ROWS = 1 << 14
_BLOCK_BYTES = 1 << 22  # of a CSV, parsed at a time; a row must fit


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
        with contextlib.closing(read_table(name, options)) as rows:
            next(rows, None)
    except CahError as error:
        raise InputError(str(error)) from error


def read_table(name: str, options: TableOptions) -> Generator[tuple[int, Page], None, None]:
    """Yield the number of each row, and a page that holds nothing but its image.

    Raises
    ------
    ShardError
        The table cannot be read from here on, or lacks a column.
    RetryableError
        The server of a remote table stopped answering.
    """
    number = 0
    try:
        for columns in _batches(name, options):
            for row in zip(*columns, strict=True):
                yield number, _page(*row)
                number += 1
    except (pa.ArrowInvalid, OSError) as error:
        raise ShardError(f"{name} is unreadable after row {number}: {error}") from error


def _page(url: Any, text: Any, page: Any, license_: Any) -> Page:
    link = Link(IMAGE, _text(url), _text(text))
    made = Page(
        _text(page) or "", None, [link], is_reserved=False, find_license=lambda: _text(license_)
    )
    made.base = NOWHERE  # a url of a table is relative to nothing
    return made


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _batches(name: str, options: TableOptions) -> Iterator[list[list[Any]]]:
    """Yield url, text, page and license columns, some rows at a time."""
    with open_archive(name) as stream:
        if name.lower().endswith(".parquet"):
            with pq.ParquetFile(stream) as file:
                picked = _pick(file.schema_arrow.names, options, name)
                found = [column for column in picked if column]
                for batch in file.iter_batches(_BATCH_ROWS, columns=found, use_threads=False):
                    yield _lists(batch, picked)
        else:
            with _open_csv(name, stream, options) as reader:
                picked = _pick(reader.schema.names, options, name)
                for batch in reader:
                    yield _lists(batch, picked)


def _open_csv(name: str, stream: Stream, options: TableOptions) -> pc.CSVStreamingReader:
    names = [column for kind in _COLUMNS for column in _names(kind, options)]
    return pc.open_csv(
        pa.input_stream(stream, compression="gzip" if name.lower().endswith(".gz") else None),
        read_options=pc.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
        parse_options=pc.ParseOptions(
            delimiter="\t" if ".tsv" in name.lower() else ",", newlines_in_values=True
        ),
        convert_options=pc.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
    )


def _names(kind: str, options: TableOptions) -> tuple[str, ...]:
    named = getattr(options, kind)
    return (named,) if named else _COLUMNS[kind]


def _pick(columns: list[str], options: TableOptions, name: str) -> list[str | None]:
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
        picked.append(found)
    return picked


def _lists(batch: pa.RecordBatch, picked: list[str | None]) -> list[list[Any]]:
    missing = [None] * len(batch)
    return [batch.column(column).to_pylist() if column else missing for column in picked]
