"""An index of archives: a folder that tells, for any url, in which record the answer to it is.

::

    DIR/index.json                  what it is an index of, and where that lies
    DIR/captures/w00000/b*.parquet  captures of one bucket of hosts each, by key
    DIR/entries/...                 what each source gave, from which those are made

Of a bucket only the row groups are read that may hold what is looked for, one at a time.
"""

import bisect
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from cah_dask.archives.remote import is_remote
from cah_dask.archives.sources import COMMON_CRAWL, COMMON_CRAWL_S3
from cah_dask.errors import InputError, RunError, ShardError
from cah_dask.images.archived.captures import Key, digest_hash, is_first, key_of
from cah_dask.images.web.responses import has_body
from cah_dask.storage import Part, open_part, write_atomic

FORMAT = "cah_dask index 1"
INDEX_FILE = "index.json"
CAPTURES_FOLDER = "captures"
_GREATEST = (1 << 64) - 1
_OF_CDX = "::"


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an index is of."""

    format: str = FORMAT
    id: str
    """What an index of other sources does not have."""
    buckets: int
    archives: dict[str, str]
    """Where each archive lies that was read, by its name."""
    cdx: dict[str, str]
    """Where each CDX file lies, by its name."""

    def label_of(self, cdx: str) -> str:
        """Return what stands before the names of archives that a CDX file tells.

        That is the name of the first CDX file in its folder, as those of two folders may mean
        different archives by one name; "" if all sources lie in one.
        """
        here = _folder_of(self.cdx[cdx])
        if all(_folder_of(each) == here for each in (*self.archives.values(), *self.cdx.values())):
            return ""
        first = min(name for name, place in self.cdx.items() if _folder_of(place) == here)
        return f"{first}{_OF_CDX}"

    def place_of(self, archive: str, root: str = "") -> str:
        """Return where an archive lies that the index names.

        What a CDX file names may lie under `root`, beside the CDX file, or where Common Crawl has
        it; on disk it is looked for by its path, then by its file name alone, and nowhere outside
        of these folders. A `root` on a server is not asked: all is taken to be there.

        Raises
        ------
        ShardError
            A CDX file names a server that is not among the sources.
        """
        cdx, name = self._told_by(archive)
        if is_remote(root):
            return f"{root.rstrip('/')}/{_below('', name)}"
        if root and (known := _file_in(root, name)):
            return known
        return self.archives.get(archive) or self._named(cdx, name)

    def _told_by(self, archive: str) -> tuple[str, str]:
        """Return the CDX file that names an archive, and what it calls it."""
        for cdx in self.cdx:
            if archive.startswith(f"{cdx}{_OF_CDX}"):
                return cdx, archive.removeprefix(f"{cdx}{_OF_CDX}")
        return next(iter(self.cdx), ""), archive

    def _named(self, cdx: str, name: str) -> str:
        """Return where an archive lies that a CDX file names."""
        if is_remote(name) and self._is_known(_server_of(name)):
            return name
        folder = _folder_of(self.cdx[cdx])
        if known := _file_in(folder, name) or self.archives.get(name):
            return known
        if is_remote(name):
            raise ShardError(
                f"{name} is on a server that only a CDX file names; give its archives with "
                "download.archives_root, or index them themselves"
            )
        is_crawled = name.startswith("crawl-data/") and _below("", name) == name
        return COMMON_CRAWL + name if is_crawled else f"{folder}/{_below(folder, name)}"

    def _is_known(self, server: str) -> bool:
        """Tell whether a server is one of the sources, or Common Crawl's."""
        named = (COMMON_CRAWL, COMMON_CRAWL_S3, *self.cdx.values(), *self.archives.values())
        return any(is_remote(place) and _server_of(place) == server for place in named)


def _server_of(url: str) -> str:
    """Return scheme and host of a url, or scheme and bucket, as written."""
    return "/".join(url.split("/", 3)[:3])


def _folder_of(place: str) -> str:
    path = place.partition("?")[0] if is_remote(place) else place
    return path.rpartition("/")[0] or "."


def _file_in(folder: str, name: str) -> str:
    """Return the path of a file in a folder on disk, or "" if there is none."""
    if is_remote(folder):
        return ""
    names = dict.fromkeys((_below(folder, name), PurePosixPath(name).name))
    return next((path for each in names if Path(path := f"{folder}/{each}").is_file()), "")


def _below(folder: str, name: str) -> str:
    """Return a name as a path below a folder: the file name alone of one that leads elsewhere."""
    path = PurePosixPath(name)
    if folder and path.is_relative_to(folder):
        path = path.relative_to(folder)
    return path.name if is_remote(name) or path.is_absolute() or ".." in path.parts else str(path)


def write_about(folder: Path, about: About) -> None:
    """Say what an index is of."""
    write_atomic(folder / INDEX_FILE, msgspec.json.encode(about))


