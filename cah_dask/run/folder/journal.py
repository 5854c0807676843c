"""The journal of a run: the receipts of all parts in the order of their commit, a line each.

It is a cache, so that a resumed run need not open a million files: what is missing from it, torn
off its end or damaged is read from the parts again. Each line ends with its own checksum.
"""

import contextlib
import os
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO

import msgspec

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


class Void(msgspec.Struct, frozen=True, tag="void"):
    """One line of the journal: a unit is to be done again, as its part is gone."""

    at: datetime
    stage: str
    unit: str


class Journal:
    """A journal that is open for more lines; it is only ever appended to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        _end_torn_line(path)
        self._file: IO[bytes] = path.open("ab", buffering=0)

    def record(self, entry: Commit | Void) -> None:
        """Append one line."""
        line = msgspec.json.encode(entry).removesuffix(b"}")
        with disk_errors(self._path):
            self._file.write(b'%s%s%08x"}\n' % (line, _CHECKSUM, zlib.crc32(line)))

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


def read_journal(path: Path) -> Iterator[Commit | Void]:
    """Yield the lines that are whole and whose receipt balances, oldest first."""
    if not path.exists():
        return
    decoder = msgspec.json.Decoder(Commit | Void)
    with path.open("rb") as file:
        for text in file:
            line, _, checksum = text.rpartition(_CHECKSUM)
            if checksum[:8] != b"%08x" % zlib.crc32(line):
                continue
            with contextlib.suppress(msgspec.DecodeError):
                entry = decoder.decode(line + b"}")
                if isinstance(entry, Void) or entry.receipt.counts.is_balanced:
                    yield entry


def latest(path: Path) -> dict[tuple[str, str], Commit]:
    """Return the last commit of each unit that is done, by stage and name."""
    found = {(entry.stage, entry.unit): entry for entry in read_journal(path)}
    return {key: entry for key, entry in found.items() if isinstance(entry, Commit)}
