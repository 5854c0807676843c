"""Which addresses and host names belong to the public internet: pure predicates, no network.

A web page can name any address, so a crawler inside a cluster must refuse the ones that lead to
its neighbours. Literals are refused when a link is read, resolved addresses when a socket is made.
"""

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits
_V6_GLOBAL = ip_network("2000::/3")  # RFC 4291: the only unicast space handed out so far
_V6_DOCUMENTATION = ip_network("3fff::/20")  # RFC 9637, still global for Python 3.11

LOCAL_SUFFIXES = ("localhost", "local", "localdomain", "internal", "intranet", "lan", "home.arpa")
"""Names that only mean something inside a site: RFC 6761, RFC 6762, RFC 8375 and their usage."""


def is_public(ip: str | Address, denied: Iterable[Network] = ()) -> bool:
    """Tell whether an address is one that strangers on the internet may talk to.

    Parameters
    ----------
    ip
        An address, or its text; a zone (``fe80::1%eth0``) is ignored.
    denied
        More networks to refuse, such as the public ranges of the own site.

    Returns
    -------
    bool
        False for loopback, private, shared, link-local, reserved, documentation and multicast
        addresses, and for IPv6 forms (mapped, 6to4, Teredo, NAT64) that hide one of these.

    Raises
    ------
    ValueError
        If `ip` is no address.
    """
    address = _innermost(ip_address(ip.split("%")[0]) if isinstance(ip, str) else ip)
    if address.version == 6 and (address not in _V6_GLOBAL or address in _V6_DOCUMENTATION):
        return False
    if address.is_multicast or not address.is_global:
        return False
    return not any(address in network for network in denied)


def _innermost(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address carries, if it is of such a form."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour or address


def is_among(host: str, networks: Iterable[Network]) -> bool:
    """Tell whether the host of a normalised url is an address of one of some networks."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return False
    return any(address in network for network in networks)


def is_public_host(host: str) -> bool:
    """Tell whether the host of a normalised url may be public, without asking anyone.

    Parameters
    ----------
    host
        As a WHATWG url parser gives it: lower case, numbers already turned into dotted form, IPv6
        in brackets.

    Returns
    -------
    bool
        False for addresses that are not public, names without a dot and names of a local domain.
        True says nothing about what the name resolves to.
    """
    name = host.removesuffix(".")
    if name.startswith("[") or name.rpartition(".")[2].isdigit():
        try:
            return is_public(name.strip("[]"))
        except ValueError:
            return False
    return "." in name and not any(name.endswith("." + suffix) for suffix in LOCAL_SUFFIXES)
