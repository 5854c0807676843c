"""The WAT records of an archive, one by one."""

from collections.abc import Callable
from typing import NamedTuple

from cah_dask.archives.block import Block, CutError
from cah_dask.archives.blocks import Blocks
from cah_dask.archives.members import MAX_RECORD_BYTES
from cah_dask.errors import RecordError

_BEFORE_JSON = b"\xef\xbb\xbf \t\r\n"


class Record(NamedTuple):
    """One WAT record."""

    offset: int
    """Where its gzip member begins in the archive; in an uncompressed one, where it does itself."""
    url: str
    """Of the page that it is about."""
    data: bytes
    """JSON."""


class Records(Blocks[Record]):
    """The WAT records of one archive in its order; an iterator, to be gone through once."""

    def __init__(self, archive: str, is_wanted: Callable[[bytes], object] = bool) -> None:
        """Read all records.

        Those whose JSON is not wanted are counted, and cost a tenth less time each.
        """
        self._is_wanted = is_wanted
        super().__init__(archive, ("metadata",), self._record)

    def reread(self) -> bytes | None:
        """Return the JSON of the last record as its own gzip member has it.

        None if the member says nothing. What follows is read from its end on, so a record that
        claimed too much takes nothing from the next one.
        """
        block = self.reread_block()
        return (_json(block.read(block.n_bytes)) or None) if block is not None else None

    def _record(self, block: Block) -> Record | None:
        if block.n_bytes > MAX_RECORD_BYTES:
            raise CutError("it is larger than any may be")
        data = block.read(block.n_bytes)
        if not data:
            raise CutError
        if not data.startswith(b"{") and not (data := _json(data)):
            raise RecordError("it is no JSON")
        if not self._is_wanted(data):
            return None
        return Record(block.offset, block.url(), data)


def _json(data: bytes) -> bytes:
    """Return what may be JSON, without what stands before it; nothing if it is something else."""
    data = data.lstrip(_BEFORE_JSON)
    return data if data.startswith(b"{") else b""
