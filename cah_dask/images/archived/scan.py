"""An archive, or a CDX file, -> the captures in it."""

from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from cah_dask.archives.block import Block
from cah_dask.archives.blocks import Blocks
from cah_dask.archives.plain import MAX_HEAD_BYTES
from cah_dask.images.archived.captures import (
    RESOURCE_STATUS,
    Capture,
    CaptureRows,
    seconds_of,
)
from cah_dask.images.archived.cdx import CdxLines, is_cdx
from cah_dask.schema import Counts

_KINDS = ("response", "resource", "revisit")
_HEAD_BYTES = 16  # as much of "HTTP/1.1 200 OK" as tells the code


@dataclass(frozen=True, slots=True)
class Scanned:
    """What one source holds."""

    captures: pa.Table
    """`schema.CAPTURES`, by bucket."""
    counts: Counts
    """Records or lines: rejected are those that are bad, or of no http url."""
    errors: tuple[str, ...]
    """What could not be read."""


def scan(place: str, name: str, buckets: int) -> Scanned:
    """Return the captures in an archive or CDX file.

    Parameters
    ----------
    place
        Path or url.
    name
        What an archive is called; a CDX file says itself what its archives are.

    Raises
    ------
    RetryableError, ShardError
        If it cannot be read.
    """
    rows = CaptureRows(buckets)
    source: CdxLines | Blocks[Capture]
    if is_cdx(place):
        source = CdxLines(place)
    else:
        source = Blocks(place, _KINDS, partial(_capture, name), keep=_HELD_BYTES)
    for capture in source:
        rows.add(capture)
    rejected = {"bad_record": source.n_bad, "no_http_url": rows.n_elsewhere}
    rejected = {reason: n for reason, n in rejected.items() if n}
    counts = Counts(rows.n_kept + sum(rejected.values()), rows.n_kept, rejected)
    return Scanned(rows.table(), counts, tuple(source.errors))


_HELD_BYTES = MAX_HEAD_BYTES + (64 << 10)  # of a record that is read again: its head is within


def _capture(archive: str, block: Block) -> Capture:
    fields = block.fields()
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
