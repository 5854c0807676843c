"""Images that may never be stored: lists of digests, matched against the bytes as received."""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from cah_dask.candidates.keys import Keys, contains, from_digests, no_keys, unique
from cah_dask.errors import InputError

_KEY_BYTES = 16
"""As much of a digest as is compared; by chance, 128 bits do not agree."""

_BYTES = {"md5": 16, "sha1": 20, "sha256": 32}
_BATCH = 100_000


@dataclass(frozen=True, slots=True)
class HashLists:
    """Sorted keys of listed digests, by the kind of digest."""

    keys: dict[str, Keys] = field(default_factory=dict)

    @property
    def with_sha1(self) -> bool:
        """Tell whether images must be hashed by sha1, which is needed for nothing else."""
        return "sha1" in self.keys

    def match(self, **digests: str | None) -> bool:
        """Tell whether any digest (``md5=``, ``sha1=``, ``sha256=``, in hex) is on a list."""
        return any(
            bool(contains(self.keys[kind], _key(digest))[0])
            for kind, digest in digests.items()
            if digest is not None and kind in self.keys
        )


def _key(digest: str) -> Keys:
    return from_digests(bytes.fromhex(digest)[:_KEY_BYTES])


@lru_cache(maxsize=1)
def load_hash_lists(paths: tuple[str, ...]) -> HashLists:
    """Read lists of hex digests, one a line, gzipped or not; a process reads each once.

    The length of a digest tells its kind. Empty lines and those that begin with ``#`` are skipped.

    Raises
    ------
    InputError
        If a file cannot be read or holds anything else.
    """
    parts: dict[str, list[Keys]] = {}
    for path in paths:
        for kind, keys in _read(Path(path)):
            parts.setdefault(kind, [no_keys()]).append(keys)
    return HashLists({kind: unique(np.concatenate(found)) for kind, found in parts.items()})


def _read(path: Path) -> Iterator[tuple[str, Keys]]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="ascii") as file:
            lines = (line.strip() for line in file)
            digests = (line for line in lines if line and not line.startswith("#"))
            while batch := list(islice(digests, _BATCH)):
                yield from _keys(batch)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"hash list {path} cannot be read: {error}") from error


def _keys(digests: Sequence[str]) -> Iterator[tuple[str, Keys]]:
    raw = [bytes.fromhex(digest) for digest in digests]
    for kind, length in _BYTES.items():
        found = [digest[:_KEY_BYTES] for digest in raw if len(digest) == length]
        if found:
            yield kind, from_digests(b"".join(found))
    odd = next((d for d in raw if len(d) not in _BYTES.values()), None)
    if odd is not None:
        raise ValueError(f"{odd.hex()} is no md5, sha1 or sha256")
