"""One record of an archive at an offset that an index knows; never the one behind it.

No more is read than the record is long, or than is wanted of it: what a gzip member or a frame
holds beyond that is not inflated.
"""

import io
from typing import Any, BinaryIO

from fastwarc.stream_io import Lz4Reader, ZstdReader

from cah_dask.archives.block import Block, LostRecordError, is_panic, kind_of
from cah_dask.archives.members import (
    MAGIC,
    content_length,
    holds_several,
    is_record,
    payload,
    read_start,
    warc_fields,
)
from cah_dask.archives.plain import MAX_HEAD_BYTES, read_head
from cah_dask.errors import RecordError

_FRAMES = {b"\x04\x22\x4d\x18": Lz4Reader, b"\x28\xb5\x2f\xfd": ZstdReader}
_MAGIC_BYTES = 4


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
        No record begins there.
    LostRecordError
        What begins there is damaged, or the archive ends before it.
    """
    file.seek(offset)
    magic = file.read(_MAGIC_BYTES)
    if not magic:
        raise LostRecordError("the archive ends before that")
    if magic.startswith(MAGIC):
        return _in_member(file, offset, keep)
    file.seek(offset)
    if magic not in _FRAMES:
        return _in_stream(file, offset)
    try:
        return _in_stream(io.BufferedReader(_Frames(_FRAMES[magic](file))), offset)
    except OSError as error:
        raise LostRecordError(f"it is damaged: {error}") from error


def is_frame(file: BinaryIO, offset: int) -> bool:
    """Tell whether a frame of LZ4 or Zstandard begins at an offset."""
    file.seek(offset)
    return file.read(_MAGIC_BYTES) in _FRAMES


class _Frames(io.RawIOBase):
    """What frames of LZ4 or Zstandard hold."""

    def __init__(self, reader: Lz4Reader | ZstdReader) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data: bytes = self._reader.read(len(buffer))
        except BaseException as error:
            if is_panic(error):
                raise OSError(str(error)) from error
            raise
        buffer[: len(data)] = data
        return len(data)


def _in_member(file: BinaryIO, offset: int, keep: int) -> Block:
    data = read_start(file, offset, keep)
    if data is None:
        raise LostRecordError("it is cut or damaged")
    if not is_record(data):
        raise RecordError("no record begins there")
    fields, body = payload(data)
    length = content_length(fields)
    if length is not None and (holds_several(data) or len(data) == keep):
        body = body[:length]
    return Block(offset, kind_of(fields), len(body), fields, io.BytesIO(body))


def _in_stream(stream: BinaryIO | io.BufferedReader, offset: int) -> Block:
    line = stream.readline(MAX_HEAD_BYTES)
    head = read_head(stream, line) if line.startswith(b"WARC/") else None
    if head is None:
        raise RecordError("no record begins there")
    fields = warc_fields(head)
    return Block(offset, kind_of(fields), content_length(fields) or 0, fields, stream)
