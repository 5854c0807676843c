"""Whether an archive holds pages (WARC) or what was noted of them (WAT), told by its records."""

import contextlib
from enum import StrEnum

from cah_dask.archives.block import Block, CutError
from cah_dask.archives.blocks import Blocks
from cah_dask.archives.members import content_length

_HELD = ("response", "resource", "revisit")
_TEXT = "conversion"
_OTHERS = ("warcinfo", "request", "metadata", "continuation")
_ENVELOPE = b'"Envelope"'  # in the first bytes of every WAT record; other JSON may be metadata too
_LOOK_BYTES = 4096


class Kind(StrEnum):
    """What an archive holds."""

    WAT = "WAT"
    WARC = "WARC"
    EMPTY = "empty"
    """Records, but neither pages nor what was noted of them."""


def look(archive: str, *, within: int | None = None) -> tuple[Kind | None, list[str]]:
    """Return the kind of an archive, and what could not be read before that was known.

    Its first WAT record, or record with what a server answered, decides; None if there is no
    record, or none but texts (WET) and what goes with them.

    Parameters
    ----------
    within
        How far to look, in bytes; records that begin behind are as good as none.

    Raises
    ------
    ShardError, RetryableError
        It cannot be read; see `Blocks`.
    """
    blocks = Blocks(archive, (*_HELD, _TEXT, *_OTHERS), _seen)
    types = set()
    with contextlib.closing(iter(blocks)) as records:
        for offset, type_, kind in records:
            if within is not None and offset > within:
                break
            if kind is not None:
                return kind, blocks.errors
            types.add(type_)
    return (None if _TEXT in types or not types else Kind.EMPTY), blocks.errors


def _seen(block: Block) -> tuple[int, str, Kind | None]:
    """Return where a record begins, its type, and the kind that it tells of.

    Raises
    ------
    CutError
        It does not say how long it is.
    """
    if not block.n_bytes and content_length(block.fields()) is None:
        raise CutError("it has no length")
    kind = None
    if block.kind in _HELD:
        kind = Kind.WARC
    elif block.kind == "metadata" and _ENVELOPE in block.read(_LOOK_BYTES):
        kind = Kind.WAT
    return block.offset, block.kind, kind
