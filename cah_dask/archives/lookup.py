"""One record of an archive at an offset that an index knows; never the one behind it.

No more is read than the record is long, or than is wanted of it: what a gzip member or a frame
holds beyond that is not inflated.
"""

import io
from typing import BinaryIO

from fastwarc.stream_io import Lz4Reader, ZstdReader

from cah_dask.archives.blocks import Block, kind_of
from cah_dask.archives.members import (
    MAGIC,
    content_length,
    head_end,
    holds_several,
    is_record,
    payload,
    read_start,
    warc_fields,
)
from cah_dask.errors import RecordError

_FRAMES = {b"\x04\x22\x4d\x18": Lz4Reader, b"\x28\xb5\x2f\xfd": ZstdReader}
_MAGIC_BYTES = 4
_MAX_HEAD_BYTES = 1 << 20
_PIECE_BYTES = 8 << 10


def block_at(file: BinaryIO, offset: int, keep: int) -> Block:
    """Return the record at an offset.

    Parameters
    ----------
    file
        The archive.
    offset
        Where a gzip member or another frame begins, or in an uncompressed archive a record.
    keep
        Bytes of a member that are inflated at most.

    Raises
    ------
    RecordError
        No record begins there, or what begins there is damaged.
    """
    file.seek(offset)
    magic = file.read(_MAGIC_BYTES)
    if magic.startswith(MAGIC):
        return _in_member(file, offset, keep)
    file.seek(offset)
    reader = _FRAMES.get(magic)
    try:
        return _in_stream(reader(file) if reader else file, offset)
    except OSError as error:
        if reader is None:
            raise
        raise RecordError(f"the record at byte {offset} is damaged: {error}") from error


def _in_member(file: BinaryIO, offset: int, keep: int) -> Block:
    data = read_start(file, offset, keep)
    if data is None:
        raise RecordError(f"the record at byte {offset} is cut or damaged")
    if not is_record(data):
        raise RecordError(f"no record begins at byte {offset}")
    fields, body = payload(data)
    length = content_length(fields)
    if length is not None and (holds_several(data) or len(data) == keep):
        body = body[:length]
    return Block(
        offset, kind_of(fields), len(body), fields=lambda: fields, read=io.BytesIO(body).read
    )


def _in_stream(stream: BinaryIO, offset: int) -> Block:
    start = b""
    while (end := head_end(start)) is None and len(start) < _MAX_HEAD_BYTES:
        piece = stream.read(_PIECE_BYTES)
        if not piece:
            break
        start += piece
        if not is_record(start):
            break
    if end is None or not is_record(start):
        raise RecordError(f"no record begins at byte {offset}")
    fields = warc_fields(start[:end])
    length = content_length(fields) or 0
    held = io.BytesIO(start[end:])

    def read(n_bytes: int) -> bytes:
        data = held.read(n_bytes)
        return data + stream.read(n_bytes - len(data)) if len(data) < n_bytes else data

    return Block(offset, kind_of(fields), length, fields=lambda: fields, read=read)
