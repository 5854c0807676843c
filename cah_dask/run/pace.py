"""Which hosts set the pace of a run, in words."""

from collections.abc import Iterator

from cah_dask.candidates.host_quotas import BEYOND_QUOTA, HostQuotas
from cah_dask.counts import Counts
from cah_dask.images.manners.hosts import HostOptions
from cah_dask.release.summary import most_first

HOSTS_NAMED = 5
"""Hosts that are named, those with the most urls beyond their quota."""


def slow_hosts(deduped: Counts, options: HostOptions) -> list[str]:
    """Return a line for each of the hosts that had more urls than their quota, the largest first.

    No other host can hold a wave up for longer: one with fewer urls is through sooner.
    """
    hosts = most_first(dict(_beyond_quota(deduped)))
    return [_line(host, n_urls, options) for host, n_urls in list(hosts.items())[:HOSTS_NAMED]]


def _beyond_quota(deduped: Counts) -> Iterator[tuple[str, int]]:
    """Yield the hosts that had more urls than their quota, and how many."""
    for key, n_urls in deduped.notes.items():
        if key.startswith(BEYOND_QUOTA):
            yield key.removeprefix(BEYOND_QUOTA), n_urls


class Named:
    """The hosts that a person was told of."""

    def __init__(self, options: HostOptions) -> None:
        self._options = options
        self._hosts: set[str] = set()

    def news(self, deduped: Counts) -> list[str]:
        """Return a line for each host that is new among those beyond their quota; a few in all."""
        lines = []
        for host, n_urls in _beyond_quota(deduped):
            if host in self._hosts or len(self._hosts) == HOSTS_NAMED:
                continue
            self._hosts.add(host)
            lines.append(_line(host, n_urls, self._options))
        return lines


def _line(host: str, n_urls: int, options: HostOptions) -> str:
    quota = HostQuotas(options.quota, options.quota_of).towards(host)
    hours = quota * options.towards(host).spacing_s / 3600
    return (
        f"beyond download.hosts.quota: {n_urls:,} urls of {host}, whose {quota:,.0f} of a wave "
        f"take at least {hours:.1f} h"
    )
