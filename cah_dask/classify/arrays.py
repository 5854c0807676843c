"""Arrays of items as bytes, on their way between processes and pools."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from cah_dask.classify.hooks import Arrays

MAX_BYTES = 256 << 20
"""What the arrays of one item may hold."""

_KINDS = "biuf"


class _Array(msgspec.Struct, frozen=True, array_like=True):
    dtype: str
    shape: tuple[int, ...]
    data: bytes


_DECODER = msgspec.msgpack.Decoder(dict[str, _Array])


def packed(arrays: Arrays) -> bytes:
    """Return the arrays of an item as bytes.

    Raises
    ------
    TypeError
        If they are no mapping of names to arrays of numbers or bools, or too many bytes.
    """
    _require_arrays(arrays)
    n_bytes = sum(array.nbytes for array in arrays.values())
    if n_bytes > MAX_BYTES:
        raise TypeError(f"the arrays of an item hold {n_bytes:,} bytes; at most {MAX_BYTES:,} may")
    return msgspec.msgpack.encode(
        {name: _Array(a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()}
    )


def _require_arrays(found: Any) -> None:
    if not isinstance(found, Mapping) or not found:
        raise TypeError(f"arrays by their names are needed, not {_kind(found)}")
    for name, array in found.items():
        if not isinstance(name, str):
            raise TypeError(f"names of arrays are texts, not {_kind(name)}")
        if not name.isprintable():
            raise TypeError(f"names of arrays are printable texts, not {name!r}")
        if not isinstance(array, np.ndarray) or array.dtype.kind not in _KINDS:
            raise TypeError(f"{name} has to be an array of numbers or bools, not {_kind(array)}")


def _kind(found: Any) -> str:
    kind = type(found).__name__
    return f"an array of {found.dtype}" if isinstance(found, np.ndarray) else kind


def unpacked(data: bytes) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """Return arrays that `packed` made bytes of; each may be written to."""
    return {
        name: np.frombuffer(each.data, each.dtype, math.prod(each.shape)).reshape(each.shape).copy()
        for name, each in _DECODER.decode(data).items()
    }
