"""The way to the web: names, addresses that may be reached, TLS, and one HTTP session.

Every connection is checked where the socket is made (`Guard.socket`), so that literals, redirects,
cached and rebound names and all IPv6 forms meet the same rule.
"""

import functools
import socket
import ssl
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from typing import Self, TypeAlias

import aiodns.error
import aiohttp
import msgspec
import pycares
from aiohttp.abc import AbstractResolver, ResolveResult

from cah_dask import __version__
from cah_dask.addresses import Network, is_public
from cah_dask.counts import Status
from cah_dask.directives import AGENT_NAME
from cah_dask.errors import ConfigError
from cah_dask.images.web.async_cache import Once
from cah_dask.images.web.connection import HEAD_BYTES, HEADERS, Channel, Connector, send_once
from cah_dask.images.web.dns_cache import Addresses, names_of

_PUBLIC_PORTS = frozenset({80, 443})
_DNS_TIMEOUT_S = 5.0
_DNS_TRIES = 2
_DNS_FLAGS = pycares.ARES_FLAG_EDNS | pycares.ARES_FLAG_NOSEARCH
"""NOSEARCH: a name that is gone is not asked for again within the domains of the site."""
_KEEP_ALIVE_S = 15.0
_NO_SUCH_NAME = frozenset(
    {aiodns.error.ARES_ENODATA, aiodns.error.ARES_ENOTFOUND, aiodns.error.ARES_EBADNAME}
)
_HEADERS = {
    "Accept": "image/jpeg, image/png, image/webp, image/gif, */*;q=0.1",
    "Accept-Encoding": "identity",  # images are compressed; anything more would be a bomb
}

AddrInfo: TypeAlias = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]


class NetworkOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who we are, and what we may reach."""

    contact: str = ""
    """Where site owners reach you: a mail address or an https url; no run without one."""
    about_url: str = ""
    """A page that explains the crawl; it joins the contact in the User-Agent."""
    allow_ports: tuple[int, ...] = ()
    """Ports that may be used besides 80 and 443."""
    allow_addresses: tuple[str, ...] = ()
    """Networks (CIDR) that may be reached although they are not public: tests, demos, mirrors."""
    deny_addresses: tuple[str, ...] = ()
    """Networks (CIDR) that may not be reached although they are public: the site's own."""
    resolve: dict[str, str] = {}
    """Host patterns with the address to use, as in ``"*.demo.example": 127.0.0.1``."""
    nameservers: tuple[str, ...] = ()
    """Addresses of the name servers to ask, with or without a port; default: the system's."""
    ca_file: str = ""
    """A PEM file of certificates to trust besides the system's."""


def check_network(options: NetworkOptions) -> None:
    """Raise ConfigError for what would only fail, or be rude, later."""
    if not options.contact:
        raise ConfigError(
            "download.contact is empty: give a mail address or https url where the owners of web "
            "sites reach you"
        )
    if not ("@" in options.contact or "://" in options.contact):
        raise ConfigError(f"download.contact: {options.contact!r} is no mail address and no url")
    if not user_agent(options).isascii() or not user_agent(options).isprintable():
        raise ConfigError(f"download: {user_agent(options)!r} cannot be sent as a User-Agent")
    try:
        Guard(options)
        for address in options.resolve.values():
            ip_address(address)
        tls_context(options.ca_file)
    except (ValueError, OSError) as error:
        raise ConfigError(f"download: {error}") from error


def user_agent(options: NetworkOptions) -> str:
    """Return the User-Agent: product, version and whom to write to, no disguise."""
    about = f"+{options.about_url}; " if options.about_url else ""
    return f"{AGENT_NAME}/{__version__} ({about}{options.contact})"


class AddressError(OSError):
    """A host cannot be reached, or may not be; `status` says which."""

    def __init__(self, status: Status, host: str) -> None:
        super().__init__(f"{host}: {status}")
        self.status = status


class Guard:
    """Which addresses and ports may be connected to."""

    def __init__(self, options: NetworkOptions) -> None:
        self._allowed: list[Network] = [ip_network(text) for text in options.allow_addresses]
        self._denied: list[Network] = [ip_network(text) for text in options.deny_addresses]
        self._ports = _PUBLIC_PORTS.union(options.allow_ports)

    def allows_port(self, port: int) -> bool:
        """Tell whether a url may name this port."""
        return port in self._ports

    def allows(self, address: str) -> bool:
        """Tell whether an address may be reached."""
        ip = ip_address(address.split("%", maxsplit=1)[0])
        return any(ip in network for network in self._allowed) or is_public(ip, self._denied)

    def socket(self, info: AddrInfo) -> socket.socket:
        """Make the socket of a connection, the last moment to refuse it.

        Raises
        ------
        AddressError
            If the address may not be reached.
        """
        family, kind, protocol, _, address = info
        if not self.allows(address[0]):
            raise AddressError(Status.BLOCKED_ADDRESS, address[0])
        return socket.socket(family, kind, protocol)


