import socket
import urllib.error
import urllib.request
from collections import Counter, defaultdict

import msgspec
import pytest

from cah_dask.counts import Status
from cah_dask.demo.planting import plan_site
from cah_dask.demo.plants import INNER_ADDRESS, INNER_HOST, MAX_BYTES, ROBOTS_TXT
from cah_dask.demo.server import LOOPBACK, serve
from cah_dask.images.download import download_list
from cah_dask.images.options import DownloadOptions
from cah_dask.images.picture.decode import DecodeOptions

SEED = 7


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tmp_path_factory.mktemp("server") / "access.log"


@pytest.fixture(scope="module")
def site(log):
    with serve(SEED, log) as ports:
        yield plan_site(SEED, ports)


@pytest.fixture(scope="module")
def options(site):
    ports = site.ports
    fields = {
        "contact": "demo@demo.example",
        "resolve": {INNER_HOST: INNER_ADDRESS, "*.demo.example": LOOPBACK},
        "allow_addresses": [f"{LOOPBACK}/32"],
        "allow_ports": [ports.web, ports.closed],
        "nameservers": [f"{LOOPBACK}:{ports.names}"],
        "max_bytes": MAX_BYTES,
        "read_timeout_s": 4.0,
        "retry_delay_s": 0.1,
        "hosts": {"spacing_s": 0.0, "max_failures": 99, "backoff_s": 0.1},
    }
    return msgspec.convert(fields, DownloadOptions)


def ask(url, host):
    """Request a url at a host by the address of the server."""
    port = url.split("/")[2].partition(":")[2]
    here = url.replace(url.split("/")[2], f"{LOOPBACK}:{port}")
    request = urllib.request.Request(here, headers={"Host": f"{host}:{port}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read()


def some_of_each_fate(site, n):
    """Return n urls of each status, with the status."""
    urls = defaultdict(list)
    for page in site.pages:
        for planted in page.images:
            if isinstance(planted.fate, Status):
                urls[planted.fate].append(planted.url)
    return {url: fate for fate, found in urls.items() for url in dict.fromkeys(found[:n])}


def detours(site):
    """Return the urls of pictures that are not had by one plain request."""
    return [
        url
        for url, answer in site.answers.items()
        if answer.fails_first or answer.delay_s or "/archive/" in answer.headers.get("Location", "")
    ]


def test_every_planted_fault_ends_in_the_status_it_was_planted_for(site, options, tmp_path):
    fates = some_of_each_fate(site, 2)
    found = download_list(list(fates), tmp_path / "images.h5", options, DecodeOptions()).outcomes

    assert set(fates.values()) == {Status.OK, *site.truth.lost}
    assert dict(zip(found["url"].to_pylist(), found["status"].to_pylist(), strict=True)) == fates


def test_pictures_that_moved_or_take_a_second_try_are_had(site, options, tmp_path):
    urls = detours(site)[::5]
    found = download_list(urls, tmp_path / "images.h5", options, DecodeOptions()).outcomes

    assert Counter(found["status"].to_pylist()) == {Status.OK: len(urls)}
    assert max(found["attempts"].to_pylist()) == 2


def test_the_log_has_a_line_for_each_request(site, log):
    url = next(url for url, answer in site.answers.items() if answer.status == 404)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        ask(url, url.split("/")[2].partition(":")[0])

    assert f"404 {url}\n" in log.read_text()


def test_every_host_has_the_same_robots_txt(site):
    url = f"http://any.demo.example:{site.ports.web}/robots.txt"
    assert ask(url, "any.demo.example").decode() == ROBOTS_TXT


def test_nobody_listens_at_the_closed_port(site):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, site.ports.closed), timeout=5)


def test_the_server_ends_with_its_context(tmp_path):
    with serve(SEED, tmp_path / "access.log") as ports:
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, ports.web), timeout=5)
