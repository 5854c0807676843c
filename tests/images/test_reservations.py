"""What a site reserves beside robots.txt: by headers, also of redirects, and by tdmrep.json."""

import itertools
import json
from pathlib import Path

import pytest
from aiohttp import web as http

from cah_dask.images.manners.hosts import HostOptions
from cah_dask.images.manners.tdmrep import relevant, reservations
from tests.images.downloads import download, options, statuses
from tests.webserver import WebServer

HOST = "a.test"
TDMREP = "/.well-known/tdmrep.json"


class Reserving(WebServer):
    """Adds headers to the answers of some paths, and has a tdmrep.json on some hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.more: dict[str, list[tuple[str, str]]] = {}
        self.tdmrep: dict[str, http.Response | str] = {}

    async def _behave(self, host, request):
        if request.path == TDMREP and host in self.tdmrep:
            told = self.tdmrep[host]
            if isinstance(told, str):
                return http.Response(text=told, content_type="application/json")
            return http.Response(status=told.status, headers=told.headers)
        response = await super()._behave(host, request)
        for name, value in self.more.get(request.path, ()):
            response.headers.add(name, value)
        return response


RESERVED = [
    [("X-Robots-Tag", "noai noimageai")],
    [("X-Robots-Tag", "all"), ("x-robots-tag", "otherbot: none"), ("X-ROBOTS-TAG", "noml")],
    [("X-Robots-Tag", "unavailable_after: Fri, 25 Jun 2030 15:00:00 GMT, noai")],
    [("TDM-Reservation", "0"), ("TDM-Reservation", "1")],
    [("tdm-reservation", "1, 1")],
    [("Content-Signal", "search=yes, ai-train=no")],
    [("Content-Usage", "search=y"), ("Content-Usage", "train-ai=n")],
]
FREE = [
    [],
    [("X-Robots-Tag", "otherbot: noai"), ("TDM-Reservation", "0")],
    [("Content-Signal", "ai-train=yes, search=no"), ("Content-Usage", "train-ai=y")],
    [("X-Robots-Tag", "max-image-preview: none, nofollow")],
]


@pytest.mark.parametrize("path", ["/ok.jpg", "/redirect.jpg?to=/ok.jpg"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [*zip(RESERVED, itertools.repeat("optout")), *zip(FREE, itertools.repeat("ok"))],
)
def test_an_image_is_reserved_by_its_headers_and_by_those_of_redirects(
    tmp_path: Path, path, headers, status
):
    with Reserving() as web:
        web.more[path.partition("?")[0]] = headers
        made, _ = download([web.url(path)], tmp_path, options(web))
        assert statuses(made) == [status]
        if path != "/ok.jpg":
            assert web.hits[HOST, "/ok.jpg"] == (status == "ok"), "the redirect ended it"


def test_what_is_said_of_training_can_be_ignored(tmp_path: Path):
    with Reserving() as web:
        web.more["/ok-1.jpg"] = [("Content-Signal", "ai-train=no")]
        web.more["/ok-2.jpg"] = [("Content-Usage", "train-ai=n")]
        web.more["/ok-3.jpg"] = [("TDM-Reservation", "1")]
        urls = [web.url(f"/ok-{n}.jpg") for n in (1, 2, 3)]
        for n, name in enumerate(["content_signal", "content_usage", "tdm"]):
            made, _ = download(urls, tmp_path, options(web, **{f"respect_{name}": False}))
            assert statuses(made) == ["ok" if k == n else "optout" for k in range(3)]


def test_what_robots_txt_says_of_training_costs_no_request(tmp_path: Path):
    with Reserving() as web:
        web.robots[HOST] = (
            b"User-agent: *\nContent-Signal: search=yes, ai-train=no\nAllow: /\n"
            b"Content-Usage: /free/ train-ai=y\nDisallow: /ok-9"
        )
        web.bodies["/free/a.jpg"] = b""
        urls = [web.url(path) for path in ("/ok-1.jpg", "/ok-2.jpg", "/ok-9.jpg", "/free/a.jpg")]
        made, _ = download(urls, tmp_path, options(web))
        assert statuses(made) == ["optout", "optout", "robots", "empty"]
        assert made.outcomes["http_status"].to_pylist() == [None, None, None, 200]
        assert made.counts.notes["requests"] == 2
        ignoring = options(web, respect_content_signal=False)
        made, _ = download(urls, tmp_path, ignoring)
        assert statuses(made) == ["ok", "ok", "robots", "empty"]


def rule(location: str, reservation: object = 1) -> dict[str, object]:
    return {"location": location, "tdm-reservation": reservation, "tdm-policy": "http://a.test/p"}


FILES = [
    ([rule("/")], {"/": True, "/a/b.jpg": True}),
    ([rule("*")], {"/a/b.jpg": True}),
    ([rule("/a/")], {"/a/b.jpg": True, "/b/a/": False}),
    ([rule("/free/", 0), rule("/")], {"/free/a.jpg": False, "/a.jpg": True}),
    ([rule("/"), rule("/free/", 0)], {"/free/a.jpg": True}),  # the first one counts
    ([rule("/*.jpg$")], {"/a/b.jpg": True, "/b.jpg.png": False, "/a?b.jpg": True}),
    ([rule("/a?b[c]*")], {"/a?b[c]d": True, "/aXbcd": False}),
    ([rule("/a%20b")], {"/a%20b.jpg": True, "/a b.jpg": True, "/ab": False}),
    ([rule("/caf\u00e9")], {"/caf%C3%A9.jpg": True}),
    ([rule("images/")], {"/images/a.jpg": True}),
    ([rule("/", "1")], {"/a": True}),
    ([rule("/", 0)], {"/a": False}),
    ([rule("/", None), rule("/", "yes"), {"tdm-reservation": 1}, 5, None, []], {"/a": False}),
    (rule("/"), {"/a": True}),
    ([], {"/a": False}),
    ({"error": "not found"}, {"/a": False}),
    ([rule(f"/{n}") for n in range(2000)], {"/a": True}),  # so many rules reserve all
]


@pytest.mark.parametrize(("file", "expected"), FILES)
def test_the_first_location_that_matches_a_path_reserves_it_or_not(file, expected):
    text = relevant(json.dumps(file).encode())
    assert text is not None
    found = reservations(text)
    assert {path: f"http://a.test:80{path}" in found for path in expected} == expected


def test_a_page_instead_of_a_file_says_nothing_and_a_damaged_file_is_none():
    assert relevant(b"<html>404</html>") == relevant(b"") == ""
    assert relevant(b'\xef\xbb\xbf[{"location": "/", "tdm-reservation": 1}]') == '[["/", true]]'
    assert relevant(b'[{"location": "/", "tdm-reser') is None
    assert relevant(b"[" * 100_000) is None


def test_no_location_makes_a_match_slow():
    text = relevant(json.dumps([rule("/" + "*a" * 500 + "b")]).encode())
    assert text is not None
    assert f"http://a.test/{'a' * 2000}" not in reservations(text)


def test_a_file_of_reservations_is_asked_for_once_and_only_if_told_so(tmp_path: Path):
    with Reserving() as web:
        web.tdmrep[HOST] = json.dumps([rule("/free/", 0), rule("/*.jpg")])
        web.bodies["/free/a.jpg"] = b""
        urls = [web.url("/ok-1.jpg"), web.url("/ok-2.jpg"), web.url("/free/a.jpg")]
        made, _ = download(urls, tmp_path, options(web))
        assert statuses(made) == ["ok", "ok", "empty"]
        assert web.hits[HOST, TDMREP] == 0
        asking = options(web, respect_tdm_file=True, hosts=HostOptions(spacing_s=0.3))
        cache = tmp_path / "robots.parquet"
        web.starts.clear()
        for n in (1, 2):
            made, _ = download(urls, tmp_path, asking, robots_file=cache)
            assert statuses(made) == ["optout", "optout", "empty"]
            assert made.counts.notes["requests"] == [3, 1][n - 1]
            assert web.hits[HOST, TDMREP] == 1, "the next list knows what it says"
        times = web.starts[HOST]
        assert len(times) == 4, "robots.txt, tdmrep.json and twice a picture"
        assert min(b - a for a, b in itertools.pairwise(times)) > 0.27


@pytest.mark.parametrize("code", [404, 403, 410])
def test_a_site_without_such_a_file_reserves_nothing_by_it(tmp_path: Path, code: int):
    with Reserving() as web:
        web.tdmrep[HOST] = http.Response(status=code)
        made, _ = download([web.url("/ok.jpg")], tmp_path, options(web, respect_tdm_file=True))
        assert statuses(made) == ["ok"]


@pytest.mark.parametrize(
    ("told", "status"),
    [(http.Response(status=503), "http_5xx"), ('[{"location"', "robots_unreachable")],
)
def test_a_file_that_cannot_be_read_allows_nothing_now(tmp_path: Path, told, status):
    with Reserving() as web:
        web.tdmrep[HOST] = told
        asking = options(web, respect_tdm_file=True, retries=0)
        made, _ = download([web.url("/ok.jpg")], tmp_path, asking)
        assert statuses(made) == [status]
        assert web.hits[HOST, "/ok.jpg"] == 0


def test_a_file_of_reservations_that_has_moved_is_followed_and_known_apart_from_rules(
    tmp_path: Path,
):
    with Reserving() as web:
        there = web.url(TDMREP, "there.test")
        web.tdmrep[HOST] = http.Response(status=301, headers={"Location": there})
        web.tdmrep["there.test"] = json.dumps([rule("/")])
        web.moved["evil.test"] = there  # its robots.txt may not speak for what is reserved there
        hosts = ["evil.test", "there.test", HOST]
        asking = options(web, respect_tdm_file=True, connections=1)
        urls = [web.url("/ok.jpg", host) for host in hosts]
        made, _ = download(urls, tmp_path, asking)
        assert statuses(made) == ["ok", "optout", "optout"]


def test_a_file_that_robots_txt_forbids_is_not_asked_for(tmp_path: Path):
    with Reserving() as web:
        web.robots[HOST] = b"User-agent: *\nDisallow: /.well-known/"
        web.tdmrep[HOST] = json.dumps([rule("/")])
        made, _ = download([web.url("/ok.jpg")], tmp_path, options(web, respect_tdm_file=True))
        assert statuses(made) == ["ok"]
        assert web.hits[HOST, TDMREP] == 0


def test_reservations_hold_where_robots_txt_is_not_obeyed(tmp_path: Path):
    with Reserving() as web:
        web.robots[HOST] = b"User-agent: *\nDisallow: /"
        web.tdmrep[HOST] = json.dumps([rule("/ok-1")])
        asking = options(web, respect_tdm_file=True, obey_robots=False)
        made, _ = download([web.url("/ok-1.jpg"), web.url("/ok-2.jpg")], tmp_path, asking)
        assert statuses(made) == ["optout", "ok"]
        assert web.hits[HOST, "/robots.txt"] == 0