class Resolver(AbstractResolver):
    """Names to allowed addresses: each name is asked for once, and what failed is remembered.

    A resolver lives as long as its list; what names stand for is remembered longer (`dns_cache`).
    """

    def __init__(self, options: NetworkOptions, guard: Guard) -> None:
        self._fixed = options.resolve
        self._guard = guard
        self._family = socket.AF_UNSPEC if has_ipv6() else socket.AF_INET
        self._dns = aiohttp.AsyncResolver(
            nameservers=list(options.nameservers) or None,
            timeout=_DNS_TIMEOUT_S,
            tries=_DNS_TRIES,
            flags=_DNS_FLAGS,
        )
        self._names = names_of(options.nameservers)
        self._answers: Once[str, Addresses | Status] = Once(self._ask)

    async def lookup(self, host: str) -> Addresses:
        """Return the addresses of a host (a name, or an address as urls write it).

        Raises
        ------
        AddressError
            If there is none (dns_not_found), none to be had now (dns_error), or none that may be
            reached (blocked_address).
        """
        answer = await self._answers.get(host)
        if isinstance(answer, Status):
            if answer is Status.DNS_ERROR:
                self._answers.forget(host)
            raise AddressError(answer, host)
        return answer

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002  aiohttp passes it
    ) -> list[ResolveResult]:
        """Answer aiohttp, which asks for names only, in every family that has a route."""
        return [_result(host, address, port) for address in await self.lookup(host)]

    async def close(self) -> None:
        """Stop asking."""
        await self._dns.close()

    async def _ask(self, host: str) -> Addresses | Status:
        found = self._fixed_address(host) or self._names.get(host) or await self._find(host)
        if isinstance(found, Status):
            return found
        return tuple(filter(self._guard.allows, found)) or Status.BLOCKED_ADDRESS

    def _fixed_address(self, host: str) -> Addresses | None:
        literal = _literal(host)
        if literal is not None:
            return (literal,)
        fixed = (address for name, address in self._fixed.items() if fnmatchcase(host, name))
        address = next(fixed, None)
        return None if address is None else (address,)

    async def _find(self, host: str) -> Addresses | Status:
        try:
            answer = await self._dns.resolve(host, family=self._family)
        except OSError as error:
            code = error.__cause__.args[0] if error.__cause__ else None
            if code not in _NO_SUCH_NAME:
                return Status.DNS_ERROR
            self._names.put(host, Status.DNS_NOT_FOUND)
            return Status.DNS_NOT_FOUND
        found = tuple(entry["host"] for entry in answer)
        self._names.put(host, found)
        return found


def _literal(host: str) -> str | None:
    try:
        return str(ip_address(host.strip("[]")))
    except ValueError:
        return None


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=0, flags=flags
    )


def has_ipv6() -> bool:
    """Tell whether there is a route to the IPv6 internet, without sending anything."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect(("2001:db8::1", 9))  # RFC 3849: documentation, but routed like the rest
    except OSError:
        return False
    return True


@functools.cache
def tls_context(ca_file: str) -> ssl.SSLContext:
    """Return the one TLS context of this process: to make one costs more than a request."""
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    return context


class _Response(aiohttp.ClientResponse):
    """An answer that remembers where it came from, also when its connection is free."""

    peer: str | None = None
    channel: Channel | None = None

    async def start(self, connection: aiohttp.connector.Connection) -> Self:
        if isinstance(connection.protocol, Channel):
            self.channel = connection.protocol
        if connection.transport is not None:
            self.peer = connection.transport.get_extra_info("peername")[0]
        await super().start(connection)
        return self


def peer_of(response: aiohttp.ClientResponse) -> str | None:
    """Return the address that an answer came from."""
    return response.peer if isinstance(response, _Response) else None


def exceeds(response: aiohttp.ClientResponse) -> bool:
    """Tell whether a server sent more than the length of an answer, which then may be cut."""
    channel = response.channel if isinstance(response, _Response) else None
    return channel is not None and channel.exceeds


def open_session(
    options: NetworkOptions,
    resolver: Resolver,
    guard: Guard,
    timeout: aiohttp.ClientTimeout,
    *,
    keeps_connections: bool = True,
) -> aiohttp.ClientSession:
    """Return an HTTP session without cookies, proxies, decompression or limits of its own."""
    connector = Connector(
        resolver=resolver,
        socket_factory=guard.socket,
        ssl=tls_context(options.ca_file),
        use_dns_cache=False,  # the resolver has one
        limit=0,  # whoever calls keeps count
        keepalive_timeout=_KEEP_ALIVE_S if keeps_connections else None,
        force_close=not keeps_connections,
    )
    session = aiohttp.ClientSession(
        connector=connector,
        response_class=_Response,
        headers=_HEADERS | {"User-Agent": user_agent(options)},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=timeout,
        max_line_size=HEAD_BYTES,
        max_field_size=HEAD_BYTES,
        max_headers=HEADERS,
    )
    send_once(session)
    return session
