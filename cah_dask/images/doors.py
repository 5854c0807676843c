"""Addresses that let nobody in: a machine that is gone may have been a thousand hosts of a list."""

from collections import defaultdict

from cah_dask.images.targets import Target
from cah_dask.schema import Status

_SHUT = frozenset({Status.CONNECT_REFUSED, Status.CONNECT_TIMEOUT})
"""Statuses that speak against an address. Not connect_error: then it is we who have no route."""


class Doors:
    """What became of connections to each scheme, address and port.

    Parameters
    ----------
    max_hosts
        Hosts in a row that could not be connected to at a door before it counts as shut, for good.
    """

    def __init__(self, max_hosts: int) -> None:
        self._max_hosts = max_hosts
        self._shut_out: defaultdict[str, set[str]] = defaultdict(set)

    def is_shut(self, where: Target, address: str) -> bool:
        """Tell whether no further host should be tried at this address."""
        return len(self._shut_out[_door(where, address)]) >= self._max_hosts

    def note(self, where: Target, address: str, status: Status) -> None:
        """Learn from what became of a request."""
        if status in _SHUT:
            self._shut_out[_door(where, address)].add(where.host)
        elif not self.is_shut(where, address):
            self._shut_out[_door(where, address)].clear()


def _door(where: Target, address: str) -> str:
    return where.origin.replace(where.host, address, 1)
