"""The gzip members of an archive, read one by one where FastWARC finds no way through.

Every record is a member of its own, so what is wrong with one need not touch the next. A member
found here is inflated by zlib: slower by two thirds, but it says where the member ends.
"""

import re
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import BinaryIO, NamedTuple

MAX_RECORD_BYTES = 256 << 20
"""Largest record that is read, in bytes; WATs hold at most some megabytes a record."""

MAX_RATIO = 1032
"""Bytes that one of deflate can stand for at most (RFC 1951: 258 in two bits)."""

MAGIC = b"\x1f\x8b"
MEMBER = MAGIC + b"\x08"
"""How a member begins: with deflate, the only method there is."""
_CHUNK_BYTES = 1 << 16
_SCAN_BYTES = 1 << 20
_PROBE_BYTES = 512
_FIRST_BYTES = 64
_BEGINNING_BYTES = 64 << 10
_INFLATED_BYTES = 1 << 16
_RECORD = re.compile(rb"[\xef\xbb\xbf\s\0]*WARC/")
_NOT_BLANK = re.compile(rb"[\xef\xbb\xbf\s\0]*[^\xef\xbb\xbf\s\0W]")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_BLANK_LINE_AT_END = re.compile(rb"(?:\r?\n){1,2}\Z")
_BLANK = b"\r\n"
_LENGTH_DIGITS = 18
_LINE = re.compile(rb"[^\r\n]+")
_FIELDS = 10_000  # records have about ten


class Member(NamedTuple):
    """One gzip member: what it holds (no more than a record may), and if it is sound."""

    end: int
    """Where it ends; of one that is cut or damaged nobody knows, so just behind its magic."""
    data: bytes
    is_sound: bool
    reached: int
    """How far the file was read for it."""
    n_bytes: int
    """Bytes that were inflated, rather more."""


def read_member(file: BinaryIO, start: int, keep: int = MAX_RECORD_BYTES + 1) -> Member:
    """Inflate the member that begins at `start`; of one that is cut or damaged what there is.

    Of its data the first `keep` bytes are returned.
    """
    file.seek(start)
    inflater = zlib.decompressobj(31)
    pieces: list[bytes] = []
    room = keep
    reached, pending, n_bytes = start, b"", 0
    while not inflater.eof:
        if not pending:
            pending = file.read(_CHUNK_BYTES)
            reached += len(pending)
        try:
            piece = inflater.decompress(pending, _INFLATED_BYTES)
        except zlib.error:
            piece = pending = b""
            n_bytes += _INFLATED_BYTES
        if not (piece or pending):
            end = start + len(MAGIC)
            return Member(end, b"".join(pieces), is_sound=False, reached=reached, n_bytes=n_bytes)
        pending = inflater.unconsumed_tail
        n_bytes += len(piece)
        pieces.append(piece[:room])
        room -= len(pieces[-1])
    end = reached - len(inflater.unused_data)
    return Member(end, b"".join(pieces), is_sound=True, reached=reached, n_bytes=n_bytes)


def read_start(file: BinaryIO, start: int, keep: int) -> bytes | None:
    """Inflate what the member that begins at `start` holds, up to `keep` bytes and no further.

    None if it is cut or damaged before that.
    """
    file.seek(start)
    inflater, data = zlib.decompressobj(31), bytearray()
    while not inflater.eof and len(data) < keep:
        pending = inflater.unconsumed_tail or file.read(_CHUNK_BYTES)
        try:
            piece = inflater.decompress(pending, min(_INFLATED_BYTES, keep - len(data)))
        except zlib.error:
            return None
        if not (piece or pending):
            return None
        data += piece
    return bytes(data)


def next_record(file: BinaryIO, position: int) -> tuple[int | None, int]:
    """Return where the next member begins that holds a record, and how many bytes were no member.

    It may be cut or damaged behind its first bytes. Empty members (such as bgzip puts at the end of
    its files) and zeros are nothing, and do not count. None says that no record follows.
    """
    n_lost, reached = 0, position
    for start, first in _beginnings(file, position):
        if start < position:
            continue  # within a member that was gone through
        is_new = start >= reached  # else it may be part of what was inflated already
        if _RECORD.match(first) or (is_new and _begins_blank(file, start, first)):
            return start, n_lost + _n_not_zero(file, position, start)
        if not is_new:
            continue
        member = read_member(file, start, keep=_BEGINNING_BYTES)
        if member.is_sound:
            n_lost += _n_not_zero(file, position, start)
            n_lost += member.end - start if member.data.strip(b"\0" + _BLANK) else 0
            position = member.end
        else:
            reached = member.reached
    return None, n_lost + _n_not_zero(file, position)


