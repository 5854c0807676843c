"""Every outcome there is, from one list over a web that holds every fault."""

import contextlib
import hashlib
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import trustme

from cah_dask.blocklists.exclusion import load_exclusion
from cah_dask.counts import Status
from cah_dask.images.download import download_list
from cah_dask.images.manners.hosts import HostOptions
from cah_dask.images.options import DownloadOptions
from cah_dask.images.outcomes import troubled_hosts
from cah_dask.images.picture.decode import DecodeOptions
from tests.hostile import many_scans, picture
from tests.nameserver import NameServer
from tests.rawserver import RawServer, mutated_answers, odd_answers
from tests.webserver import WebServer


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """Listen and never accept, until the kernel answers no more: to connect takes for ever."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.settimeout(0)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def secure_web() -> Iterator[WebServer]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("secure.test").configure_cert(context)
    with WebServer(tls=context) as server:
        yield server


@pytest.fixture(scope="module")
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        server.robots["robots.test"] = b"User-agent: *\nDisallow: /"
        server.robots["garbled.test"] = b"\x1f\x8b"
        server.bodies["/listed.jpg"] = picture(seed=99)
        server.bodies["/scans.jpg"] = many_scans()
        yield server


def planted(web: WebServer, secure_web: WebServer, dead_end: int, closed: int) -> dict[str, Status]:
    """Return urls with the status that each must end in."""

    def at(path: str, host: str) -> str:
        return web.url(path, f"{host}.test")

    by_name = {
        "timeout": ["hang"],
        "disconnected": ["cut", "drop"],
        "http_other": ["garbage", "longheader", "204"],
        "http_403": ["403"],
        "http_404": ["404"],
        "http_410": ["410"],
        "http_429": ["429"],
        "http_4xx": ["400", "418", "451"],
        "http_5xx": ["500", "502", "503"],
        "too_big": ["endless", "big", "gzip"],
        "too_slow": ["drip"],
        "bad_type": ["html"],
        "empty": ["empty"],
        "optout": ["noai", "tdm"],
        "redirect_limit": ["loop"],
        "decode_format": ["htmlasjpeg", "eps"],
        "decode_truncated": ["truncated"],
        "decode_error": ["broken", "corrupt"],
        "decode_crash": ["scans"],
        "too_many_pixels": ["bomb"],
        "animated": ["animated"],
        "too_small": ["tiny"],
        "aspect": ["strip"],
        "hash_listed": ["listed"],
        "changed": ["ok-changed"],
        "ok": ["ok", "png", "webp", "gif", "mislabelled", "otherbot"],
    }
    urls = {
        at(f"/{name}.jpg", name): Status(status)
        for status, names in by_name.items()
        for name in names
    }
    return urls | {
        "http://gone.example/x.jpg": Status.DNS_NOT_FOUND,
        "http://gone.example/y.jpg": Status.DNS_NOT_FOUND,
        "http://sick.example/x.jpg": Status.DNS_ERROR,
        f"http://closed.test:{closed}/": Status.CONNECT_REFUSED,
        f"http://full.test:{dead_end}/": Status.CONNECT_TIMEOUT,
        f"http://127.255.255.255:{closed}/": Status.CONNECT_ERROR,  # the broadcast of loopback
        secure_web.url("/ok.jpg", "secure.test"): Status.TLS_CERTIFICATE,
        web.url("/ok.jpg", "plain.test").replace("http:", "https:"): Status.TLS_ERROR,
        at("/redirect.jpg?to=gopher://x/", "redirect"): Status.REDIRECT_INVALID,
        at("/redirect.jpg", "redirect"): Status.REDIRECT_INVALID,
        at("/redirect.jpg?to=http://10.9.8.7/", "redirect"): Status.BLOCKED_ADDRESS,
        at("/redirect.jpg?to=http://redirect.test:23/", "redirect"): Status.BLOCKED_PORT,
        "http://10.0.0.1/": Status.BLOCKED_ADDRESS,
        "http://ok.test:6379/": Status.BLOCKED_PORT,
        "mailto:me@lab.example": Status.BAD_URL,
        at("/ok.jpg", "robots"): Status.ROBOTS,
        at("/ok.jpg", "garbled"): Status.ROBOTS_UNREACHABLE,
        at("/ok.jpg", "images.closed-shop"): Status.OPTOUT,
        **{at(f"/hang-{n}.jpg", "dead"): Status.TIMEOUT for n in range(3)},
        **{at(f"/hang-{n}.jpg", "dead"): Status.HOST_SUSPENDED for n in range(3, 9)},
    }


def test_every_outcome_is_told_apart_and_counted_exactly(web, secure_web, tmp_path: Path):
    (tmp_path / "hosts").write_text("closed-shop.test")
    (tmp_path / "md5s").write_text(hashlib.md5(picture(seed=99)).hexdigest())
    names = {"sick.example": NameServer.SERVFAIL}
    with full_backlog() as dead_end, NameServer(names) as nameserver:
        closed = closed_port()
        expected = planted(web, secure_web, dead_end, closed)
        options = DownloadOptions(
            contact="me@lab.example",
            resolve={"*.test": "127.0.0.1"},
            nameservers=(nameserver.address,),
            allow_addresses=("127.0.0.1/32", "127.255.255.255/32"),
            allow_ports=(web.port, secure_web.port, dead_end, closed),
            hosts=HostOptions(
                spacing_s=0, backoff_s=0.05, max_failures=2, rest_s=0.1, concurrency=1
            ),
            retries=0,
            connect_timeout_s=2,
            read_timeout_s=1,
            total_timeout_s=10,
            max_bytes=2_000_000,
            decode_timeout_s=3,
            alarm_share=0,
        )
        began = time.monotonic()
        made = download_list(
            list(expected),
            tmp_path / "a.h5",
            options,
            DecodeOptions(),
            exclusion=load_exclusion([f"host:{tmp_path / 'hosts'}", f"md5:{tmp_path / 'md5s'}"]),
            published={url: frozenset("0") for url in expected if "ok-changed" in url},
        )
    found = dict(zip(expected, made.outcomes["status"].to_pylist(), strict=True))
    assert found == {url: str(status) for url, status in expected.items()}
    counts = Counter(expected.values())
    of_archives = {Status.NOT_ARCHIVED, Status.ARCHIVE_LOST}
    assert set(counts) == set(Status) - of_archives, "a status that no test has seen"
    assert made.counts.kept == counts.pop(Status.OK)
    assert made.counts.rejected == {str(status): n for status, n in counts.items()}
    assert time.monotonic() - began < 20


def test_whatever_a_server_says_each_url_has_its_outcome(tmp_path: Path):
    answers = [*odd_answers(), *mutated_answers(500)]
    with RawServer(answers) as server:
        urls = [f"http://h{n}.test:{server.port}/{n}" for n in range(len(answers))]
        options = DownloadOptions(
            contact="me@lab.example",
            resolve={"*.test": "127.0.0.1"},
            allow_addresses=("127.0.0.1/32",),
            allow_ports=(server.port,),
            hosts=HostOptions(spacing_s=0, backoff_s=0, address_concurrency=64),
            retries=0,
            read_timeout_s=5,
            total_timeout_s=10,
            alarm_share=0,
        )
        made = download_list(urls, tmp_path / "a.h5", options, DecodeOptions())
    made.counts.require_balance("raw")
    assert made.counts.kept >= 1
    assert {"http_other", "disconnected", "redirect_invalid"} <= set(made.counts.rejected)


def test_the_hosts_with_the_most_trouble_are_named_with_all_their_outcomes():
    rows = [(f"http://h{n}.test/{k}.jpg", "timeout") for n in range(9) for k in range(n)]
    rows += [("http://h7.test/x.jpg", "ok"), ("http://dead-links.test/", "http_404")]
    table = pa.table({"url": [url for url, _ in rows], "status": [status for _, status in rows]})
    found = troubled_hosts(table)
    assert list(found) == [f"h{n}.test" for n in (8, 7, 6, 5, 4)]
    assert found["h7.test"] == {"ok": 1, "timeout": 7}
    assert troubled_hosts(table.filter(pc.equal(table["status"], "http_404"))) == {}
