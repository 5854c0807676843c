"""The WAT records of an archive, one by one: whatever is wrong with one costs no other.

FastWARC reads them. Where it stops before the end (at an empty member, at damage), the rest is gone
through member by member until there is a record again. A record that is not what it claims, such as
one of a wrong length, is read again out of its own gzip member.
"""

import contextlib
import re
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from cah_dask.archives.members import (
    MAGIC,
    MAX_RECORD_BYTES,
    Member,
    holds_several,
    next_record,
    payload,
    read_member,
)
from cah_dask.archives.remote import is_remote, open_archive
from cah_dask.errors import CahError, RetryableError

_BEFORE_JSON = b"\xef\xbb\xbf \t\r\n"
_RECORD = re.compile(rb"[\xef\xbb\xbf\s]*WARC/")
_LOOK_BYTES = 64


class Record(NamedTuple):
    """One WAT record."""

    offset: int
    """Where its gzip member begins in the archive; in an uncompressed one, where it does itself."""
    url: str
    """Of the page that it is about."""
    data: bytes
    """JSON."""


class Records:
    """The WAT records of one archive in its order; an iterator, to be gone through once.

    Raises (while it is gone through)
    ---------------------------------
    ShardError
        The server of a remote archive refuses it.
    RetryableError
        A local archive is out of reach from this machine, or the server of a remote one stopped
        answering.
    """

    def __init__(
        self,
        archive: str,
        is_wanted: Callable[[bytes], object] = bool,
        most: int | None = None,
    ) -> None:
        """Read all records, or the first ones of any type up to `most`.

        Those whose JSON is not wanted are counted, and cost a tenth less time each.
        """
        self._archive = archive
        self._is_wanted = is_wanted
        self._most = most
        self._offset = self._n_seen = 0
        self._go_on_at: int | None = None
        self._is_several = False
        self._file: BinaryIO | None = None
        self.n_records = self.n_bytes = 0
        """WAT records so far, wanted or not, and the bytes of their JSON."""
        self.n_bad = 0
        """Records that are larger than any may be, or not what they claim to be."""
        self.errors: list[str] = []
        """What could not be read, and where."""

    def __iter__(self) -> Generator[Record, None, None]:
        try:
            with self._opened() as file:
                self._file = file
                yield from self._read(file)
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise RetryableError(f"{self._archive} is out of reach from here: {error}") from error

    @contextlib.contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        if is_remote(self._archive):
            with open_archive(self._archive) as stream:
                yield stream  # type: ignore[misc]  # a stream where the archive is remote
        else:
            with Path(self._archive).open("rb") as file:
                yield file

    def reread(self) -> bytes | None:
        """Return the JSON of the last record as its own gzip member has it.

        None if the member says the same, or nothing. What follows is read from its end on, so a
        record that claimed too much takes nothing from the next one.
        """
        member = self._member()
        if member is None:
            return None
        self._go_on_at = member.end
        return (_json(payload(member.data)[1]) or None) if member.is_sound else None

    def _member(self) -> Member | None:
        """Read the gzip member of the last record; None if it has none of its own."""
        if self._file is None or not self._is_at_member(self._offset):
            return None
        member = read_member(self._file, self._offset)
        self._is_several = holds_several(member.data)
        return None if self._is_several else member

    def _is_at_member(self, offset: int) -> bool:
        if self._file is None:
            return False
        self._file.seek(offset)
        return self._file.read(len(MAGIC)) == MAGIC

    def _read(self, file: BinaryIO) -> Iterator[Record]:
        """Go through the archive, again and again from where there is a record.

        FastWARC is strict with members, as it would make rubbish and the record behind it into one.
        Where it stops at a record, that one is read out of its member; only what is not gzipped, or
        several records in one member, needs its lenient way, which takes bare line ends.
        """
        start: int | None = self._first(file)
        while start is not None:
            is_lenient = not self._is_at_member(start)
            fault = yield from self._read_from(start, file, is_lenient=is_lenient)
            if not is_lenient and self._is_several:
                fault = yield from self._read_from(start, file, is_lenient=True)
            start = self._next(fault)

    def _first(self, file: BinaryIO) -> int:
        """Return where the first record begins, whatever stands before it."""
        if _RECORD.match(file.read(_LOOK_BYTES)):
            return 0
        start, n_lost = next_record(file, 0)
        if start is not None and n_lost:
            self.errors.append(f"{n_lost} bytes before the first record are none")
        return start or 0

    def _read_from(
        self, start: int, file: BinaryIO, *, is_lenient: bool
    ) -> Generator[Record, None, str]:
        """Have FastWARC read from a record on; return why it stopped, "" at the end.

        It is left as soon as a record was read out of its member: it would be astray.
        """
        self._go_on_at, self._offset, self._n_seen = None, start, 0
        self._is_several = False
        try:
            for record in self._parsed(file, is_lenient=is_lenient):
                yield record
                if self._was_read_apart():
                    break
        except CahError:
            raise
        except OSError as error:
            fault = str(error)
        except BaseException as error:
            if not _is_panic(error):
                raise
            fault = f"FastWARC: {error}"
        else:
            return ""
        if not self._n_seen and not is_lenient:
            yield from self._mended(fault)
            return ""
        return fault

    def _was_read_apart(self) -> bool:
        """Tell whether the last record was read out of its member, so that FastWARC is astray."""
        return self._go_on_at is not None

    def _parsed(self, file: BinaryIO, *, is_lenient: bool) -> Iterator[Record]:
        """Have FastWARC read from the present offset on."""
        file.seek(self._offset)
        records = ArchiveIterator(
            file,
            record_types=WarcRecordType.any_type,
            parse_http=False,
            quirks_mode=is_lenient,
            fsspec_args=False,
        )
        metadata, is_wanted = WarcRecordType.metadata, self._is_wanted
        for record in islice(records, self._most):
            if self._n_seen:  # of the first one we know it; FastWARC is wrong if blanks precede it
                self._offset = record.stream_pos
            self._n_seen += 1
            if record.record_type != metadata:
                kind = _type_of(record)
                if not kind and not is_lenient:
                    yield from self._mended("its head is unreadable")
                    return
                if kind != "metadata":
                    continue
            n_bytes = record.content_length
            data = _content(record) if n_bytes <= MAX_RECORD_BYTES else b""
            if len(data) < n_bytes or not data:
                yield from self._mended("it is cut" if n_bytes else "")
                if self._go_on_at is not None:
                    return
            elif data.startswith(b"{") or (data := _json(data)):
                self.n_records += 1
                self.n_bytes += len(data)
                if is_wanted(data):
                    yield Record(self._offset, _url(record.headers.get("WARC-Target-URI")), data)
            else:
                self.n_bad += 1

    def _mended(self, fault: str) -> Iterator[Record]:
        """Read a record out of its member, or count it as bad; `fault` says what was wrong."""
        member = self._member()
        if member is None:
            if not self._is_several:
                self.n_bad += 1
                if fault:
                    self.errors.append(f"the record at byte {self._offset}: {fault}")
            return
        self._go_on_at = member.end
        fields, body = payload(member.data)
        kind = fields.get("warc-type", "").lower()
        if member.is_sound and kind not in ("", "metadata"):
            return
        data = _json(body)
        if member.is_sound and kind and len(body) <= MAX_RECORD_BYTES and data:
            self.n_records += 1
            self.n_bytes += len(data)
            if self._is_wanted(data):
                yield Record(self._offset, _url(fields.get("warc-target-uri")), data)
            return
        self.n_bad += 1
        if not member.is_sound:
            self.errors.append(f"the record at byte {self._offset} is cut or damaged")

    def _next(self, fault: str) -> int | None:
        """Return where to go on once FastWARC has stopped, None at the end."""
        if self._file is None or self._most is not None:
            return None
        if not self._is_at_member(self._offset):  # uncompressed; members may follow
            start, _ = next_record(self._file, self._offset)
            if start is None and fault:
                self.errors.append(f"unreadable after byte {self._offset}: {fault}")
            return start
        position = self._go_on_at
        if position is None:
            member = read_member(self._file, self._offset, keep=0)
            position = member.end
            if not member.is_sound:
                what = fault or "its gzip member is cut or damaged"
                self.errors.append(f"unreadable at byte {self._offset}: {what}")
        start, n_lost = next_record(self._file, position)
        if n_lost:
            self.errors.append(f"{n_lost} bytes after byte {position} are no records")
        return start


def _is_panic(error: BaseException) -> bool:
    """Tell a fault of FastWARC's native code, which is no Exception, from an order to stop."""
    return type(error).__name__ == "PanicException"


def _content(record: WarcRecord) -> bytes:
    """Return the content of a record, nothing if FastWARC finds no way through it."""
    try:
        return record.reader.read()
    except OSError:
        return b""


def _type_of(record: WarcRecord) -> str:
    """Return the WARC-Type, whose field FastWARC knows in one spelling (ISO 28500: any).

    It is empty where FastWARC took a whole record with bare line ends for a field.
    """
    fields = [(str(name).lower(), str(value).strip()) for name, value in record.headers.items()]
    is_readable = not any("\n" in value for _, value in fields)
    return dict(fields).get("warc-type", "").lower() if is_readable else ""


def _json(data: bytes) -> bytes:
    """Return what may be JSON, without what stands before it; nothing if it is something else."""
    data = data.lstrip(_BEFORE_JSON)
    return data if data.startswith(b"{") else b""


def _url(value: str | None) -> str:
    """Return a WARC-Target-URI; older writers put it in angle brackets."""
    return (value or "").strip().removeprefix("<").removesuffix(">")
