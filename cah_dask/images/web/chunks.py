"""The lines between the chunks of an HTTP body, rewritten as a strict parser wants them.

The rules are those of Chromium (http_chunked_decoder.cc): a line may end with a bare LF, a size may
have blanks behind it, and what an extension says is passed over. What it does not read is handed on
as it is, for the parser to refuse.
"""

import re
from enum import Enum, auto

_LINE_BYTES = 16 << 10
"""Longest line that is read, as in Chromium (kMaxLineBufLen)."""
_SIZE = re.compile(rb"([0-9A-Fa-f]+) *(?:;.*)?", re.DOTALL)
_LARGEST = (1 << 63) - 1


class _Next(Enum):
    """Which line comes next."""

    SIZE = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    OTHER = auto()
    """Nothing of this body, or nothing that can be understood."""


class ChunkLines:
    """Rewrites one body, however it is cut on its way."""

    def __init__(self) -> None:
        self._next = _Next.SIZE
        self._left = 0
        """Bytes of a chunk that are still to come."""
        self._line = b""
        """What there is of a line."""

    def rewritten(self, data: bytes) -> bytes:
        """Return what can be handed on once these bytes have come."""
        pieces, at = [], 0
        while at < len(data):
            begin = at
            if self._next is _Next.OTHER:
                at = len(data)
                pieces.append(data[begin:])
            elif self._left:
                at = min(len(data), begin + self._left)
                self._left -= at - begin
                pieces.append(data[begin:at])
            else:
                at = data.find(b"\n", begin) + 1 or len(data)
                pieces.append(self._add(data[begin:at]))
        return b"".join(pieces)

    def _add(self, piece: bytes) -> bytes:
        """Take more of a line, and return it rewritten once it is whole."""
        self._line += piece
        is_whole = self._line.endswith(b"\n")
        if not is_whole and len(self._line) <= _LINE_BYTES:
            return b""
        line, self._line = self._line, b""
        text = self._read(line[:-1].removesuffix(b"\r")) if is_whole else None
        if text is None:
            self._next = _Next.OTHER
            return line
        return text + b"\r\n"

    def _read(self, line: bytes) -> bytes | None:
        """Return a line in its strict form, or None if it cannot be the next one."""
        match self._next:
            case _Next.SIZE:
                return self._read_size(line)
            case _Next.CHUNK_END:
                self._next = _Next.SIZE
                return None if line else b""
            case _:
                self._next = _Next.TRAILER if line else _Next.OTHER
                return line

    def _read_size(self, line: bytes) -> bytes | None:
        found = _SIZE.fullmatch(line)
        if found is None or (size := int(found[1], 16)) > _LARGEST:
            return None
        self._left = size
        self._next = _Next.CHUNK_END if size else _Next.TRAILER
        return b"%x" % size
