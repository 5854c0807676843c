"""Records one behind the other in a stream, without a gzip member each that would bound them.

A record ends where it says, so nothing that it holds is taken for another one. Where none begins
there, the next is looked for behind it, and what was passed over is told.
"""

import io
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from cah_dask.archives.block import Block, kind_of
from cah_dask.archives.members import MEMBER, begins_record, content_length, warc_fields

MAX_HEAD_BYTES = 2 << 20
"""Longest head of a record that is read, in bytes."""

_CHUNK_BYTES = 1 << 16
_LINE_BYTES = 1 << 20
_BEGIN = re.compile(rb"[\xef\xbb\xbf\s\0]*(?=WARC/\d)")
_NOTHING = b"\r\n\t \0"


class Plain:
    """The records of a stream from its present position on; an iterator, to be gone through once.

    Each must be done with before the next is asked for, as they are read from the stream itself.
    """

    def __init__(
        self,
        stream: BinaryIO | io.BufferedReader,
        tell: Callable[[str], None],
        at: int | None = None,
    ) -> None:
        """Read records one by one.

        Parameters
        ----------
        stream
            What holds them.
        tell
            Is told what could not be read.
        at
            Offset that all of them have; None if each has its own, and gzip members may follow.
        """
        self._stream = stream
        self._tell = tell
        self._at = at
        self._position = stream.tell() if at is None else 0
        self.member_at: int | None = None
        """Where a gzip member follows, and no record of this stream."""
        self.cut_at: int | None = None
        """Where the last record begins if it is cut."""

    def __iter__(self) -> Iterator[Block]:
        while (line := self._next_begin()) is not None:
            offset = self._position - len(line)
            head = read_head(self._stream, line)
            if head is None:
                self._tell(f"the record at {self._place(offset)}: its head does not end")
                return
            self._position += len(head) - len(line)
            fields = warc_fields(head)
            length = content_length(fields)
            at = offset if self._at is None else self._at
            block = Block(at, kind_of(fields), length or 0, fields, self._stream)
            yield block
            if length is None:
                self._tell(
                    f"unreadable after the record at {self._place(offset)}: it says no length, so "
                    "nothing tells where it ends"
                )
                return
            if not self._pass(block.n_left):
                self.cut_at = at
                self._tell(f"the record at {self._place(offset)}: it is cut")
                return
            self._position += length

    def _place(self, position: int) -> str:
        if self._at is None:
            return f"byte {position}"
        return f"byte {position} of what the member at byte {self._at} holds"

    def _pass(self, n_bytes: int) -> bool:
        """Pass over the rest of a record; tell whether it is there."""
        while n_bytes > 0:
            data = self._stream.read(min(n_bytes, _CHUNK_BYTES))
            if not data:
                return False
            n_bytes -= len(data)
        return True

    def _next_begin(self) -> bytes | None:
        """Return the first line of the next record without what precedes it, None if none follows.

        What is passed over is counted and told, but for blanks and zeros.
        """
        behind, n_lost, is_line_start, before = self._position, 0, True, b""
        found: bytes | None = None
        while line := self._stream.readline(_LINE_BYTES):
            self._position += len(line)
            begin = _BEGIN.match(line) if is_line_start else None
            if begin is not None:
                found = line[begin.end() :]
                break
            self.member_at = self._member_in(before + line)
            if self.member_at is not None:
                n_lost += _n_something(line[: self.member_at - self._position])
                break
            n_lost += _n_something(line)
            is_line_start, before = line.endswith(b"\n"), line[-2:]
        if n_lost:
            self._tell(f"{n_lost} bytes after {self._place(behind)} are no records")
        return found

    def _member_in(self, data: bytes) -> int | None:
        """Return where a member with a record begins in the bytes before the present position."""
        if self._at is not None:
            return None
        begin, at = self._position - len(data), data.find(MEMBER)
        while at >= 0 and not begins_record(self._stream, begin + at):
            at = data.find(MEMBER, at + 1)
        if MEMBER in data:
            self._stream.seek(self._position)
        return begin + at if at >= 0 else None


def _n_something(data: bytes) -> int:
    """Count the bytes that are no blanks or zeros."""
    return len(data.translate(None, _NOTHING))


class Inflated(io.RawIOBase):
    """What one gzip member holds, as a stream that ends where it is damaged."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        file.seek(start)
        self._file = file
        self._inflater = zlib.decompressobj(31)
        self._position = start
        self._is_damaged = False

    @property
    def end(self) -> int | None:
        """Where the member ends; None if it is cut or damaged, or was not read so far."""
        if not self._inflater.eof:
            return None
        return self._position - len(self._inflater.unused_data)

    def readable(self) -> bool:
        """Say that this is a stream to read from."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Inflate some bytes into `buffer`; 0 at the end."""
        while not (self._inflater.eof or self._is_damaged):
            packed = self._inflater.unconsumed_tail
            if not packed:
                self._file.seek(self._position)
                packed = self._file.read(_CHUNK_BYTES)
                self._position += len(packed)
            try:
                data = self._inflater.decompress(packed, len(buffer))
            except zlib.error:
                break
            if data:
                buffer[: len(data)] = data
                return len(data)
            self._is_damaged = not packed
        self._is_damaged = not self._inflater.eof
        return 0


def read_head(stream: BinaryIO | io.BufferedReader, line: bytes) -> bytes | None:
    """Return the head of a record whose first line was read; None if it does not end."""
    head = bytearray(line)
    while line.strip(b"\r\n"):
        line = stream.readline(max(0, MAX_HEAD_BYTES - len(head)))
        if not line:
            return None
        head += line
    return bytes(head)
