"""Uids of a pool as keys: 16 bytes in a run, 32 hex digits elsewhere."""

import binascii
import re

import numpy as np
import pyarrow as pa

from cah_dask.errors import InputError
from cah_dask.keys import Keys, from_digests
from cah_dask.schema import UID_BYTES

_OFFSETS = {pa.string(): np.int32, pa.large_string(): np.int64}
"""How wide the places are at which values of a column of texts begin."""
_HEX = re.compile(f"[0-9a-fA-F]{{{2 * UID_BYTES}}}")


def keys_of(uids: pa.ChunkedArray, part: str) -> Keys:
    """Return uids as keys, in their order.

    Raises
    ------
    InputError
        If one of them is none.
    """
    column = uids.combine_chunks() if isinstance(uids, pa.ChunkedArray) else uids
    if pa.types.is_fixed_size_binary(column.type) and column.type.byte_width == UID_BYTES:
        digests = _values(column, UID_BYTES) if not column.null_count else b""
    else:
        digests = _digests_of(column)
    if len(digests) != UID_BYTES * len(column):
        raise InputError(f"{part}: {_first_bad(column)} is no uid, which has 32 hex digits")
    return from_digests(digests)


def _digests_of(column: pa.Array) -> bytes:
    """Return hex digits as bytes; less of them if any uid is none."""
    width = _OFFSETS.get(column.type)
    if width is None or column.null_count or not len(column):
        return b""
    _, offsets, digits = column.buffers()
    ends = np.frombuffer(offsets, width)[column.offset : column.offset + len(column) + 1]
    if not (np.diff(ends) == 2 * UID_BYTES).all():
        return b""
    try:
        return binascii.unhexlify(memoryview(digits)[ends[0] : ends[-1]])
    except binascii.Error:
        return b""


def _values(column: pa.FixedSizeBinaryArray, width: int) -> bytes:
    return bytes(column.buffers()[1][column.offset * width : (column.offset + len(column)) * width])


def _first_bad(column: pa.Array) -> str:
    for value in column.to_pylist():
        if not isinstance(value, str) or not _HEX.fullmatch(value):
            return repr(value)
    return f"a value of type {column.type}"


def hex_of(keys: Keys) -> list[str]:
    """Return keys as hex digits."""
    halves = np.stack([keys["f0"], keys["f1"]], axis=1).astype(">u8")
    digits = halves.tobytes().hex()
    width = 2 * UID_BYTES
    return [digits[at : at + width] for at in range(0, len(digits), width)]
