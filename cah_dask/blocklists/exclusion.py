"""Lists of what must not be fetched: other data sets, opt-outs, removals."""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cah_dask.blocklists.lines import BATCH, host_named, read_batches, readable, url_named
from cah_dask.blocklists.phrases import Phrases, phrase, phrases_of
from cah_dask.errors import InputError
from cah_dask.keys import (
    KEY,
    Keys,
    Mask,
    among,
    digest,
    from_digests,
    holds,
    no_keys,
    of_texts,
    unique,
)
from cah_dask.urls import domains_of, host_of, normal

COLUMNS = {
    "uid": ("uid",),
    "url": ("url", "URL"),
    "url_md5": ("url_md5", "url_hash"),
    "host": ("host", "domain"),
    "md5": ("md5",),
    "phrase": ("phrase",),
}
"""Kinds of lists, and the columns of a parquet file that hold them."""

_HEX = re.compile("[0-9a-fA-F]{32}")


@dataclass(frozen=True, slots=True)
class Exclusion:
    """What must not be fetched or kept. All keys are sorted."""

    uids: Keys = field(default_factory=no_keys)
    urls: Keys = field(default_factory=no_keys)
    """md5 of normalised urls."""
    hosts: Keys = field(default_factory=no_keys)
    """md5 of host names; each stands for itself and all names below it."""
    optouts: Keys = field(default_factory=no_keys)
    """Hosts that opted out since, likewise: few beside those above, which may be mapped."""
    image_md5s: Keys = field(default_factory=no_keys)
    """md5 of the bytes of images; known only after the download, so `excludes` ignores them."""
    phrases: Phrases = field(default_factory=Phrases)
    """What no text may say."""

    def excludes(self, rows: pa.Table) -> Mask:
        """Tell of each candidate (columns uid, url and text) whether a list names it."""
        mask = np.zeros(len(rows), bool)
        if len(self.uids):
            mask |= among(self.uids, from_digests(b"".join(rows["uid"].to_pylist())))
        if len(self.urls):
            mask |= among(self.urls, of_texts(map(normal, rows["url"].to_pylist())))
        if len(self.hosts) or len(self.optouts):
            hosts = list(map(host_of, rows["url"].to_pylist()))
            names = list(dict.fromkeys(hosts))
            excluded = dict(zip(names, self._exclude_hosts(names), strict=True))
            mask |= np.fromiter((excluded[host] for host in hosts), bool, len(rows))
        if self.phrases:
            texts = rows["text"].to_pylist()
            mask |= np.fromiter(map(self.phrases.occur_in, texts), bool, len(rows))
        return mask

    def excludes_host(self, host: str) -> bool:
        """Tell whether a list names the host or a domain that it belongs to."""
        lists = [keys for keys in (self.hosts, self.optouts) if len(keys)]
        return any(holds(keys, digest(domain)) for keys in lists for domain in domains_of(host))

    def _exclude_hosts(self, hosts: Sequence[str]) -> Mask:
        domains = [domains_of(host) for host in hosts]
        keys = of_texts(itertools.chain.from_iterable(domains))
        listed = among(self.hosts, keys) | among(self.optouts, keys)
        starts = np.cumsum([0, *map(len, domains)])[:-1]
        return np.logical_or.reduceat(listed, starts) if hosts else listed

    def excludes_image(self, md5: bytes) -> bool:
        """Tell whether a list names the md5 (16 bytes) of an image as it was received."""
        return holds(self.image_md5s, md5)


