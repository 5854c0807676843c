"""The records of an archive, block by block: whatever is wrong with one costs no other.

FastWARC reads them. Where it stops before the end (at an empty member, at damage), the rest is gone
through member by member until there is a record again. A record that is not what it claims, such as
one of a wrong length, is read again out of its own gzip member.
"""

import io
from collections.abc import Callable, Collection, Generator, Iterator
from typing import BinaryIO, Generic, TypeVar

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from cah_dask.archives.block import (
    Block,
    CutError,
    hides_length,
    is_panic,
    kind_of,
    readable_kind,
)
from cah_dask.archives.lookup import is_frame
from cah_dask.archives.members import (
    MAGIC,
    MAX_RATIO,
    MAX_RECORD_BYTES,
    Member,
    holds_several,
    next_record,
    payload,
    read_member,
)
from cah_dask.archives.plain import Inflated, Plain
from cah_dask.archives.remote import open_stream
from cah_dask.errors import CahError, RecordError, RetryableError

_KINDS = {
    int(getattr(WarcRecordType, kind)): kind
    for kind in (
        "warcinfo", "response", "resource", "request", "metadata", "revisit", "conversion",
        "continuation",
    )
}  # fmt: skip
"""What FastWARC knows of types, if they are written as usual (ISO 28500: in any case)."""

T = TypeVar("T")


