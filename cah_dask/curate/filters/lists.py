"""Predicates over what a row is called: values of columns, hosts, uids, urls, digests."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.blocklists.exclusion import Exclusion, load_exclusion
from cah_dask.blocklists.hashlists import load_hash_lists
from cah_dask.curate.filters.node import Predicate, Test, Tools
from cah_dask.curate.pools.pool import Batch, Mask
from cah_dask.curate.pools.uids import keys_of
from cah_dask.errors import ConfigError, InputError
from cah_dask.keys import HELD_KEYS, KEY, Keys, among, of_texts, sort_order, unique
from cah_dask.urls import host_of, normal

Value: TypeAlias = str | int | bool


def is_in(batch: Batch, column: str, values: Sequence[Value]) -> Mask:
    """Tell which cells are among some values; an empty one never is.

    Raises
    ------
    InputError
        If the column holds something that such values are not compared with.
    """
    cells = batch.table[column]
    try:
        return np.asarray(pc.is_in(cells, pa.array(list(values)).cast(cells.type)), bool)
    except pa.ArrowException as error:
        raise InputError(
            f"{batch.part}: column {column} holds {cells.type}, which is not compared with "
            f"{values[0]!r}"
        ) from error


class Is(Predicate, frozen=True, kw_only=True, rename={"among": "in"}):
    """Whether a cell of any column is one of some values."""

    column: str
    among: tuple[Value, ...]

    @property
    def sparse_columns(self) -> list[str]:
        """The column."""
        return [self.column]

    def require_valid(self) -> None:
        """Check that there are values, of one type."""
        _require(self.among, "in")
        if len({type(value) for value in self.among}) > 1:
            raise ConfigError("in: expected values of one type; in YAML no is false, write 'no'")

    def test(self, tools: Tools) -> Test:  # noqa: ARG002  # of `Predicate`
        """Return the comparison."""
        return lambda batch: is_in(batch, self.column, self.among)


class License(Is, frozen=True, kw_only=True, rename={"among": "in"}):
    """Whether the licence of the row is one of some; a row without one has none of them."""

    column: str = "license"


class Host(Predicate, frozen=True, kw_only=True, rename={"among": "in"}):
    """Whether the host of a url, or a domain that it belongs to, is one of some."""

    COST: ClassVar[int] = 30
    among: tuple[str, ...] = ()
    file: str = ""
    """A list of hosts, one a line, beside those of `in`."""
    column: str = "url"

    @property
    def sparse_columns(self) -> list[str]:
        """The column of urls."""
        return [self.column]

    @property
    def files(self) -> list[str]:
        """The list."""
        return [self.file] if self.file else []

    def require_valid(self) -> None:
        """Check that there are hosts."""
        _require([*self.among, self.file], "in or file")

    def test(self, tools: Tools) -> Test:  # noqa: ARG002
        """Return a test that looks at each host once."""
        listed = load_exclusion([f"host:{self.file}"]).hosts if self.file else of_texts([])
        hosts = Exclusion(hosts=unique(np.concatenate([listed, of_texts(self.among)])))
        known: dict[str, bool] = {}

        def is_listed(url: str | None) -> bool:
            host = host_of(url or "")
            if host not in known:
                if len(known) >= _HOSTS_KNOWN:
                    known.clear()
                known[host] = bool(host) and hosts.excludes_host(host)
            return known[host]

        return lambda batch: np.fromiter(
            map(is_listed, batch.table[self.column].to_pylist()), bool, len(batch)
        )


_HOSTS_KNOWN = 1 << 18


class Page(Host, frozen=True, kw_only=True, rename={"among": "in"}):
    """Whether the page of the image is of a host, or of a domain, that is one of some."""

    column: str = "page_url"


class Uids(Predicate, frozen=True, kw_only=True):
    """Whether the uid is listed: in a subset file of DataComp, a parquet column, or a text."""

    COST: ClassVar[int] = 5
    file: str

    @property
    def columns(self) -> list[str]:
        """The uid."""
        return ["uid"]

    @property
    def files(self) -> list[str]:
        """The list."""
        return [self.file]

    def test(self, tools: Tools) -> Test:  # noqa: ARG002
        """Return the look-up; a subset file is searched where it lies."""
        path = Path(self.file)
        known = _subset(path) if path.suffix == ".npy" else load_exclusion([f"uid:{path}"]).uids
        return lambda batch: among(known, keys_of(batch.table["uid"], batch.part))


class NearDuplicate(Predicate, frozen=True, kw_only=True):
    """Whether `cah near-duplicates` found a better row within its bound, and so this one goes."""

    COST: ClassVar[int] = 5
    folder: str
    """What it left."""

    @property
    def columns(self) -> list[str]:
        """The uid."""
        return ["uid"]

    @property
    def files(self) -> list[str]:
        """The uids that go."""
        return [str(Path(self.folder) / NEAR_DUPLICATES)]

    def test(self, tools: Tools) -> Test:
        """Return the look-up."""
        return Uids(file=self.files[0]).test(tools)


NEAR_DUPLICATES = "uids.npy"
"""The subset file in the folder that `cah near-duplicates` leaves."""


def _subset(path: Path) -> Keys:
    """Map a subset file, whose order is what makes it one.

    Raises
    ------
    InputError
        If it is not there, holds anything else, or is not in order.
    """
    try:
        known: Keys = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"uid list {path} cannot be read: {error}") from error
    if known.dtype != KEY or known.ndim != 1:
        raise InputError(f"uid list {path} holds {known.dtype}; expected two uint64 a row (u8,u8)")
    for start in range(0, len(known), HELD_KEYS):
        piece = np.array(known[max(0, start - 1) : start + HELD_KEYS])
        if not (sort_order(piece) == np.arange(len(piece))).all():
            raise InputError(f"uid list {path} is not sorted; sort it with numpy.sort first")
    return known


class Urls(Predicate, frozen=True, kw_only=True):
    """Whether the url is listed, normalised as `extract` does."""

    COST: ClassVar[int] = 30
    file: str

    @property
    def sparse_columns(self) -> list[str]:
        """The url."""
        return ["url"]

    @property
    def files(self) -> list[str]:
        """The list."""
        return [self.file]

    def test(self, tools: Tools) -> Test:  # noqa: ARG002
        """Return the look-up."""
        known = load_exclusion([f"url:{self.file}"]).urls

        def test(batch: Batch) -> Mask:
            urls = batch.table["url"].fill_null("").to_pylist()
            return among(known, of_texts(map(normal, urls)))

        return test


class Hashes(Predicate, frozen=True, kw_only=True):
    """Whether a digest of the image is listed: md5, sha1 or sha256 of its bytes, or a phash."""

    COST: ClassVar[int] = 30
    file: str
    column: str = "sha256"
    """The column of digests; its name is that of their kind."""

    @property
    def sparse_columns(self) -> list[str]:
        """The column of digests."""
        return [self.column]

    @property
    def files(self) -> list[str]:
        """The list."""
        return [self.file]

    def require_valid(self) -> None:
        """Check the kind of digest."""
        if self.column not in ("md5", "sha1", "sha256", "phash"):
            raise ConfigError("column: expected md5, sha1, sha256 or phash")

    def test(self, tools: Tools) -> Test:  # noqa: ARG002
        """Return the look-up.

        Raises
        ------
        InputError
            If the list holds no digest of the kind of the column.
        """
        lists = load_hash_lists((self.file,))
        is_there = lists.with_phash if self.column == "phash" else self.column in lists.keys
        if not is_there:
            raise InputError(f"list {self.file} holds no {self.column}; set column to its kind")

        def is_listed(digest: str | None) -> bool:
            if digest is None or self.column != "phash":
                return lists.match(**{self.column: digest})
            return lists.resembles(digest, 0)

        def test(batch: Batch) -> Mask:
            digests = batch.table[self.column].to_pylist()
            try:
                return np.fromiter(map(is_listed, digests), bool, len(batch))
            except (TypeError, ValueError) as error:
                raise InputError(
                    f"{batch.part}: column {self.column} holds what is no {self.column} in hex"
                ) from error

        return test


def _require(values: Sequence[object], name: str) -> None:
    if not any(value != "" for value in values):
        raise ConfigError(f"expected {name}: what a row is compared with")