def load_exclusion(entries: Sequence[str]) -> Exclusion:
    """Read exclusion lists.

    Parameters
    ----------
    entries
        ``kind:path`` with kind one of `COLUMNS`. The path ends in ``.parquet`` (a column of that
        kind; without a kind the first kind whose column is there), ``.npy`` (two uint64 a row, as
        DataComp's subset files; without a kind: uid) or anything else: a text (`lines`).
        Uids, hashes and md5s are 32 hex digits. Urls are normalised before they are compared.
        Phrases are whole words, whatever their case.

    Raises
    ------
    InputError
        A file is missing or damaged, or its kind is unknown, or a value is not of its kind.
    """
    keys: dict[str, list[Keys]] = {kind: [no_keys()] for kind in COLUMNS}
    phrases: list[str] = []
    for entry in entries:
        kind, path = _kind(entry)
        for values in _read(kind, path):
            if isinstance(values, np.ndarray):
                keys[kind].append(values)
            elif kind == "phrase":
                phrases += values
            elif kind in ("host", "url"):
                keys[kind].append(of_texts(values))
            else:
                keys[kind].append(from_digests(bytes.fromhex("".join(values))))
    sorted_keys = {kind: unique(np.concatenate(parts)) for kind, parts in keys.items()}
    return Exclusion(
        uids=sorted_keys["uid"],
        urls=unique(np.concatenate([sorted_keys["url"], sorted_keys["url_md5"]])),
        hosts=sorted_keys["host"],
        image_md5s=sorted_keys["md5"],
        phrases=phrases_of(phrases),
    )


def path_of(entry: str) -> Path:
    """Return the file of an entry, which may not be there."""
    return split_entry(entry)[1]


def split_entry(entry: str) -> tuple[str, Path]:
    """Return kind and file of an entry; no kind, "", where it does not say."""
    kind, colon, name = entry.partition(":")
    return (kind, Path(name)) if colon and kind in COLUMNS else ("", Path(entry))


def _kind(entry: str) -> tuple[str, Path]:
    kind, path = split_entry(entry)
    if not path.is_file():
        raise InputError(f"exclusion list {path} does not exist")
    if not kind and path.suffix == ".npy":
        kind = "uid"
    if not kind and path.suffix == ".parquet":
        kind = _kind_of_columns(path)
    if not kind:
        raise InputError(f"exclusion list {path}: say what it lists, {':..., '.join(COLUMNS)}:...")
    return kind, path


def _kind_of_columns(path: Path) -> str:
    names = _schema(path).names
    for kind, columns in COLUMNS.items():
        if any(column in names for column in columns):
            return kind
    raise InputError(f"exclusion list {path} has none of the columns {_all_columns()}")


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"exclusion list {path} is no parquet file: {error}") from error


def _all_columns() -> str:
    return ", ".join(itertools.chain.from_iterable(COLUMNS.values()))


def _read(kind: str, path: Path) -> Iterator[Keys | list[str]]:
    if path.suffix == ".npy":
        with readable(path):
            yield _read_npy(kind, path)
    elif path.suffix == ".parquet":
        with readable(path):
            yield from _read_parquet(kind, path)
    else:
        yield from read_batches(path, _READERS[kind])


def _read_npy(kind: str, path: Path) -> Keys:
    keys = np.load(path, mmap_mode="r")
    fields = keys.dtype.names
    if kind in ("url", "host", "phrase") or keys.ndim != 1 or not fields or len(fields) != 2:
        raise InputError(
            f"exclusion list {path} holds {keys.dtype}; expected two uint64 a row (u8,u8)"
        )
    made = np.empty(len(keys), KEY)
    made["f0"], made["f1"] = keys[fields[0]], keys[fields[1]]
    return made


def _read_parquet(kind: str, path: Path) -> Iterator[list[str]]:
    names = _schema(path).names
    column = next((name for name in COLUMNS[kind] if name in names), None)
    if column is None:
        raise InputError(f"exclusion list {path} has no column {' or '.join(COLUMNS[kind])}")
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH, columns=[column], use_threads=False):
            values = batch.column(0).drop_null().to_pylist()
            texts = (value.hex() if isinstance(value, bytes) else str(value) for value in values)
            yield [_COLUMN_READERS[kind](text) for text in texts]


def _hex(value: str) -> str:
    if not _HEX.fullmatch(value):
        raise ValueError(f"{value!r} is not 32 hex digits")
    return value


_READERS: Mapping[str, Callable[[str], str]] = {
    "uid": _hex,
    "url": url_named,
    "url_md5": _hex,
    "host": host_named,
    "md5": _hex,
    "phrase": phrase,
}
_COLUMN_READERS = {**_READERS, "url": normal}  # a data set may have odd urls; they match nothing
