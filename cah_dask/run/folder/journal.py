"""The journal of a run: the receipts of all parts in the order of their commit, a line each.

It is a cache, so that a resumed run need not open a million files: what is missing from it, torn
off its end or damaged is read from the parts again. Each line ends with its own checksum. It has
a line for each of millions of units, so versions are written once, and no reader holds all of it.
"""

import os
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from cah_dask.storage import Receipt, disk_errors

_CHECKSUM = b',"crc32":"'


class Commit(msgspec.Struct, frozen=True, tag="commit"):
    """One line of the journal: a unit is done."""

    at: datetime
    stage: str
    unit: str
    worker: str
    seconds: float
    receipt: Receipt
    peak_mb: int = 0
    """Most memory that the worker took for it; 0 if that is not known."""

    @property
    def pool(self) -> str:
        """Name of the pool of the worker, as of ``node7/gpu-3-1``; empty if no worker is known."""
        _, _, name = self.worker.partition("/")
        return name.partition("-")[0]


class Void(msgspec.Struct, frozen=True, tag="void"):
    """One line of the journal: a unit is to be done again, as its part is gone."""

    at: datetime
    stage: str
    unit: str


class _CommitLine(Commit, frozen=True, tag="commit"):
    """A commit as it is written.

    The first line with certain versions has them in its receipt, the next ones only say which.
    """

    versions: str = ""
    """Checksum of the versions."""


class _Head(msgspec.Struct):
    """What a line is about."""

    type: Literal["commit", "void"]
    stage: str
    unit: str
    versions: str = ""


_ANY_LINE = msgspec.json.Decoder(_CommitLine | Void)
_HEAD = msgspec.json.Decoder(_Head)


class Journal:
    """A journal that is open for more lines; it is only ever appended to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._versions: set[str] = set()
        _end_torn_line(path)
        self._file: IO[bytes] = path.open("a+b", buffering=0)

    def record(self, entry: Commit | Void) -> None:
        """Append one line."""
        line = self._line(entry).removesuffix(b"}")
        with disk_errors(self._path):
            self._file.write(b'%s%s%08x"}\n' % (line, _CHECKSUM, zlib.crc32(line)))

    def _line(self, entry: Commit | Void) -> bytes:
        if isinstance(entry, Void) or not entry.receipt.versions:
            return msgspec.json.encode(entry)
        line = msgspec.to_builtins(entry)
        line["versions"] = f"{zlib.crc32(msgspec.json.encode(entry.receipt.versions)):08x}"
        if line["versions"] in self._versions:
            del line["receipt"]["versions"]
        self._versions.add(line["versions"])
        return msgspec.json.encode(line)

    def read(self, start: int, length: int) -> bytes:
        """Return some bytes of it."""
        return os.pread(self._file.fileno(), length, start)

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        with disk_errors(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _end_torn_line(path: Path) -> None:
    """Close a line that a killed driver left half-written: the next one must stand alone."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def _lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        with path.open("rb") as file:
            yield from file


def _body(text: bytes) -> bytes:
    """Return a line without its checksum; nothing if that is not its own."""
    line, _, checksum = text.rpartition(_CHECKSUM)
    return line + b"}" if checksum[:8] == b"%08x" % zlib.crc32(line) else b""


def read_journal(path: Path, stage: str = "") -> Iterator[Commit | Void]:
    """Yield the lines, of one stage or all, that are whole and whose receipt balances.

    Oldest first.
    """
    versions: dict[str, dict[str, str]] = {}
    wanted = b'"stage":%s,' % msgspec.json.encode(stage) if stage else b""
    for text in _lines(path):
        if wanted in text and (entry := _decode(_body(text), versions)):
            yield entry


def _decode(body: bytes, versions: dict[str, dict[str, str]]) -> Commit | Void | None:
    """Return what a line says, None if that is not to be believed; learn of versions."""
    try:
        line = _ANY_LINE.decode(body)
    except msgspec.DecodeError:
        return None
    if isinstance(line, Void):
        return line
    receipt = line.receipt
    if not receipt.counts.is_balanced:
        return None
    if line.versions:
        if receipt.versions:
            versions[line.versions] = receipt.versions
        known = versions.get(line.versions, {})
        receipt = msgspec.structs.replace(receipt, versions=known)
    return Commit(line.at, line.stage, line.unit, line.worker, line.seconds, receipt, line.peak_mb)


