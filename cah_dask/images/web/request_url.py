"""What may be requested at all: a url, read as browsers read it, or the status that refuses it."""

from dataclasses import dataclass

import ada_url

from cah_dask.counts import Status
from cah_dask.images.web.network import Guard
from cah_dask.urls import without_root

_PORTS = {"http:": 80, "https:": 443}
_PARTS = ("protocol", "hostname", "host", "port", "pathname", "search")


@dataclass(frozen=True, slots=True)
class Target:
    """A url that may be requested, without credentials and fragment."""

    url: str
    origin: str
    """Scheme, host and port: where its robots.txt is."""
    host: str
    """Lower case, no dot at the end, IPv6 in brackets, international names as punycode."""


def target(url: str, guard: Guard, base: str | None = None) -> Target | Status:
    """Read a url, relative to `base` if that is given.

    Returns
    -------
    Target or Status
        bad_url for what is no http or https url, blocked_port for a port that is not allowed.
    """
    try:
        parts = ada_url.parse_url(url if base is None else ada_url.join_url(base, url), _PARTS)
    except (ValueError, UnicodeError):
        return Status.BAD_URL
    host = without_root(parts["hostname"])
    if parts["protocol"] not in _PORTS or not host:
        return Status.BAD_URL
    if not guard.allows_port(int(parts["port"] or _PORTS[parts["protocol"]])):
        return Status.BLOCKED_PORT
    origin = f"{parts['protocol']}//{host}{parts['host'][len(parts['hostname']) :]}"
    return Target(f"{origin}{parts['pathname']}{parts['search']}", origin, host)
