"""How many urls of one host a wave fetches, and which rows are beyond that."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from cah_dask.keys import Index, Keys, find, unique
from cah_dask.urls import host_of, longest_match

BEYOND_QUOTA = "host_quota/"
"""How notes begin that count the urls of a host beyond its quota."""


@dataclass(frozen=True, slots=True)
class HostQuotas:
    """How many urls of a host a wave fetches."""

    most: int | None = None
    """None for all of them."""
    of: Mapping[str, int | None] = field(default_factory=dict)
    """Other numbers for some hosts, by name or ``*.domain``."""

    @property
    def least(self) -> float:
        """The smallest of all; inf if there is none."""
        return min(math.inf if each is None else each for each in (self.most, *self.of.values()))

    def towards(self, host: str) -> float:
        """Return the quota of one host; inf if it has none."""
        found = longest_match(self.of, host, self.most)
        return math.inf if found is None else found


NO_QUOTAS = HostQuotas()


def beyond_quota(
    tables: Iterable[pa.Table], rows: Index, keys: Keys, quotas: HostQuotas
) -> tuple[Index, dict[str, int]]:
    """Return those of some rows whose host has its quota of urls before theirs.

    Parameters
    ----------
    tables
        They have a column `url`.
    rows
        Numbers of the rows, counted through all tables, ascending.
    keys
        The key of the url of each of `rows`.

    Returns
    -------
    tuple
        The rows, and how many urls of each host that makes, by `BEYOND_QUOTA` and its name.
    """
    urls = unique(keys)
    if len(urls) <= quotas.least:  # so no host has more
        return np.empty(0, int), {}
    at = find(urls, keys)
    host = np.empty(len(urls), int)
    host[at], names = _hosts(tables, rows)
    by_host = np.argsort(host, kind="stable")
    starts = np.searchsorted(host[by_host], host[by_host])
    is_beyond = np.empty(len(urls), bool)
    quota = np.array([quotas.towards(name) for name in names])
    is_beyond[by_host] = np.arange(len(urls)) - starts >= quota[host[by_host]]
    counts = np.bincount(host[is_beyond])
    notes = {
        f"{BEYOND_QUOTA}{names[number]}": int(counts[number])
        for number in np.flatnonzero(counts).tolist()
    }
    return rows[is_beyond[at]], notes


def _hosts(tables: Iterable[pa.Table], rows: Index) -> tuple[Index, list[str]]:
    """Return the number of the host of each of some rows (ascending), and the hosts by number."""
    numbers: dict[str, int] = {}
    parts, offset = [np.empty(0, int)], 0
    for table in tables:
        start, stop = np.searchsorted(rows, (offset, offset + len(table)))
        urls = table["url"].take(rows[start:stop] - offset).to_pylist()
        parts.append(
            np.fromiter((numbers.setdefault(host_of(url), len(numbers)) for url in urls), int)
        )
        offset += len(table)
    return np.concatenate(parts), list(numbers)
