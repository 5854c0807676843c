"""Pairs as digests of each of their columns and vectors: enough to tell what was changed.

A record is the uid of a pair and eight bytes for each column or array, so that those of two
releases can be compared in ranges of uids.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cah_dask.keys import KEY, Index, Keys, find, from_digests, in_order, sort_order, starts_run
from cah_dask.release.layout import Layout, part_path
from cah_dask.release.rows import vectors_beside
from cah_dask.release.vectors import ShardReader
from cah_dask.schema import vector_of
from cah_dask.storage import open_part

_NULL = np.uint64(0x9E3779B97F4A7C15)
"""Stands for null; that a value has it is as unlikely as that two digests agree by chance."""
_LENGTH = 8
_VECTORS_AT_ONCE = 4096

Digests: TypeAlias = npt.NDArray[np.uint64]


def compared(one: Layout, other: Layout) -> list[str]:
    """Return the columns, and arrays by `vector_of`, that two releases have in common.

    The column `row` says where a pair stands, and so nothing about it.
    """
    own, theirs = kinds_of(one), kinds_of(other)
    return [name for name, kind in own.items() if theirs.get(name) == kind]


def kinds_of(layout: Layout) -> dict[str, str]:
    """Return what type each column of a release has, and what length the vectors of each array."""
    kinds = {field.name: str(field.type) for field in layout.schema}
    kinds |= {vector_of(name, kind): f"vectors of {dim}" for name, kind, dim in layout.arrays}
    return {name: kind for name, kind in kinds.items() if name not in ("row", "uid")}


def record(columns: Sequence[str]) -> np.dtype[np.void]:
    """Return the type of a record."""
    return np.dtype([*KEY.descr, ("digests", "<u8", (len(columns),))])


def records(
    release: Path, number: int, layout: Layout, columns: Sequence[str]
) -> npt.NDArray[np.void]:
    """Return the records of a part, in the order of their uids.

    Raises
    ------
    RunError
        If part or vectors are damaged.
    """
    groups = [np.empty(0, record(columns))]
    start = 0
    with open_part(part_path(release, number)) as part:
        shards = vectors_beside(part, release, layout, {*columns})
        stored = [name for name in columns if name in layout.schema.names]
        for group in range(part.n_row_groups):
            rows = part.read([group], ["uid", *stored])
            made = np.empty(len(rows), record(columns))
            keys = from_digests(bytes.fromhex("".join(rows["uid"].to_pylist())))
            made["f0"], made["f1"] = keys["f0"], keys["f1"]
            for at, name in enumerate(columns):
                made["digests"][:, at] = (
                    of_values(rows[name])
                    if name in stored
                    else of_vectors(shards[name], start, len(rows))
                )
            groups.append(made)
            start += len(rows)
    found = np.concatenate(groups)
    return found[sort_order(found)]


def of_values(column: pa.ChunkedArray) -> Digests:
    """Return a digest of each value: numbers stand for themselves, bit by bit."""
    kind = column.type
    is_null = column.is_null().to_numpy()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        encoded = column.combine_chunks().dictionary_encode()
        known = [_digest(value.encode()) for value in encoded.dictionary.to_pylist()]
        table = np.array([*known, _NULL], "<u8")  # the last one is at -1
        texts: Digests = table[encoded.indices.fill_null(-1).to_numpy()]
        return texts
    if pa.types.is_nested(kind):
        values = column.to_pylist()
        found = [_NULL if value is None else _digest(repr(value).encode()) for value in values]
        return np.array(found, "<u8")
    data = (column.cast(pa.uint8()) if pa.types.is_boolean(kind) else column).combine_chunks()
    if not len(data):
        return np.empty(0, np.uint64)
    bits = np.frombuffer(data.buffers()[1], f"<u{data.type.byte_width}")
    return np.where(is_null, _NULL, bits[data.offset : data.offset + len(data)].astype("<u8"))


def of_vectors(shard: ShardReader, start: int, n: int) -> Digests:
    """Return a digest of each of some vectors of a shard."""
    found = np.empty(n, np.uint64)
    for at in range(0, n, _VECTORS_AT_ONCE):
        rows = np.arange(start + at, start + min(n, at + _VECTORS_AT_ONCE))
        found[at : at + len(rows)] = [_digest(each.tobytes()) for each in shard.take(rows)]
    return found


def _digest(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=_LENGTH).digest(), "little")


def differences(
    one: npt.NDArray[np.void], other: npt.NDArray[np.void], columns: Sequence[str]
) -> tuple[Keys, Keys, Keys, Mapping[str, int]]:
    """Compare the records of one range of two releases.

    Of a uid that is there more than once equal records are matched first; of the others the n-th
    of one is compared with the n-th of the other.

    Returns
    -------
    tuple
        Sorted uids only in the first, only in the second, and in both but changed; and how many of
        the last were changed in each column.
    """
    own, theirs = _matched(_whole(one), _whole(other))
    is_equal = np.ones(len(own), bool)
    for at in range(len(columns)):
        is_equal &= one["digests"][own, at] == other["digests"][theirs, at]
    one, other = np.delete(one, own[is_equal]), np.delete(other, theirs[is_equal])
    own, theirs = _matched(_keys(one), _keys(other))
    is_other = one["digests"][own] != other["digests"][theirs]
    n_of = {name: int(n) for name, n in zip(columns, is_other.sum(axis=0), strict=True) if n}
    changed = _keys(one[own[is_other.any(axis=1)]])
    only = (_keys(np.delete(one, own)), _keys(np.delete(other, theirs)))
    return in_order(only[0]), in_order(only[1]), in_order(changed), n_of


def _matched(one: Keys, other: Keys) -> tuple[Index, Index]:
    """Return where keys of one are and where the same are in the other, the n-th with the n-th."""
    own, theirs = sort_order(one), sort_order(other)
    one, other = one[own], other[theirs]
    starts = np.flatnonzero(starts_run(one))
    nth = np.arange(len(one)) - np.repeat(starts, np.diff(starts, append=len(one)))
    at = find(other, one)
    is_there = (at >= 0) & (at + nth < len(other))
    at += nth
    is_there[is_there] = other[at[is_there]] == one[is_there]
    return own[is_there], theirs[at[is_there]]


def _whole(found: npt.NDArray[np.void]) -> Keys:
    """Return keys that equal records have in common, and others as good as never."""
    made = _keys(found)
    n_columns = found["digests"].shape[1]
    weights = np.random.default_rng(n_columns).integers(1 << 63, size=n_columns, dtype=np.uint64)
    made["f1"] ^= found["digests"] @ (2 * weights + 1)
    return made


def _keys(found: npt.NDArray[np.void]) -> Keys:
    made = np.empty(len(found), KEY)
    made["f0"], made["f1"] = found["f0"], found["f1"]
    return made
