"""Images that may never be stored: lists of digests, matched against the bytes as received.

Perceptual hashes (`phash`) may stand among them: they are matched against how a picture looks.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cah_dask.blocklists.lines import read_batches
from cah_dask.keys import Keys, from_digests, holds, no_keys, unique

Hashes: TypeAlias = npt.NDArray[np.uint64]
"""Perceptual hashes, shape (n,)."""

_KEY_BYTES = 16
"""As much of a digest as is compared; by chance, 128 bits do not agree."""

_BYTES = {"md5": 16, "sha1": 20, "sha256": 32}
_PHASH_BYTES = 8
_HEX = re.compile("[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True)
class HashLists:
    """Sorted keys of listed digests, by the kind of digest, and listed perceptual hashes."""

    keys: dict[str, Keys] = field(default_factory=dict)
    phashes: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))

    @property
    def with_sha1(self) -> bool:
        """Tell whether images must be hashed by sha1, which is needed for nothing else."""
        return "sha1" in self.keys

    @property
    def with_phash(self) -> bool:
        """Tell whether images must be hashed by what they look like."""
        return len(self.phashes) > 0

    def resembles(self, phash: str, distance: int) -> bool:
        """Tell whether a perceptual hash (hex) differs from a listed one in few enough bits."""
        differing = np.bitwise_count(self.phashes ^ np.uint64(int(phash, 16)))
        return bool((differing <= distance).any())

    def match(self, **digests: str | None) -> bool:
        """Tell whether any digest (``md5=``, ``sha1=``, ``sha256=``, in hex) is on a list."""
        return any(
            holds(self.keys[kind], bytes.fromhex(digest)[:_KEY_BYTES])
            for kind, digest in digests.items()
            if digest is not None and kind in self.keys
        )


@lru_cache(maxsize=1)
def load_hash_lists(paths: tuple[str, ...]) -> HashLists:
    """Read lists of hex digests, one a line, gzipped or not; a process reads each once.

    The length of a digest tells its kind; 16 hex digits are a perceptual hash (`phash`). Comments
    and empty lines as in `lines`.

    Raises
    ------
    InputError
        If a file cannot be read or holds anything else.
    """
    parts: dict[str, list[Keys]] = {}
    phashes = [np.empty(0, np.uint64)]
    for path in paths:
        for digests in read_batches(Path(path), _digest):
            phashes.append(_phashes(digests))
            for kind, keys in _keys(digests):
                parts.setdefault(kind, [no_keys()]).append(keys)
    merged = {kind: unique(np.concatenate(found)) for kind, found in parts.items()}
    return HashLists(merged, np.unique(np.concatenate(phashes)))


def _digest(value: str) -> bytes:
    if _HEX.fullmatch(value) and len(value) // 2 in (_PHASH_BYTES, *_BYTES.values()):
        return bytes.fromhex(value)
    raise ValueError(f"{value!r} is no md5, sha1, sha256 or phash")


def _phashes(digests: Sequence[bytes]) -> Hashes:
    found = b"".join(digest for digest in digests if len(digest) == _PHASH_BYTES)
    return np.frombuffer(found, ">u8").astype(np.uint64)


def _keys(digests: Sequence[bytes]) -> Iterator[tuple[str, Keys]]:
    for kind, length in _BYTES.items():
        found = [digest[:_KEY_BYTES] for digest in digests if len(digest) == length]
        if found:
            yield kind, from_digests(b"".join(found))
