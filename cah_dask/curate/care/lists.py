"""Lists of what must not be in a release: uids, urls, hosts, digests of images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cah_dask.blocklists.exclusion import load_exclusion
from cah_dask.blocklists.hashlists import load_hash_lists
from cah_dask.errors import InputError, RunError
from cah_dask.keys import Index, Keys, Mask, find, from_digests, no_keys, of_texts
from cah_dask.schema import UID_BYTES
from cah_dask.storage import file_sha256
from cah_dask.urls import domains_of, host_of, normal

KINDS = ("uids", "urls", "hosts", "hashes")
"""Kinds of lists, in the order in which rows are counted under one of them."""
COLUMNS = ["uid", "url", "final_url", "md5", "sha256"]
"""Columns of a release that `Lists.found_in` looks at."""

Entries: TypeAlias = Mapping[str, Keys]
"""Entries of lists of one kind, by the column that they are compared with."""


@dataclass(frozen=True, slots=True)
class Found:
    """What lists say of some rows."""

    kind: npt.NDArray[np.int8]
    """Of each row the number of the first kind that names it, -1 if none does."""
    entries: dict[str, Index]
    """Of each kind the numbers of entries that name a row, each once."""


@dataclass(frozen=True, slots=True)
class Lists:
    """What rows must not be: sorted keys of each kind."""

    entries: Mapping[str, Entries]

    @property
    def sizes(self) -> dict[str, int]:
        """Different entries of each kind."""
        return {kind: sum(map(len, each.values())) for kind, each in self.entries.items()}

    def found_in(self, rows: pa.Table) -> Found:
        """Say which rows of a release a list names, and which entries name them.

        A url names rows whose image is linked by it or came from it after redirects, both as
        `urls.resolve` spells them; a host names those of all hosts below it, too.
        """
        kind = np.full(len(rows), -1, np.int8)
        entries = {}
        for name, known in self.entries.items():
            hits = [np.empty(0, np.int64)]
            begin = 0
            for column, keys in known.items():
                for places, wanted in _keys(column, rows):
                    at = find(keys, wanted)
                    named = places[at >= 0]
                    kind[named[kind[named] < 0]] = KINDS.index(name)
                    hits.append(begin + at[at >= 0])
                begin += len(keys)
            entries[name] = np.unique(np.concatenate(hits))
        return Found(kind, entries)


def _keys(column: str, rows: pa.Table) -> Iterator[tuple[Index, Keys]]:
    """Yield keys of a column's values, or of what belongs to them, and the rows that they are of.

    A row without a value has none.
    """
    if column in ("uid", "md5", "sha256"):
        places, values = _values(rows[column])
        digests = "".join(value[: 2 * UID_BYTES] for value in values)
        yield places, from_digests(bytes.fromhex(digests))
        return
    for name in ("url", "final_url"):
        places, values = _values(rows[name])
        if column == "url":
            yield places, of_texts(map(normal, values))
            continue
        domains = [domains_of(host_of(normal(value))) for value in values]
        lengths = np.fromiter(map(len, domains), np.int64, len(domains))
        yield np.repeat(places, lengths), of_texts(name for names in domains for name in names)


def _values(column: pa.ChunkedArray) -> tuple[Index, list[str]]:
    is_there: Mask = column.is_valid().to_numpy()
    return np.flatnonzero(is_there), column.drop_null().to_pylist()


def load_lists(paths: Mapping[str, Path]) -> Lists:
    """Read lists, one entry a line, or ``.npy`` and ``.parquet`` as `load_exclusion` does.

    Parameters
    ----------
    paths
        By their kind, one of `KINDS`.

    Raises
    ------
    InputError
        If one cannot be read, or holds anything else.
    """
    readers = {"uids": _uids, "urls": _urls, "hosts": _hosts, "hashes": _hashes}
    return Lists({kind: readers[kind](paths[kind]) for kind in KINDS if kind in paths})


Pinned: TypeAlias = dict[str, tuple[str, str]]
"""Path and SHA-256 of lists, by their kind: what tasks are told."""


def pinned(paths: Mapping[str, Path]) -> Pinned:
    """Return lists as they are now."""
    found = {kind: path.resolve() for kind, path in paths.items()}
    return {kind: (str(path), file_sha256(path)) for kind, path in found.items()}


def load_pinned(lists: Pinned) -> Lists:
    """Read lists, once per worker process, as they were when they were pinned.

    Raises
    ------
    RunError
        If one was changed since.
    """
    return _load_pinned(tuple((kind, *each) for kind, each in sorted(lists.items())))


@cache
def _load_pinned(lists: tuple[tuple[str, str, str], ...]) -> Lists:
    for _, path, sha256 in lists:
        if file_sha256(Path(path)) != sha256:
            raise RunError(f"{path} was changed since the job began; run the command again")
    return load_lists({kind: Path(path) for kind, path, _ in lists})


def _uids(path: Path) -> Entries:
    return {"uid": load_exclusion([f"uid:{path}"]).uids}


def _urls(path: Path) -> Entries:
    return {"url": load_exclusion([f"url:{path}"]).urls}


def _hosts(path: Path) -> Entries:
    return {"host": load_exclusion([f"host:{path}"]).hosts}


def _hashes(path: Path) -> Entries:
    if not path.is_file():
        raise InputError(f"list {path} does not exist")
    found = load_hash_lists((str(path),))
    if found.with_sha1 or found.with_phash:
        kind = "sha1" if found.with_sha1 else "phash"
        raise InputError(f"list {path} holds a {kind}; a release has sha256 and md5 of its images")
    return {kind: found.keys.get(kind, no_keys()) for kind in ("md5", "sha256")}
