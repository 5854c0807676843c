from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.addresses import is_public, is_public_host

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.215.14",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]
NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.1.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b:1::808:808",
    "100::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("ip", PUBLIC)
def test_addresses_of_the_open_internet_are_public(ip):
    assert is_public(ip)


@pytest.mark.parametrize("ip", NOT_PUBLIC)
def test_every_other_address_is_not_public(ip):
    assert not is_public(ip)


def test_a_teredo_address_is_as_public_as_the_client_it_carries():
    client = int(ip_address("10.0.0.1")) ^ 0xFFFFFFFF
    assert not is_public(ip_address((0x20010000 << 96) | client))


def test_a_denied_network_is_not_public_in_any_of_its_forms():
    denied = [ip_network("8.8.8.0/24")]
    assert not is_public("8.8.8.8", denied)
    assert not is_public("::ffff:8.8.8.8", denied)
    assert is_public("8.8.4.4", denied)


def test_text_that_is_no_address_is_an_error():
    with pytest.raises(ValueError, match="does not appear to be"):
        is_public("example.org")


@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_as_public_as_the_address_itself(address):
    assert is_public(f"::ffff:{address}") == is_public(address)
    assert is_public(ip_address(int(ip_address("64:ff9b::")) | int(address))) == is_public(address)


@pytest.mark.parametrize(
    "host", ["example.org", "example.org.", "8.8.8.8", "[2606:4700::1111]", "a.demo.example"]
)
def test_ordinary_hosts_may_be_public(host):
    assert is_public_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "localhost",
        "localhost.",
        "a.localhost",
        "intranet",
        "printer.local",
        "db.internal",
        "nas.lan",
        "router.home.arpa",
        "127.0.0.1",
        "127.0.0.1.",
        "10.0.0.1",
        "[::1]",
        "[::ffff:7f00:1]",
        "[nonsense]",
        "999.1.1.1",
    ],
)
def test_names_and_literals_of_the_inside_are_refused(host):
    assert not is_public_host(host)
