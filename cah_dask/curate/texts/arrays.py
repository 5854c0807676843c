"""Arrow strings in, numpy masks out, and functions of single texts asked once for each."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Mask: TypeAlias = npt.NDArray[np.bool_]


def strings(texts: pa.Array) -> pa.Array:
    """Return ``(n,)`` strings of any Arrow type as large strings; no byte of them is copied."""
    return texts.cast(pa.large_string())


def mask_of(booleans: pa.Array) -> Mask:
    """Return an Arrow array of booleans as ``(n,)`` of numpy; False for a null."""
    return np.asarray(booleans.fill_null(pa.scalar(value=False)).to_numpy(zero_copy_only=False))


def answers(texts: pa.Array, ask: Callable[[str], object], kind: pa.DataType) -> pa.Array:
    """Return what a function says of each text, asked once for those that repeat.

    Parameters
    ----------
    texts
        ``(n,)`` strings of any Arrow type.
    kind
        What the function returns, as Arrow calls it.

    Returns
    -------
    Array
        ``(n,)`` of `kind`, null for a null.
    """
    encoded = strings(texts).dictionary_encode()
    return pa.array(map(ask, encoded.dictionary.to_pylist()), kind).take(encoded.indices)