class Blocks(Generic[T]):
    """What is taken of the records of one archive, in its order; to be gone through once.

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
        kinds: Collection[str],
        take: Callable[[Block], T | None],
        *,
        keep: int = MAX_RECORD_BYTES + 1,
    ) -> None:
        """Read all records.

        Parameters
        ----------
        archive
            Its name.
        kinds
            WARC-Types that are looked at, in lower case.
        take
            Makes of a block what is yielded; None passes over it, a `RecordError` counts it as bad,
            a `CutError` has it read again out of its member.
        keep
            Bytes of a record that are held at most when it is read again.
        """
        self._archive = archive
        self._kinds = frozenset(kinds)
        self._take = take
        self._keep = keep
        self._start = self._offset = self._n_seen = 0
        self._n_wasted = self._reached = 0
        self._held: T | None = None
        self._held_bytes = 0
        self._go_on_at: int | None = None
        self._is_lenient = self._is_several = False
        self._file: BinaryIO | None = None
        self.n_records = self.n_bytes = 0
        """Records of these types so far, and the bytes of their blocks."""
        self.n_bad = 0
        """Records that are larger than any may be, or not what they claim to be."""
        self.errors: list[str] = []
        """What could not be read, and where."""
        self.knows_offsets = True
        """Whether all offsets so far are those of one record each; they are not where a gzip member
        holds several, and frames of LZ4 or Zstandard do not tell."""
        self.unsound: list[int] = []
        """Offsets of records that were yielded, and turned out to be cut behind what was read."""

    def __iter__(self) -> Generator[T, None, None]:
        try:
            with open_stream(self._archive) as file:
                self._file = file
                yield from self._read(file)
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise RetryableError(f"{self._archive} is out of reach from here: {error}") from error

    def reread_block(self) -> Block | None:
        """Return the record that was yielded last as its own gzip member has it.

        None if it has none, or a damaged one. What follows is read from its end on, so a record
        that claimed too much takes nothing from the next one.
        """
        member = self._member()
        if member is None or holds_several(member.data):
            return None
        self._go_on_at = member.end
        return self._block(member) if member.is_sound else None

    def _member(self) -> Member | None:
        """Read the gzip member of the last record; None if it has none.

        FastWARC may have to go on where it is, so the file is left there.
        """
        if self._file is None:
            return None
        position = self._file.tell()
        try:
            is_member = self._is_at_member(self._offset)
            return read_member(self._file, self._offset, self._keep) if is_member else None
        finally:
            self._file.seek(position)

    def _is_at_member(self, offset: int) -> bool:
        if self._file is None:
            return False
        self._file.seek(offset)
        return self._file.read(len(MAGIC)) == MAGIC

    def _read(self, file: BinaryIO) -> Iterator[T]:
        """Go through the archive, again and again from where there is a record.

        FastWARC is strict with members, as it would make rubbish and the record behind it into one.
        Where it stops at a record, that one is read out of its member. What has no member of its
        own is read by `Plain`; only frames need FastWARC's lenient way.
        """
        start: int | None = self._first(file)
        while start is not None:
            is_member, self._is_lenient = self._is_at_member(start), is_frame(file, start)
            if not (is_member or self._is_lenient):
                start = yield from self._read_plain(start, file)
                continue
            fault = yield from self._read_from(start, file)
            if self._is_several:
                self._go_on_at = yield from self._read_several(file)
            start = self._next(fault)

    def _read_plain(self, start: int, file: BinaryIO) -> Generator[T, None, int | None]:
        """Read records that are not packed; return where a gzip member with one follows, if any."""
        file.seek(start)
        plain = Plain(file, self.errors.append)
        yield from self._taken(plain)
        if plain.cut_at is not None:
            self.unsound.append(plain.cut_at)
        return plain.member_at

    def _read_several(self, file: BinaryIO) -> Generator[T, None, int | None]:
        """Read the records of the member at the present offset; return its end, None if damaged."""
        inflated = Inflated(file, self._offset)
        with io.BufferedReader(inflated) as stream:
            yield from self._taken(Plain(stream, self.errors.append, at=self._offset))
            return inflated.end

    def _taken(self, plain: Plain) -> Iterator[T]:
        """Yield what is taken of records that no member bounds."""
        for block in plain:
            self._offset = block.offset
            fault = self._hold(block) if block.kind in self._kinds else None
            if fault is not None:
                self._lose(fault)
            yield from self._released()

    def _first(self, file: BinaryIO) -> int:
        """Return where the first record begins, or what is not packed."""
        if not self._is_at_member(0):
            return 0
        start, n_lost = next_record(file, 0)
        if start is not None and n_lost:
            self.errors.append(f"{n_lost} bytes before the first record are none")
        self.knows_offsets = self._is_at_member(start or 0)
        return start or 0

    def _read_from(self, start: int, file: BinaryIO) -> Generator[T, None, str]:
        """Have FastWARC read from a record on; return why it stopped, "" at the end.

        It is left as soon as a record was read out of its member: it would be astray.
        """
        self._go_on_at, self._n_seen = None, 0
        self._start = self._offset = start
        self._held, self._is_several = None, False
        try:
            for taken in self._parsed(file):
                yield taken
                if self._was_read_apart():
                    break
        except CahError:
            raise
        except OSError as error:
            fault = str(error)
        except BaseException as error:
            if not is_panic(error):
                raise
            fault = f"FastWARC: {error}"
        else:
            return ""
        if self._n_seen:
            yield from self._doubted()
            return fault
        if not self._is_lenient:
            yield from self._mended(fault)
            return ""
        return fault

    def _was_read_apart(self) -> bool:
        """Tell whether the last record was read out of its member, so that FastWARC is astray."""
        return self._go_on_at is not None

    def _parsed(self, file: BinaryIO) -> Iterator[T]:
        """Have FastWARC read from the present offset on, one record ahead of what is yielded."""
        file.seek(self._offset)
        records = ArchiveIterator(
            file,
            record_types=WarcRecordType.any_type,
            parse_http=False,
            quirks_mode=self._is_lenient,
            fsspec_args=False,
        )
        for record in records:
            # Of the first one we know where it is; FastWARC is wrong if blanks precede it.
            offset = record.stream_pos if self._n_seen else self._offset
            if self._n_seen and offset == self._offset:
                self.knows_offsets = False
            yield from self._released()
            self._offset = offset
            self._n_seen += 1
            kind, n_left = self._kind(record), record.content_length
            if not n_left and hides_length(record.headers):
                yield from self._mended("FastWARC does not know where it ends, nor what follows")
                return
            if kind in self._kinds:
                block = Block(offset, kind, n_left, record.headers, record.reader)
                fault = self._hold(block)
                n_left = block.n_left
            else:
                fault = None if kind or self._is_lenient else "its head is unreadable"
            if fault is not None:
                yield from self._mended(fault)
                if not kind or self._was_read_apart() or self._is_several:
                    return
            elif n_left and _is_short(record, n_left):
                yield from self._doubted(is_cut=True)
                if self._was_read_apart():
                    return
        yield from self._released()

    def _kind(self, record: WarcRecord) -> str:
        """Return the WARC-Type of a record; "" if it is unreadable."""
        kind = _KINDS.get(int(record.record_type), "")
        return kind if kind in self._kinds else readable_kind(record.headers, kind)

    def _hold(self, block: Block) -> str | None:
        """Take a block; return what is wrong with its length, if anything is."""
        try:
            self._held = self._take(block)
        except CutError as fault:
            return str(fault)
        except RecordError:
            self.n_bad += 1
            return None
        self._held_bytes = block.n_bytes
        self.n_records += 1
        self.n_bytes += block.n_bytes
        return None

    def _released(self) -> Iterator[T]:
        """Yield what is held, if anything is."""
        held, self._held = self._held, None
        if held is not None:
            yield held

    def _doubted(self, *, is_cut: bool = False) -> Iterator[T]:
        """Yield the last record, behind which FastWARC found none, as its member has it.

        One of a wrong length ends where another one does not begin.
        """
        member = self._member()
        if member is None or holds_several(member.data):
            if is_cut:
                self.unsound.append(self._offset)
            yield from self._released()
        elif self._held is not None:
            self._go_on_at, self._held = member.end, None
            self.n_records -= 1  # it is counted again, or as bad
            self.n_bytes -= self._held_bytes
            yield from self._again(member)
        elif member.is_sound:
            self._go_on_at = member.end

    def _mended(self, fault: str) -> Iterator[T]:
        """Read a record out of its member, or count it as bad; `fault` says what was wrong."""
        member = self._member()
        if member is None:
            self._lose(fault)
            return
        if holds_several(member.data):
            self._is_several = True
            return
        self._go_on_at = member.end
        yield from self._again(member)

    def _again(self, member: Member) -> Iterator[T]:
        """Yield the last record out of its member, or count it as bad."""
        if not member.is_sound:
            self._lose()
            self._waste(member)
            return
        block = self._block(member)
        if block.kind in self._kinds:
            if self._hold(block) is not None:
                self.n_bad += 1
            yield from self._released()
        elif not block.kind:
            self.n_bad += 1

    def _lose(self, fault: str = "it is cut or damaged") -> None:
        """Count the last record as bad."""
        self.n_bad += 1
        if fault:
            self.errors.append(f"the record at byte {self._offset}: {fault}")

    def _waste(self, member: Member) -> None:
        """Note what was inflated of a damaged member, as others may begin within it."""
        self._n_wasted += member.n_bytes
        self._reached = max(self._reached, member.reached)

    def _block(self, member: Member) -> Block:
        fields, body = payload(member.data)
        return Block(self._offset, kind_of(fields), len(body), fields, io.BytesIO(body))

    def _end_of_last(self, file: BinaryIO) -> int | None:
        """Return where the member of the last record ends, None if it is cut or damaged.

        FastWARC knows where a member begins by its first record only, so where another one was the
        last, the members before it are gone through.
        """
        file.seek(self._offset)
        magic = file.read(len(MAGIC))
        if not magic:
            return self._offset
        position = self._offset if magic == MAGIC else self._start
        while position <= self._offset:
            member = read_member(file, position, keep=0)
            if not member.is_sound:
                self._waste(member)
                return None
            position = member.end
        return position

    def _next(self, fault: str) -> int | None:
        """Return where to go on once FastWARC has stopped, None at the end."""
        if self._file is None:
            return None
        if self._is_lenient:
            if fault:
                self.errors.append(f"unreadable after byte {self._offset}: {fault}")
            return None
        if self._n_wasted > MAX_RATIO * self._reached:
            self.errors.append(
                f"unreadable after byte {self._offset}: damaged members that begin in one another"
            )
            return None
        position = self._go_on_at
        if position is None and (position := self._end_of_last(self._file)) is None:
            self.unsound.append(self._offset)
            what = fault or "its gzip member is cut or damaged"
            self.errors.append(f"unreadable at byte {self._offset}: {what}")
            position = self._offset + len(MAGIC)
        start, n_lost = next_record(self._file, position)
        if n_lost:
            self.errors.append(f"{n_lost} bytes after byte {position} are no records")
        return start


def _is_short(record: WarcRecord, n_left: int) -> bool:
    """Pass over the rest of a record, and tell whether there is less of it than it says."""
    try:
        n_bytes: int = record.reader.consume(n_left)
    except OSError:
        return True
    return n_bytes < n_left
