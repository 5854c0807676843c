"""Sorted arrays of 128-bit keys: how dedup remembers billions of pairs in 16 bytes each.

The layout is that of DataComp's subset files: ``u8,u8``, the first and the second half of the hex
digits of a uid as integers, in ascending order. So either kind of file can stand for the other.
"""

import bisect
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

KEY = np.dtype([("f0", "<u8"), ("f1", "<u8")])
KEY_BYTES = KEY.itemsize
PLACED = np.dtype([*KEY.descr, ("wave", "<i4"), ("list", "<i4")])

Keys: TypeAlias = npt.NDArray[np.void]
"""Shape (n,), dtype `KEY`."""
PlacedKeys: TypeAlias = npt.NDArray[np.void]
"""Shape (n,), dtype `PLACED`: keys of urls, with the list of a bucket that fetches each."""

HELD_KEYS = 1 << 20
"""Keys of a file that are in memory together."""

Mask: TypeAlias = npt.NDArray[np.bool_]
Index: TypeAlias = npt.NDArray[np.int64]


class KeyFile:
    """Sorted keys in a file, mapped anew for each access: of a large one little is in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._len = len(self._mapped())

    def __len__(self) -> int:
        return self._len

    def __getitem__(self, item: slice | str) -> Keys:
        keys: Keys = self._mapped()[item]
        return keys

    def __iter__(self) -> Iterator[Keys]:
        """Yield all keys in their order, `HELD_KEYS` at a time."""
        starts = range(0, len(self), HELD_KEYS)
        return (self[start : start + HELD_KEYS] for start in starts)

    def _mapped(self) -> Keys:
        keys: Keys = np.load(self._path, mmap_mode="r")
        return keys


Run: TypeAlias = Keys | KeyFile
"""Sorted keys, each once."""


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


def placed(keys: Keys, wave: Index | int, number: Index) -> PlacedKeys:
    """Return keys with the wave and the number of the list that fetches each."""
    made = np.empty(len(keys), PLACED)
    made["f0"], made["f1"] = keys["f0"], keys["f1"]
    made["wave"], made["list"] = wave, number
    return made


def merged(runs: Sequence[Run], held_keys: int = HELD_KEYS) -> Iterator[Keys]:
    """Yield the keys of sorted runs (of one dtype) that have none in common, in ascending order.

    About `held_keys` at a time, as keys are digests and so spread evenly.
    """
    n_slices = sum(map(len, runs)) // held_keys + 1
    starts = [0] * len(runs)
    for number in range(1, n_slices + 1):
        below = number * 2**64 // n_slices
        stops = [bisect.bisect_left(run["f0"], below) for run in runs]
        slices = [run[at:stop] for run, at, stop in zip(runs, starts, stops, strict=True)]
        yield in_order(np.concatenate(slices))
        starts = stops


def in_order(keys: Keys) -> Keys:
    """Return keys sorted, many times as fast as by both halves, which only equal ones need."""
    keys = keys[np.argsort(keys["f0"])]
    if (keys["f0"][1:] == keys["f0"][:-1]).any():
        keys = keys[sort_order(keys)]
    return keys


def span(keys: Keys, run: Keys) -> slice:
    """Return where those of some sorted keys are that a sorted run may hold."""
    if not len(run):
        return slice(0, 0)
    high = np.ascontiguousarray(keys["f0"])
    first, last = run["f0"][0], run["f0"][-1]
    return slice(np.searchsorted(high, first), np.searchsorted(high, last, side="right"))


def contains(known: Keys, keys: Keys) -> Mask:
    """Tell of each key whether it is among the sorted `known` ones."""
    return find(known, keys) >= 0


def among(known: Keys, keys: Keys) -> Mask:
    """Tell the same as `contains`, and read only a few rows of `known`, which may be mapped."""
    low, high = np.zeros(len(keys), np.int64), np.full(len(keys), len(known))
    while len(open_ := np.flatnonzero(low < high)):
        middle = (low[open_] + high[open_]) // 2
        row, key = known[middle], keys[open_]
        is_less = row["f0"] < key["f0"]
        is_less |= (row["f0"] == key["f0"]) & (row["f1"] < key["f1"])
        low[open_] = np.where(is_less, middle + 1, low[open_])
        high[open_] = np.where(is_less, high[open_], middle)
    found = low < len(known)
    found[found] = known[low[found]] == keys[found]
    return found


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