def _begins_blank(file: BinaryIO, start: int, first: bytes) -> bool:
    """Tell whether a member whose first bytes are blank holds a record behind them."""
    return not _NOT_BLANK.match(first) and is_record(
        read_start(file, start, _BEGINNING_BYTES) or b""
    )


def _beginnings(file: BinaryIO, position: int) -> Iterator[tuple[int, bytes]]:
    """Yield where something begins that can be inflated for a while, and its first bytes."""
    held = b""
    while True:
        file.seek(position + len(held))
        data = file.read(_SCAN_BYTES)
        held += data
        n_looked_at = max(0, len(held) - _PROBE_BYTES) if data else len(held)
        at = held.find(MEMBER)
        while 0 <= at < n_looked_at:
            first = _first_bytes(held[at : at + _PROBE_BYTES])
            if first is not None:
                yield position + at, first
            at = held.find(MEMBER, at + 1)
        if not data:
            return
        position += n_looked_at
        held = held[n_looked_at:]


def _first_bytes(packed: bytes) -> bytes | None:
    """Inflate the beginning of a member; None if it is none."""
    try:
        return zlib.decompressobj(31).decompress(packed, _FIRST_BYTES)
    except zlib.error:
        return None


def _n_not_zero(file: BinaryIO, start: int, stop: int | None = None) -> int:
    """Count the bytes of a range that are not zero."""
    file.seek(start)
    n = 0
    while stop is None or start < stop:
        size = _SCAN_BYTES if stop is None else min(_SCAN_BYTES, stop - start)
        data = file.read(size)
        if not data:
            break
        n += len(data) - data.count(0)
        start += len(data)
    return n


def holds_several(member: bytes) -> bool:
    """Tell whether another record begins where the first one of a member says that it ends.

    The member bounds none of them then. What a record quotes within its length is its own.
    """
    end = head_end(member)
    length = content_length(warc_fields(member[:end])) if end else None
    return bool(end and length is not None and _RECORD.match(member, end + length))


def begins_record(file: BinaryIO, start: int) -> bool:
    """Tell whether a gzip member begins here that holds a record, as far as its first bytes say."""
    file.seek(start)
    first = _first_bytes(file.read(_PROBE_BYTES))
    return first is not None and (is_record(first) or _begins_blank(file, start, first))


def is_record(data: bytes) -> bool:
    """Tell whether a record begins here, but for a few bytes that are none."""
    return bool(_RECORD.match(data))


def payload(member: bytes) -> tuple[dict[str, str], bytes]:
    """Return the header fields of a record, by lower-case names, and its body.

    The body is what is there but for the blank line behind it, whatever the record says of its
    length.
    """
    end = head_end(member)
    fields, body = warc_fields(member[:end]), member[end:] if end else b""
    length = content_length(fields)
    if length and length <= len(body) and not body[length:].strip(_BLANK):
        return fields, body[:length]
    return fields, _BLANK_LINE_AT_END.sub(b"", body)


def head_end(record: bytes) -> int | None:
    """Return where the body of a record begins, None if its head does not end."""
    found = _HEAD_END.search(record, len(record) - len(record.lstrip(_BLANK)))
    return found.end() if found else None


def warc_fields(head: bytes) -> dict[str, str]:
    """Return the header fields of a record by lower-case names, of each name the first one."""
    fields: dict[str, str] = {}
    for line in islice(_LINE.finditer(head), 1, _FIELDS):
        name, colon, value = line[0].decode("utf-8", "replace").partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    return fields


def content_length(fields: Mapping[str, str]) -> int | None:
    """Return the length that a record claims, None if that is no number."""
    length = fields.get("content-length", "")
    is_number = length.isascii() and length.isdecimal() and len(length) <= _LENGTH_DIGITS
    return int(length) if is_number else None