def read_about(folder: Path) -> About | None:
    """Return what a folder is an index of; None if there is nothing that says so.

    Raises
    ------
    InputError
        If it cannot be read, or is of another version.
    """
    try:
        return msgspec.json.decode((folder / INDEX_FILE).read_bytes(), type=About)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"{folder / INDEX_FILE} is not what an index has: {error}") from error


def bucket_part(folder: Path, bucket: int) -> Path:
    """Return the part of one bucket of an index."""
    return folder / CAPTURES_FOLDER / "w00000" / f"b{bucket:05d}.parquet"


def n_lacking(folder: Path, about: About) -> int:
    """Return how many buckets an index lacks."""
    return sum(not bucket_part(folder, each).exists() for each in range(about.buckets))


class Found(NamedTuple):
    """Where the answer to a url is."""

    archive: str
    offset: int


class Referral(NamedTuple):
    """What a revisit says of the record that holds what it would hold."""

    url: str
    date: int
    """Seconds since 1970; `captures.NO_DATE` if it does not say."""
    digest: str


class ArchiveIndex:
    """Looks up urls in an index that is complete.

    Raises (from each look-up)
    --------------------------
    DamageError
        If a part is not what was written.
    RetryableError
        If it cannot be read from here and now.
    """

    def __init__(self, folder: Path, buckets: int) -> None:
        self._folder = folder
        self._buckets = buckets

    def best(self, urls: Collection[str]) -> dict[str, Found]:
        """Return, for each url that is archived, the capture that counts."""
        wanted = _keys_of(urls)
        found: dict[Key, Found] = {}
        for table in self._rows(wanted):
            first = is_first([table[name].to_numpy() for name in Key._fields])
            for row in table.filter(pa.array(first)).to_pylist():
                key = Key(row["host"], row["url"])
                found.setdefault(key, Found(row["archive"], row["offset"]))
        return {url: found[key] for key, each in wanted.items() if key in found for url in each}

    def originals(self, referrals: Collection[Referral]) -> dict[Referral, Found]:
        """Return the captures that revisits refer to, of those that are archived.

        That is one of the url and second that a revisit names; if there is none, or it does not
        say, one of the url with the same digest.
        """
        by_url: dict[str, list[Referral]] = {}
        for each in referrals:
            by_url.setdefault(each.url, []).append(each)
        wanted = _keys_of(by_url)
        exact: dict[Referral, Found] = {}
        alike: dict[Referral, Found] = {}
        for table in self._rows(wanted):
            for row in table.to_pylist():
                if row["is_revisit"] or not has_body(row["status"]):
                    continue
                place = Found(row["archive"], row["offset"])
                for url in wanted.get(Key(row["host"], row["url"]), ()):
                    for each in by_url[url]:
                        if row["date"] == each.date:
                            exact.setdefault(each, place)
                        elif row["digest"] and row["digest"] == digest_hash(each.digest):
                            alike.setdefault(each, place)
        return alike | exact

    def _rows(self, wanted: Mapping[Key, object]) -> Iterator[pa.Table]:
        """Yield the rows of some keys, in their order, as they lie in row groups."""
        by_bucket: dict[int, list[Key]] = {}
        for key in sorted(wanted):
            by_bucket.setdefault(key.host % self._buckets, []).append(key)
        for bucket, keys in sorted(by_bucket.items()):
            yield from self._rows_of(bucket, keys)

    def _rows_of(self, bucket: int, keys: list[Key]) -> Iterator[pa.Table]:
        hosts = np.array([key.host for key in keys], np.uint64)
        urls = np.array([key.url for key in keys], np.uint64)
        with open_part(bucket_part(self._folder, bucket)) as part:
            for group in _groups_of(part, keys):
                table = part.read([group])
                is_wanted = np.isin(table["host"].to_numpy(), hosts)
                is_wanted &= np.isin(table["url"].to_numpy(), urls)
                if is_wanted.any():
                    yield table.filter(pa.array(is_wanted))


def _groups_of(part: Part, keys: Sequence[Key]) -> Iterator[int]:
    """Yield the row groups that may hold any of some keys, which are sorted."""
    for group in range(part.n_row_groups):
        hosts, urls = part.bounds(group, "host"), part.bounds(group, "url")
        if hosts[0] != hosts[1]:
            urls = (0, _GREATEST)
        least, greatest = map(Key, hosts, urls)
        at = bisect.bisect_left(keys, least)
        if at < len(keys) and keys[at] <= greatest:
            yield group


def _keys_of(urls: Iterable[str]) -> dict[Key, list[str]]:
    found: dict[Key, list[str]] = {}
    for url in urls:
        key = key_of(url)
        if key is not None:
            found.setdefault(key, []).append(url)
    return found


@lru_cache(maxsize=4)
def opened_index(folder: Path, index_id: str) -> About:
    """Return what a complete index is of, read once a process.

    Raises
    ------
    RunError
        If it is not the one that a run was begun with.
    """
    about = read_about(folder)
    if about is None or about.id != index_id:
        raise RunError(f"{folder} is not the index that this run was begun with; restore it")
    return about