def key(stage: str, unit: str) -> int:
    """Return a number for a unit, 64 bits, that another one has not; it holds in this process.

    Among ten million units two have the same with a probability of three in a million.
    """
    return hash(f"{stage}/{unit}")


class LastLines:
    """Where in a journal the last line of each unit stands that is done; 20 bytes a unit.

    Parameters
    ----------
    limit
        Bytes of the journal that are read, if it is being appended to; default: all.
    """

    def __init__(self, path: Path, limit: int | None = None) -> None:
        self._path = path
        self._versions: dict[str, dict[str, str]] = {}
        keys, starts, lengths = array("q"), array("q"), array("i")
        start = 0
        self.end = 0
        """Bytes that were read: whole lines."""
        for text in _lines(path):
            if limit is not None and start >= limit:
                break
            if head := self._head(text):
                keys.append(key(head.stage, head.unit))
                starts.append(start)
                lengths.append(len(text) if head.type == "commit" else 0)
            start += len(text)
            self.end = start if text.endswith(b"\n") else self.end
        all_keys = np.frombuffer(keys, np.int64)
        order = np.argsort(all_keys, kind="stable")
        is_last = np.append(np.diff(all_keys[order]) != 0, [True] * (len(order) > 0))
        last = order[is_last.astype(bool)]
        last = last[np.frombuffer(lengths, np.int32)[last] > 0]
        self.keys: npt.NDArray[np.int64] = all_keys[last]
        """Those of the units, ascending; see `key`."""
        self._starts = np.frombuffer(starts, np.int64)[last]
        self._lengths = np.frombuffer(lengths, np.int32)[last]
        # a memoryview gives Python's integers, at half the cost of numpy's
        self._views = [each.data for each in (self.keys, self._starts, self._lengths)]

    def _head(self, text: bytes) -> _Head | None:
        body = _body(text)
        try:
            head = _HEAD.decode(body)
        except msgspec.DecodeError:
            return None
        if head.versions and head.versions not in self._versions:
            _decode(body, self._versions)
        return head

    def pop(self, journal: Journal, stage: str, unit: str) -> Commit | None:
        """Return the last line of a unit, once; its checksum was compared before."""
        keys, starts, lengths = self._views
        wanted = key(stage, unit)
        at = bisect_left(keys, wanted)
        if at == len(keys) or keys[at] != wanted or not lengths[at]:
            return None
        length, lengths[at] = lengths[at], 0
        found = _decode(journal.read(starts[at], length), self._versions)
        is_it = isinstance(found, Commit) and (found.stage, found.unit) == (stage, unit)
        return found if is_it else None  # type: ignore[return-value]  # a Commit

    def later(self) -> list[Commit | Void]:
        """Return what was appended since, once; it is not among `commits`."""
        found = []
        with self._path.open("rb") as file:
            file.seek(self.end)
            for text in file:
                if not text.endswith(b"\n"):
                    break  # it is still being written
                self.end += len(text)
                if entry := _decode(_body(text), self._versions):
                    found.append(entry)
        return found

    def units(self, journal: Journal, which: npt.NDArray[np.bool_]) -> Iterator[tuple[str, str]]:
        """Yield the names of stage and unit of some of the lines."""
        for start, length in zip(self._starts[which], self._lengths[which], strict=True):
            if head := self._head(journal.read(int(start), int(length))):
                yield head.stage, head.unit

    def commits(self) -> Iterator[Commit]:
        """Yield the last lines of all units, in the order of the journal."""
        for text in _at(_lines(self._path), np.sort(self._starts)):
            entry = _decode(text, self._versions)
            if isinstance(entry, Commit):
                yield entry


def _at(lines: Iterable[bytes], starts: npt.NDArray[np.int64]) -> Iterator[bytes]:
    """Yield the lines that start there."""
    wanted = iter(starts.data)
    following = next(wanted, None)
    start = 0
    for text in lines:
        if following is None:
            return
        if start == following:
            yield text
            following = next(wanted, None)
        start += len(text)
