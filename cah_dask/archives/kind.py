"""Whether an archive holds pages (WARC) or what was noted of them (WAT), told by its records."""

import contextlib
from enum import StrEnum

from cah_dask.archives.block import Block
from cah_dask.archives.blocks import Blocks

_HELD = ("response", "resource", "revisit")
_ENVELOPE = b'"Envelope"'  # in the first bytes of every WAT record; other JSON may be metadata too
_LOOK_BYTES = 4096


class Kind(StrEnum):
    """What an archive holds."""

    WAT = "WAT"
    WARC = "WARC"


def look(archive: str, *, most: int | None = None) -> tuple[Kind | None, list[str]]:
    """Return the kind of an archive, and what could not be read before that was known.

    Its first WAT record, or record with what a server answered, decides; None if it has neither
    among its first `most` records, or among all.

    Raises
    ------
    ShardError, RetryableError
        It cannot be read; see `Blocks`.
    """
    blocks = Blocks(archive, ("metadata", *_HELD), _kind, most=most)
    with contextlib.closing(iter(blocks)) as found:
        return next(found, None), blocks.errors


def _kind(block: Block) -> Kind | None:
    if block.kind in _HELD:
        return Kind.WARC
    return Kind.WAT if _ENVELOPE in block.read(_LOOK_BYTES) else None
