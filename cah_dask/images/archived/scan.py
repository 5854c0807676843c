"""An archive, or a CDX file, -> the captures in it."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.archives.block import Block, CutError
from cah_dask.archives.blocks import Blocks
from cah_dask.archives.lookup import block_at
from cah_dask.archives.members import MAGIC, content_length
from cah_dask.archives.plain import MAX_HEAD_BYTES
from cah_dask.archives.remote import is_remote, open_places
from cah_dask.counts import Counts
from cah_dask.errors import RecordError, RetryableError, ShardError
from cah_dask.images.archived.captures import (
    RESOURCE_STATUS,
    Capture,
    CaptureRows,
    seconds_of,
)
from cah_dask.images.archived.cdx import CdxLines, is_cdx
from cah_dask.words import few

_KINDS = ("response", "resource", "revisit")
_INFO = "warcinfo"
_BEGINNINGS = (MAGIC, b"WA")
_HELD_BYTES = MAX_HEAD_BYTES + (64 << 10)  # of a record that is read again: its head is within
_PLACE_BYTES = 64 << 10  # as much of a record as is asked for, to look whether it is there
_HEAD_BYTES = 16  # as much of "HTTP/1.1 200 OK" as tells the code


@dataclass(frozen=True, slots=True)
class Scanned:
    """What one source holds."""

    captures: pa.Table
    """`schema.CAPTURES`, by bucket."""
    counts: Counts
    """Records or lines: rejected are those that are bad, of no http url, or behind another one in
    its gzip member."""
    errors: tuple[str, ...]
    """What could not be read."""


def scan(place: str, label: str, buckets: int) -> Scanned:
    """Return the captures in an archive or CDX file.

    Parameters
    ----------
    place
        Path or url.
    label
        What an archive is called; what stands before the names of archives that a CDX file tells.

    Raises
    ------
    RetryableError, ShardError
        If it cannot be read, or is an archive without any record of these types.
    """
    rows = CaptureRows(buckets)
    if is_cdx(place):
        return _of_cdx(CdxLines(place), label, rows)
    return _of_archive(place, label, rows)


def _of_cdx(lines: CdxLines, label: str, rows: CaptureRows) -> Scanned:
    for capture in lines:
        rows.add(capture._replace(archive=f"{label}{capture.archive}"))
    return _scanned(rows, rows.table(), Counter(bad_record=lines.n_bad), lines.errors)


def _of_archive(place: str, name: str, rows: CaptureRows) -> Scanned:
    """Return the captures that a look-up finds, of records that are whole."""
    blocks = Blocks(place, (*_KINDS, _INFO), partial(_capture, name), keep=_HELD_BYTES)
    n_behind = 0
    with ExitStack() as stack:
        file = None if is_remote(place) else _opened(place, stack)
        for capture in blocks:
            if file is None and not blocks.knows_offsets:
                file = _opened(place, stack)
            if file is None or _is_found(file, capture, is_likely=blocks.knows_offsets):
                rows.add(capture)
            else:
                n_behind += 1
    if not blocks.n_records:
        why = f" ({blocks.errors[0]})" if blocks.errors else ""
        raise ShardError(f"{place} holds no records of a WARC archive{why}")
    found = rows.table()
    is_cut = pc.is_in(found["offset"], pa.array(blocks.unsound, pa.int64()))
    rejected = Counter(bad_record=blocks.n_bad, behind_another=n_behind)
    return _scanned(rows, found.filter(pc.invert(is_cut)), rejected, blocks.errors)


def _opened(place: str, stack: ExitStack) -> BinaryIO:
    try:
        return stack.enter_context(open_places(place, _PLACE_BYTES))
    except OSError as error:
        raise RetryableError(f"{place} is out of reach from here: {error}") from error


def _is_found(file: BinaryIO, capture: Capture, *, is_likely: bool) -> bool:
    """Tell whether a look-up at its offset gives a capture; two bytes do if it is likely."""
    file.seek(capture.offset)
    if is_likely and file.read(2) in _BEGINNINGS:
        return True
    try:
        return _capture(capture.archive, block_at(file, capture.offset, _HELD_BYTES)) == capture
    except (RecordError, CutError):
        return False


def _scanned(
    rows: CaptureRows, captures: pa.Table, rejected: Counter[str], errors: Sequence[str]
) -> Scanned:
    """Return what was found; rows that are not among the captures are bad ones."""
    rejected["bad_record"] += rows.n_kept - len(captures)
    rejected["no_http_url"] += rows.n_elsewhere
    counts = Counts(len(captures) + rejected.total(), len(captures), dict(+rejected))
    return Scanned(captures, counts, tuple(few(errors)))


def _capture(archive: str, block: Block) -> Capture | None:
    """Return what a record is a capture of, None for a warcinfo."""
    if block.kind == _INFO:
        return None
    fields = block.fields()
    if not block.n_bytes and content_length(fields) is None:
        raise CutError("it has no length")
    is_revisit = block.kind == "revisit"
    status = RESOURCE_STATUS if block.kind == "resource" else _status(block.read(_HEAD_BYTES))
    return Capture(
        url=block.url(),
        date=seconds_of(fields.get("warc-date", "")),
        status=0 if is_revisit else status,
        is_revisit=is_revisit,
        digest=fields.get("warc-payload-digest", ""),
        archive=archive,
        offset=block.offset,
    )


def _status(head: bytes) -> int:
    """Return the code of an HTTP status line; 0 if it has none."""
    words = head.split(maxsplit=2)
    is_http = len(words) > 1 and words[0].upper().startswith(b"HTTP")
    return int(words[1]) if is_http and words[1].isdigit() and len(words[1]) == 3 else 0
