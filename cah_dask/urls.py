"""Image links resolved the way a browser does it (WHATWG), then cut to what a download needs.

ada-url is the judge. Most links of the web are so plain that ada would only copy them; a regular
expression knows these by sight and saves the call. `tests/test_urls.py` holds both ways
to equal answers.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

import ada_url
import msgspec

from cah_dask.addresses import Network, is_among, is_public_host
from cah_dask.counts import Reject

T = TypeVar("T")

MAX_HOST = 253
"""Longest host name in characters (RFC 1035)."""

# What a browser copies: lower-case scheme and host, no port, no fragment, only characters that need
# no escape. Dot segments and the host are looked at apart.
_PLAIN = re.compile(
    r"https?://([a-z0-9_.-]+)(/[\w.~%!$&'()*+,;=:@/-]*)(?:\?[\w.~%!$&()*+,;=:@/?-]*)?\Z", re.ASCII
)
_PLAIN_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.[a-z][a-z0-9_-]*\Z")
_SCHEME = re.compile(r"[\x00-\x20]*([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_BASE = "about:blank"
ABSOLUTE = ("http://", "https://")
"""How links begin that are relative to nothing."""
_LONG = 8192  # characters; a longer link is left to ada, which takes linear time for a million ../


class Url(msgspec.Struct, frozen=True, gc=False):
    """A normalised http(s) url without fragment and credentials."""

    href: str
    host: str
    path: str


class Base(NamedTuple):
    """What the links of one page are relative to."""

    href: str = _NO_BASE
    scheme: str = ""
    origin: str = ""
    folder: str = ""

    @classmethod
    def of_page(cls, page_url: str, base_href: str | None = None) -> "Base":
        """Return the base of a page, given its address and its ``<base href>``.

        A ``<base>`` that leads nowhere or is no http(s) url does not count, as in a browser. A page
        without a usable address leaves only its absolute links resolvable.
        """
        page = cls._of(page_url, NOWHERE)
        return cls._of(base_href, page) if base_href else page

    @classmethod
    def _of(cls, link: str, outer: "Base") -> "Base":
        plain = _plain(_absolute(link, outer))
        url = plain or _resolve_by_ada(link, outer)
        if isinstance(url, Reject):
            return outer
        if not (plain or _plain(url.href)):
            return cls(url.href)
        scheme = url.href[: url.href.index("//")]
        origin = f"{scheme}//{url.host}"
        return cls(url.href, scheme, origin, origin + url.path[: url.path.rindex("/") + 1])


NOWHERE = Base()
"""The base of links that need none."""


def resolve(link: str, base: Base, allowed: Sequence[Network] = ()) -> Url | Reject:
    """Return the url that a link leads to, or why it leads nowhere.

    Addresses of the networks in `allowed` are as good as public ones.

    Never raises, whatever the link. NO_URL: empty; SCHEME: not http or https; PRIVATE_HOST: not on
    the public internet; BAD_URL: what a browser refuses too, or a host name that is too long.
    """
    url = _plain(_absolute(link, base)) or _resolve_by_ada(link, base)
    if isinstance(url, Reject) or _may_be_public(url.host) or is_among(url.host, allowed):
        return url
    return Reject.PRIVATE_HOST


def _absolute(link: str, base: Base) -> str:
    """Join by text what can be joined so; `_plain` then refuses what was not that simple."""
    if link.startswith(ABSOLUTE) or not base.origin or len(link) > _LONG:
        return link
    if link.startswith("//"):
        return base.scheme + link
    if link.startswith("/"):
        return base.origin + link
    if ":" in link or link.startswith(("?", "#")):
        return link
    folder = base.folder
    while link.startswith("../"):
        link = link[3:]
        folder = folder[: max(folder.rfind("/", 0, -1), len(base.origin)) + 1]
    return folder + link if link else ""


def _plain(href: str) -> Url | None:
    match = _PLAIN.match(href)
    if match is None:
        return None
    host, path = match.groups()
    if "/." in path or "/%2" in path or not _is_plain_host(host):
        return None
    return Url(href, host, path)


@lru_cache(maxsize=1 << 16)
def _is_plain_host(host: str) -> bool:
    """Tell whether a host is neither a number, nor punycode, nor in need of any other look."""
    return bool(_PLAIN_HOST.match(host)) and "xn--" not in host and len(host) <= MAX_HOST


def _resolve_by_ada(link: str, base: Base) -> Url | Reject:
    if not link.strip("\x00 \t\r\n\x0c"):
        return Reject.NO_URL
    scheme = _SCHEME.match(link)
    if scheme and scheme[1].lower() not in ("http", "https"):
        return Reject.SCHEME
    try:
        href = ada_url.join_url(base.href, _SURROGATE.sub("\ufffd", link))
    except ValueError:
        return Reject.BAD_URL
    return _split(href)


def _split(href: str) -> Url | Reject:
    """Take apart a url as ada writes it; drop fragment and credentials."""
    scheme, separator, rest = href.partition("://")
    if not separator or scheme not in ("http", "https"):
        return Reject.SCHEME
    authority, _, tail = rest.partition("#")[0].partition("/")
    authority = authority.rpartition("@")[2]
    spelt = authority[: authority.find("]") + 1] or authority.partition(":")[0]
    host = without_root(spelt)
    if not 0 < len(host) <= MAX_HOST:
        return Reject.BAD_URL
    authority = host + authority[len(spelt) :]
    return Url(f"{scheme}://{authority}/{tail}", host, "/" + tail.partition("?")[0])


def without_root(host: str) -> str:
    """Return a host without the dot at its end, which names the same one; "" for more dots."""
    name = host.removesuffix(".")
    return "" if name.endswith(".") or ".." in name else name


@lru_cache(maxsize=1 << 16)
def _may_be_public(host: str) -> bool:
    return is_public_host(host)


def host_of(href: str) -> str:
    """Return the host of an absolute url as `resolve` spells it; "" if it leads nowhere."""
    url = absolute(href)
    return "" if url is None else url.host


def absolute(href: str) -> Url | None:
    """Return an absolute url as `resolve` reads it, wherever it leads; None if there is none."""
    url = _plain(href) or _resolve_by_ada(href, NOWHERE)
    return url if isinstance(url, Url) else None


def normal(href: str) -> str:
    """Return an absolute url as `resolve` spells it, or as it is if it leads nowhere."""
    url = absolute(href)
    return href if url is None else url.href


def domains_of(host: str) -> list[str]:
    """Return a host and the domains that it belongs to, the longest first."""
    labels = host.split(".")
    return [".".join(labels[start:]) for start in range(len(labels))]


def longest_match(by_pattern: Mapping[str, T], host: str, default: T) -> T:
    """Return what belongs to the longest pattern, a name or ``*.domain``, that a host matches."""
    if not by_pattern:
        return default
    names = (host, *(f"*.{domain}" for domain in domains_of(host)))
    return next((by_pattern[name] for name in names if name in by_pattern), default)
