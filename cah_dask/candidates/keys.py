"""Sorted arrays of 128-bit keys: how dedup remembers billions of pairs in 16 bytes each.

The layout is that of DataComp's subset files: ``u8,u8``, the first and the second half of the hex
digits of a uid as integers, in ascending order. So either kind of file can stand for the other.
"""

import bisect
import hashlib
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

KEY = np.dtype([("f0", "<u8"), ("f1", "<u8")])
KEY_BYTES = KEY.itemsize

Keys: TypeAlias = npt.NDArray[np.void]
"""Shape (n,), dtype `KEY`."""

Mask: TypeAlias = npt.NDArray[np.bool_]
Index: TypeAlias = npt.NDArray[np.int64]


def no_keys() -> Keys:
    """Return no keys."""
    return np.empty(0, KEY)


def from_digests(digests: bytes) -> Keys:
    """Return the keys of 16-byte digests that lie end to end."""
    halves = np.frombuffer(digests, dtype=">u8").reshape(-1, 2)
    keys = np.empty(len(halves), KEY)
    keys["f0"], keys["f1"] = halves[:, 0], halves[:, 1]
    return keys


def digest(text: str) -> bytes:
    """Return the md5 of a text."""
    return hashlib.md5(text.encode(), usedforsecurity=False).digest()


def of_texts(texts: Iterable[str]) -> Keys:
    """Return the md5 of each text as a key."""
    return from_digests(b"".join(map(digest, texts)))


def sort_order(keys: Keys) -> Index:
    """Return the indices that sort keys; equal keys keep their order."""
    return np.lexsort((keys["f1"], keys["f0"]))


def starts_run(keys: Keys) -> Mask:
    """Tell of each of some sorted keys whether it differs from the one before."""
    first = np.ones(len(keys), bool)
    first[1:] = (keys["f0"][1:] != keys["f0"][:-1]) | (keys["f1"][1:] != keys["f1"][:-1])
    return first


def unique(keys: Keys) -> Keys:
    """Return keys sorted, each once."""
    keys = keys[sort_order(keys)]
    return keys[starts_run(keys)]


def contains(known: Keys, keys: Keys) -> Mask:
    """Tell of each key whether it is among the sorted `known` ones."""
    return find(known, keys) >= 0


def holds(known: Keys, digest: bytes) -> bool:
    """Tell whether a 16-byte digest is among the sorted `known` keys, without touching the rest."""
    key = int.from_bytes(digest[:8]), int.from_bytes(digest[8:])
    at = bisect.bisect_left(known, key, key=_pair)
    return at < len(known) and _pair(known[at]) == key


def _pair(key: np.void) -> tuple[int, int]:
    high, low = key.item()
    return high, low


def find(known: Keys, keys: Keys) -> Index:
    """Return where each key is among the sorted `known` ones, -1 where it is not."""
    found = np.full(len(keys), -1)
    if not len(known):
        return found
    high = np.ascontiguousarray(known["f0"])
    at = np.searchsorted(high, keys["f0"])
    open_ = np.arange(len(keys))  # keys whose first half may still be matched further on
    while len(open_):
        at_end = at[open_] >= len(high)
        open_ = open_[~at_end]
        open_ = open_[high[at[open_]] == keys["f0"][open_]]
        equal = known["f1"][at[open_]] == keys["f1"][open_]
        found[open_[equal]] = at[open_[equal]]
        open_ = open_[~equal]
        at[open_] += 1
    return found
