"""The gzip members of an archive, read one by one where FastWARC finds no way through.

Every record of a WAT is a member of its own, so what is wrong with one need not touch the next. A
member found here is inflated by zlib: slower by two thirds, but it says where the member ends.
"""

import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

MAX_RECORD_BYTES = 256 << 20
"""Largest record that is read, in bytes; WATs hold at most some megabytes a record."""

MAGIC = b"\x1f\x8b"
_MEMBER = MAGIC + b"\x08"  # with deflate, the only method there is
_CHUNK_BYTES = 1 << 16
_SCAN_BYTES = 1 << 20
_PROBE_BYTES = 512
_INFLATED_BYTES = 1 << 20
_RECORD = re.compile(rb"[\xef\xbb\xbf\s\0]*WARC/")
_ANOTHER = re.compile(rb"\r?\n\r?\nWARC/\d\.\d\r?\n")
_ENDS_WITH_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_BLANK = b"\r\n"


class Member(NamedTuple):
    """One gzip member: what it holds (no more than a record may), and if it is sound."""

    end: int
    """Where it ends; of one that is cut or damaged nobody knows, so just behind its magic."""
    data: bytes
    is_sound: bool


def read_member(file: BinaryIO, start: int, keep: int = MAX_RECORD_BYTES + 1) -> Member:
    """Inflate the member that begins at `start`; of one that is cut or damaged what there is.

    Of its data the first `keep` bytes are returned.
    """
    file.seek(start)
    inflater = zlib.decompressobj(31)
    pieces: list[bytes] = []
    room = keep
    unsound_end = start + len(MAGIC)
    n_read, pending = 0, b""
    while not inflater.eof:
        if not pending:
            pending = file.read(_CHUNK_BYTES)
            n_read += len(pending)
        try:
            piece = inflater.decompress(pending, _INFLATED_BYTES)
        except zlib.error:
            return Member(unsound_end, b"".join(pieces), is_sound=False)
        if not (piece or pending):
            return Member(unsound_end, b"".join(pieces), is_sound=False)
        pending = inflater.unconsumed_tail
        pieces.append(piece[:room])
        room -= len(pieces[-1])
    return Member(start + n_read - len(inflater.unused_data), b"".join(pieces), is_sound=True)


def next_record(file: BinaryIO, position: int) -> tuple[int | None, int]:
    """Return where the next member begins that holds a record, and how many bytes were no member.

    Empty members (such as bgzip puts at the end of its files) and zeros are nothing, and do not
    count. None says that no record follows.
    """
    n_lost = 0
    for start in _beginnings(file, position):
        if start < position:
            continue  # within a member that was gone through
        member = read_member(file, start)
        if _RECORD.match(member.data):
            return start, n_lost + _n_not_zero(file, position, start)
        if member.is_sound:
            n_lost += _n_not_zero(file, position, start)
            n_lost += member.end - start if member.data.strip(b"\0" + _BLANK) else 0
            position = member.end
    return None, n_lost + _n_not_zero(file, position)


def _beginnings(file: BinaryIO, position: int) -> Iterator[int]:
    """Yield where something begins that can be inflated for a little while at least."""
    held = b""
    while True:
        file.seek(position + len(held))
        data = file.read(_SCAN_BYTES)
        held += data
        n_looked_at = max(0, len(held) - _PROBE_BYTES) if data else len(held)
        at = held.find(_MEMBER)
        while 0 <= at < n_looked_at:
            if _may_inflate(held[at : at + _PROBE_BYTES]):
                yield position + at
            at = held.find(_MEMBER, at + 1)
        if not data:
            return
        position += n_looked_at
        held = held[n_looked_at:]


def _may_inflate(start: bytes) -> bool:
    try:
        zlib.decompressobj(31).decompress(start, 1)
    except zlib.error:
        return False
    return True


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
    """Tell whether a member holds more than one record, so that it bounds none of them."""
    return bool(_ANOTHER.search(member))


def payload(member: bytes) -> tuple[dict[str, str], bytes]:
    """Return the header fields of a record, by lower-case names, and its body.

    The body is what is there, whatever the record says of its length.
    """
    head, _, body = _split(member.lstrip(_BLANK))
    fields: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    return fields, body.rstrip(_BLANK)


def _split(record: bytes) -> tuple[bytes, bytes, bytes]:
    found = _ENDS_WITH_BLANK_LINE.search(record)
    if found is None:
        return record, b"", b""
    return record[: found.start()], found[0], record[found.end() :]
