"""Parquet files in which any damage is found, whatever reads them and wherever it is.

The page checksums of parquet guard the data, but neither page headers nor the footer, whose damage
may move a row group or rename a column. So a finished file is sealed: between its last row group
and its footer, where no reader of parquet looks, stands a block with the CRC-32 of every row group,
then one of the block and the footer.

::

    PAR1 | row groups | JSON: [[start, stop, crc32], ...] | its length, crc32 | footer, length, PAR1
"""

import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
import pyarrow.parquet as pq

from cah_dask.errors import DamageError

_MAGIC = b"PAR1"
_TAIL_BYTES = 8  # length of the footer (little-endian, like all numbers here) and the magic
_SEAL_BYTES = 8  # length of the JSON and the checksum
_READ_BYTES = 1 << 20


class RowGroup(NamedTuple):
    """Where the bytes of a row group begin and end in its file, and their CRC-32."""

    start: int
    stop: int
    crc32: int


def seal(path: Path) -> None:
    """Put the checksums into a finished parquet file; what other readers see stays the same."""
    with path.open("rb+") as file:
        metadata = pq.read_metadata(file)
        footer_at, tail = _tail(file, path)
        starts = [_first_byte(metadata.row_group(n)) for n in range(metadata.num_row_groups)]
        ranges = zip(starts, [*starts[1:], footer_at], strict=False)
        groups = [RowGroup(start, stop, _crc32(file, start, stop)) for start, stop in ranges]
        block = msgspec.json.encode(groups)
        guarded = block + len(block).to_bytes(4, "little")
        checksum = zlib.crc32(tail[:-_TAIL_BYTES], zlib.crc32(guarded))
        file.seek(footer_at)
        file.write(guarded + checksum.to_bytes(4, "little") + tail)


def row_groups(file: BinaryIO, path: Path) -> list[RowGroup]:
    """Return the row groups of a sealed file whose footer and seal are as they were written.

    Raises
    ------
    DamageError
        If they are not, or the file was never sealed; `path` names it in the message.
    """
    footer_at, tail = _tail(file, path)
    file.seek(max(0, footer_at - _SEAL_BYTES))
    lengths = file.read(_SEAL_BYTES)
    n_bytes = int.from_bytes(lengths[:4], "little")
    if footer_at - _SEAL_BYTES - n_bytes < len(_MAGIC):
        raise DamageError(path, "its footer is damaged")
    file.seek(footer_at - _SEAL_BYTES - n_bytes)
    block = file.read(n_bytes)
    checksum = zlib.crc32(tail[:-_TAIL_BYTES], zlib.crc32(block + lengths[:4]))
    if checksum != int.from_bytes(lengths[4:], "little"):
        raise DamageError(path, "its footer is damaged")
    return msgspec.json.decode(block, type=list[RowGroup])


def require_sound(file: BinaryIO, path: Path, group: RowGroup) -> None:
    """Raise DamageError unless a row group is, byte for byte, what was written."""
    if _crc32(file, group.start, group.stop) != group.crc32:
        raise DamageError(path, f"bytes {group.start} to {group.stop} are not those written")


def _tail(file: BinaryIO, path: Path) -> tuple[int, bytes]:
    """Return where the footer begins, and the bytes from there to the end of the file."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _TAIL_BYTES))
    length, magic = (end := file.read(_TAIL_BYTES))[:4], end[4:]
    footer_at = size - _TAIL_BYTES - int.from_bytes(length, "little")
    if magic != _MAGIC or footer_at < len(_MAGIC):
        raise DamageError(path, "it has no parquet footer")
    file.seek(footer_at)
    return footer_at, file.read()


def _first_byte(group: pq.RowGroupMetaData) -> int:
    first = group.column(0)
    dictionary = first.dictionary_page_offset
    return int(first.data_page_offset if dictionary is None else dictionary)


def _crc32(file: BinaryIO, start: int, stop: int) -> int:
    file.seek(start)
    checksum = 0
    while start < stop:
        data = file.read(min(_READ_BYTES, stop - start))
        if not data:
            return -1  # the file is shorter than it was
        checksum = zlib.crc32(data, checksum)
        start += len(data)
    return checksum
