import asyncio
import socket

import pytest

from cah_dask.counts import Status
from cah_dask.errors import ConfigError
from cah_dask.images.web.dns_cache import Names
from cah_dask.images.web.network import (
    AddressError,
    Guard,
    NetworkOptions,
    Resolver,
    check_network,
    has_ipv6,
    tls_context,
    user_agent,
)
from tests.nameserver import NameServer

ME = NetworkOptions(contact="me@lab.example")


def lookups(options: NetworkOptions, *hosts: str) -> list[tuple[str, ...] | Status]:
    async def ask(resolver: Resolver, host: str) -> tuple[str, ...] | Status:
        try:
            return await resolver.lookup(host)
        except AddressError as error:
            return error.status

    async def run() -> list[tuple[str, ...] | Status]:
        resolver = Resolver(options, Guard(options))
        try:
            return [await ask(resolver, host) for host in hosts]
        finally:
            await resolver.close()

    return asyncio.run(run())


def test_the_user_agent_says_who_we_are():
    options = NetworkOptions(contact="me@lab.example", about_url="https://lab.example/crawl")
    assert user_agent(options).startswith("cah-dask/")
    assert user_agent(options).endswith(" (+https://lab.example/crawl; me@lab.example)")
    assert user_agent(ME).endswith(" (me@lab.example)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "contact is empty"),
        ({"contact": "someone"}, "no mail address and no url"),
        ({"contact": "a@b.c\r\nCookie: x"}, "cannot be sent"),
        ({"contact": "a@b.c", "about_url": "x\ny"}, "cannot be sent"),
        ({"contact": "a@b.c", "allow_addresses": ("10.0.0.0/99",)}, "10.0.0.0/99"),
        ({"contact": "a@b.c", "deny_addresses": ("lab",)}, "lab"),
        ({"contact": "a@b.c", "resolve": {"*.example": "localhost"}}, "localhost"),
        ({"contact": "a@b.c", "ca_file": "/nowhere/ca.pem"}, "No such file"),
    ],
)
def test_options_no_download_may_start_with_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        check_network(NetworkOptions(**options))


def test_good_options_pass():
    check_network(ME)
    check_network(NetworkOptions(contact="https://lab.example/contact"))


def test_the_guard_lets_public_addresses_and_exceptions_pass():
    guard = Guard(
        NetworkOptions(allow_addresses=("127.0.0.0/30",), deny_addresses=("192.88.0.0/16",))
    )
    allowed = ["8.8.8.8", "127.0.0.1", "2606:4700::1111"]
    refused = ["127.0.0.9", "10.0.0.1", "192.88.1.1", "::1", "::ffff:127.0.0.1", "fe80::1%eth0"]
    assert [guard.allows(address) for address in allowed + refused] == [True] * 3 + [False] * 6


def test_the_last_moment_to_refuse_is_the_socket():
    guard = Guard(ME)
    for address in ("127.0.0.1", "10.1.2.3"):
        with pytest.raises(AddressError) as caught:
            guard.socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 80)))
        assert caught.value.status is Status.BLOCKED_ADDRESS


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:7f00:1]", "0.0.0.0", "10.0.0.1", "[fc00::1]"]
)
def test_addresses_written_out_are_refused(host):
    assert lookups(ME, host) == [Status.BLOCKED_ADDRESS]


def test_fixed_names_are_not_asked_for():
    options = NetworkOptions(
        resolve={"*.demo.example": "127.0.0.1"}, allow_addresses=("127.0.0.1",)
    )
    assert lookups(options, "a.demo.example") == [("127.0.0.1",)]
    assert lookups(NetworkOptions(resolve={"*": "127.0.0.1"}), "a") == [Status.BLOCKED_ADDRESS]


def test_names_are_asked_for_once_and_failures_are_told_apart():
    names: dict[str, str | int] = {
        "good.example": "203.0.113.9",
        "public.example": "8.8.4.4",
        "rebound.example": "127.0.0.1",
        "sick.example": NameServer.SERVFAIL,
    }
    with NameServer(names) as server:
        options = NetworkOptions(nameservers=(server.address,))
        hosts = ["public.example", "gone.example", "good.example", "rebound.example"]
        assert lookups(options, *hosts, *hosts) == 2 * [
            ("8.8.4.4",),
            Status.DNS_NOT_FOUND,
            Status.BLOCKED_ADDRESS,  # a documentation address
            Status.BLOCKED_ADDRESS,
        ]
        families = 2 if has_ipv6() else 1
        assert all(server.questions[host] <= families for host in hosts), server.questions
        assert lookups(options, "sick.example") == [Status.DNS_ERROR]


def test_what_one_list_learned_of_a_name_the_next_one_knows():
    with NameServer({"public.example": "8.8.4.4"}) as server:
        options = NetworkOptions(nameservers=(server.address,))
        hosts = ["public.example", "gone.example"]
        expected = [("8.8.4.4",), Status.DNS_NOT_FOUND]
        assert lookups(options, *hosts) == expected
        asked = server.questions.total()
        assert lookups(options, *hosts) == expected
        assert server.questions.total() == asked
        stricter = NetworkOptions(nameservers=options.nameservers, deny_addresses=("8.8.4.0/24",))
        assert lookups(stricter, "public.example") == [Status.BLOCKED_ADDRESS]


def test_names_are_not_looked_for_in_the_domains_of_the_site(monkeypatch):
    monkeypatch.setenv("LOCALDOMAIN", "lab.example")  # what `search` in resolv.conf does
    with NameServer({"gone.example.lab.example": "8.8.4.4"}) as server:
        options = NetworkOptions(nameservers=(server.address,))
        assert lookups(options, "gone.example") == [Status.DNS_NOT_FOUND]
        assert set(server.questions) == {"gone.example"}


def test_answers_are_believed_for_a_while_and_the_oldest_make_room():
    now = 0.0
    names = Names(keep_s=10, limit=2, clock=lambda: now)
    names.put("a.example", ("192.0.2.1",))
    names.put("b.example", Status.DNS_NOT_FOUND)
    now = 9.0
    assert names.get("a.example") == ("192.0.2.1",)
    assert names.get("b.example") is Status.DNS_NOT_FOUND
    names.put("a.example", ("192.0.2.2",))
    names.put("c.example", ("192.0.2.3",))
    assert names.get("b.example") is None
    now = 18.0
    assert names.get("a.example") == ("192.0.2.2",)
    now = 19.0
    assert names.get("a.example") is None


def test_a_failing_name_server_is_asked_again():
    with NameServer({"a.example": NameServer.SERVFAIL}) as server:
        options = NetworkOptions(nameservers=(server.address,))
        assert lookups(options, "a.example", "a.example") == [Status.DNS_ERROR] * 2
        asked = server.questions["a.example"]
        lookups(options, "a.example")
        assert server.questions["a.example"] < 2 * asked


def test_there_is_one_tls_context():
    assert tls_context("") is tls_context("")
