"""Uids of a pool as keys: 16 bytes in a run, 32 hex digits elsewhere."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.errors import InputError
from cah_dask.keys import Keys, from_digests
from cah_dask.schema import UID_BYTES

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
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if not is_text or column.null_count or not len(column):
        return b""
    lengths = pc.binary_length(column).to_numpy()
    if not (lengths == 2 * UID_BYTES).all():
        return b""
    text = column.cast(pa.binary()).cast(pa.binary(2 * UID_BYTES))
    try:
        return bytes.fromhex(_values(text, 2 * UID_BYTES).decode("ascii"))
    except ValueError:
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
