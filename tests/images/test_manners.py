"""How hosts are treated while one list is downloaded, told from the server's log."""

import asyncio
import itertools
import threading
import time
from collections import Counter

import pytest
from aiohttp.web import Response

from cah_dask.images.manners.hosts import HostOptions
from cah_dask.images.web.connection import QUIET_S
from tests.images.conftest import wait_until
from tests.images.downloads import download, options, rows, statuses
from tests.nameserver import NameServer
from tests.webserver import WebServer


def test_a_host_is_never_asked_by_more_than_two_at_once(web, tmp_path):
    urls = [web.url(f"/slow-{n}.jpg?s=0.02", f"crowd{n % 3}.test") for n in range(60)]
    download(urls, tmp_path, options(web))
    assert [web.peak[f"crowd{n}.test"] for n in range(3)] == [2, 2, 2]


def test_requests_to_a_host_keep_their_distance(web, tmp_path):
    urls = [web.url(f"/ok-{n}.jpg", "calm.test") for n in range(5)]
    download(urls, tmp_path, options(web, hosts=HostOptions(spacing_s=0.2)))
    times = web.starts["calm.test"]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert len(gaps) == 5, "robots.txt and five images"
    assert min(gaps) > 0.17


def test_requests_keep_their_distance_though_the_name_came_late(web, tmp_path):
    """Two urls wait for the name of their host; they must not be sent together when it comes."""
    with NameServer({"late.example": "127.0.0.1"}, delay_s=0.7) as nameserver:
        urls = [web.url(f"/ok-{n}.jpg", "late.example") for n in range(4)]
        hosts = HostOptions(spacing_s=0.3)
        late = options(web, hosts=hosts, nameservers=(nameserver.address,), obey_robots=False)
        download(urls, tmp_path, late)
    times = web.starts["late.example"]
    assert len(times) == 4
    assert min(b - a for a, b in itertools.pairwise(times)) > 0.25


def test_a_crawl_delay_is_kept_to(web, tmp_path):
    web.robots["delay.test"] = b"User-agent: *\nCrawl-delay: 0.3"
    download([web.url(f"/ok-{n}.jpg", "delay.test") for n in range(3)], tmp_path, options(web))
    times = web.starts["delay.test"][1:]
    assert min(b - a for a, b in itertools.pairwise(times)) > 0.27


def test_robots_txt_is_asked_once_and_obeyed(web, tmp_path):
    web.robots["robots.test"] = b"User-agent: cah-dask\nDisallow: /ok-1"
    urls = [web.url(f"/ok-{n}.jpg", "robots.test") for n in range(4)]
    made, _ = download(urls, tmp_path, options(web))
    assert statuses(made) == ["ok", "robots", "ok", "ok"]
    assert web.hits["robots.test", "/robots.txt"] == 1
    assert web.hits["robots.test", "/ok-1.jpg"] == 0
    ignoring, _ = download(urls, tmp_path, options(web, obey_robots=False))
    assert statuses(ignoring) == ["ok"] * 4
    assert web.hits["robots.test", "/robots.txt"] == 1


@pytest.mark.parametrize(
    ("answer", "status", "attempts"), [(404, "ok", 1), (403, "ok", 1), (500, "http_5xx", 2)]
)
def test_a_site_without_robots_txt_is_open_a_broken_one_is_not(
    web, tmp_path, answer, status, attempts
):
    host = f"robots{answer}.test"
    web.robots[host] = answer
    made, _ = download([web.url("/ok.jpg", host)], tmp_path, options(web))
    assert statuses(made) == [status]
    assert made.outcomes["attempts"].to_pylist() == [attempts]
    assert web.hits[host, "/ok.jpg"] == (status == "ok")


def test_a_redirect_is_followed_under_the_rules_of_its_target(web, tmp_path):
    web.robots["closed.test"] = b"User-agent: *\nDisallow: /"
    there = web.url("/ok.jpg", "open.test")
    urls = [
        web.url(f"/redirect.jpg?to={there}", "from.test"),
        web.url(f"/redirect.jpg?to={web.url('/ok.jpg', 'closed.test')}", "from.test"),
        web.url("/redirect.jpg?to=/redirect.jpg?to=/ok.jpg%26code=307%26code=301", "from.test"),
    ]
    made, _ = download(urls, tmp_path, options(web))
    assert statuses(made) == ["ok", "robots", "ok"]
    assert made.outcomes["final_url"].to_pylist()[0] == there
    assert web.hits["closed.test", "/ok.jpg"] == 0


def test_a_failure_is_tried_again_where_that_can_help_and_no_more(web, tmp_path):
    names = ["flaky", "404", "500", "drop"]
    made, _ = download(
        [web.url(f"/{name}.jpg", f"try{name}.test") for name in names], tmp_path, options(web)
    )
    assert statuses(made) == ["ok", "http_404", "http_5xx", "disconnected"]
    assert made.outcomes["attempts"].to_pylist() == [2, 1, 2, 2]
    assert web.hits["try404.test", "/404.jpg"] == 1
    assert web.hits["try500.test", "/500.jpg"] == 2


def test_a_dead_host_costs_a_few_timeouts_not_one_for_each_url(web, tmp_path):
    urls = [web.url(f"/hang-{n}.jpg", "dead.test") for n in range(50)]
    hosts = HostOptions(spacing_s=0, max_failures=4, rest_s=0.2)
    began = time.monotonic()
    made, _ = download(urls, tmp_path, options(web, hosts=hosts, read_timeout_s=0.3))
    assert time.monotonic() - began < 8
    assert set(statuses(made)) == {"timeout", "host_suspended"}
    assert Counter(statuses(made))["host_suspended"] >= 40
    suspended = [row for row in rows(made.outcomes) if row["status"] == "host_suspended"]
    assert {row["attempts"] for row in suspended} == {0}


def test_a_host_that_asks_for_a_long_pause_is_left_alone(web, tmp_path):
    urls = [web.url(f"/busy-{n}.jpg?after=3600", "busy3600.test") for n in range(9)]
    hosts = HostOptions(spacing_s=0, concurrency=1)
    made, _ = download(urls, tmp_path, options(web, hosts=hosts))
    assert statuses(made) == ["http_429"] + ["host_suspended"] * 8
    assert sum(web.hits["busy3600.test", f"/busy-{n}.jpg"] for n in range(9)) == 1


def test_requests_say_who_asks_and_nothing_else(web, tmp_path):
    download([web.url("/ok-headers.jpg")], tmp_path, options(web))
    headers = web.headers["/ok-headers.jpg"]
    assert headers["User-Agent"].startswith("cah-dask/")
    assert "me@lab.example" in headers["User-Agent"]
    assert headers["Accept-Encoding"] == "identity"
    assert not {"Referer", "Cookie", "Authorization"} & set(headers)


def test_cookies_are_not_kept(web, tmp_path):
    urls = [web.url(f"/cookie-{n}.jpg", "cookie.test") for n in range(2)]
    download(urls, tmp_path, options(web, hosts=HostOptions(spacing_s=0, concurrency=1)))
    assert "Cookie" not in web.headers["/cookie-1.jpg"]


def test_connections_are_used_again_for_the_next_url_of_a_host(web, tmp_path):
    before = web.connections
    urls = [web.url(f"/ok-{n}.jpg", "reuse.test") for n in range(8)]
    download(urls, tmp_path, options(web, hosts=HostOptions(spacing_s=3 * QUIET_S)))
    assert web.connections - before <= 3


def test_a_pause_file_stops_new_requests_until_it_is_gone(web, tmp_path):
    pause, made = tmp_path / "PAUSE", []
    urls = [web.url(f"/ok-{n}.jpg", "pause.test") for n in range(25)]
    polite = options(web, hosts=HostOptions(spacing_s=0.1))
    thread = threading.Thread(
        target=lambda: made.append(download(urls, tmp_path, polite, pause_file=pause)),
        daemon=True,
    )
    thread.start()
    asked = web.starts["pause.test"]
    assert wait_until(lambda: len(asked) >= 3)
    pause.touch()
    began = time.monotonic()
    assert wait_until(lambda: time.monotonic() - (asked[-1] if asked else began) > 1)
    assert asked[-1] - began < 5
    assert len(asked) < 20
    assert thread.is_alive()
    pause.unlink()
    ended = time.monotonic()
    thread.join(20)
    assert len(asked) == 26
    assert 0 < made[0][0].paused_s < ended - began + 3


def test_a_pause_that_begins_while_a_name_is_looked_up_holds_the_request_back(web, tmp_path):
    pause, made = tmp_path / "PAUSE", []
    host, paths = "looked-up.example", [f"/ok-{n}.jpg" for n in range(4)]
    urls = [web.url(path, host) for path in paths]
    with NameServer({host: "127.0.0.1"}, delay_s=1.2) as nameserver:
        slow = options(web, nameservers=(nameserver.address,))
        thread = threading.Thread(
            target=lambda: made.append(download(urls, tmp_path, slow, pause_file=pause)),
            daemon=True,
        )
        thread.start()
        assert wait_until(lambda: nameserver.questions.total() > 0)
        pause.touch()
        assert wait_until(lambda: nameserver.answers > 0)
        assert not wait_until(lambda: len(web.starts[host]) > 0, timeout_s=3)
        assert thread.is_alive()
        pause.unlink()
        thread.join(30)
    assert statuses(made[0][0]) == ["ok"] * 4
    assert made[0][0].outcomes["attempts"].to_pylist() == [1] * 4
    assert [web.hits[host, path] for path in ["/robots.txt", *paths]] == [1] * 5


class Holding(WebServer):
    """Answers nothing for robots.txt at moved.test before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = threading.Event()

    async def _behave(self, host, request):
        if (host, request.path) == ("moved.test", "/robots.txt"):
            await asyncio.to_thread(self.may_answer.wait, 30)
        return await super()._behave(host, request)


class Refusing(WebServer):
    """Wants to be left alone for a month on one port, and is slow to answer on the other."""

    refuses = False

    async def _behave(self, host, request):
        if self.refuses:
            return Response(status=429, headers={"Retry-After": "2592000"})
        await asyncio.sleep(0.5)
        return await super()._behave(host, request)


def test_what_waits_for_a_robots_txt_is_dropped_with_its_host(tmp_path):
    with Refusing() as slow, Refusing() as refusing:
        refusing.refuses = True
        urls = [server.url("/ok-1.jpg", "two.test") for server in (slow, refusing)]
        given = options(slow, allow_ports=(slow.port, refusing.port), retries=0)
        made, _ = download(urls, tmp_path, given)
        assert statuses(made) == ["host_suspended", "http_429"]
        assert slow.hits["two.test", "/ok-1.jpg"] == 0


def test_a_pause_holds_back_what_a_robots_txt_has_moved_to(tmp_path):
    pause = tmp_path / "PAUSE"
    with Holding() as web:
        web.moved["moved.test"] = web.url("/robots.txt", "there.test")
        urls, given = [web.url("/ok-1.jpg", "moved.test")], options(web)
        thread = threading.Thread(
            target=lambda: download(urls, tmp_path, given, pause_file=pause), daemon=True
        )
        thread.start()
        assert wait_until(lambda: web.hits["moved.test", "/robots.txt"] > 0)
        pause.touch()
        assert not wait_until(lambda: not thread.is_alive(), timeout_s=1.2)  # it looks each second
        web.may_answer.set()
        assert not wait_until(lambda: web.hits["there.test", "/robots.txt"] > 0, timeout_s=2)
        pause.unlink()
        thread.join(30)
        assert web.hits["there.test", "/robots.txt"] == 1
        assert web.hits["moved.test", "/ok-1.jpg"] == 1


def test_the_budget_of_requests_is_kept(web, tmp_path):
    urls = [web.url(f"/ok-{n}.jpg", f"budget{n}.test") for n in range(15)]
    began = time.monotonic()
    download(urls, tmp_path, options(web, requests_per_s=40), lists_at_once=2)
    assert time.monotonic() - began > 30 / 20 - 0.6, "fifteen images and as many robots.txt"


def test_the_budget_of_bytes_is_kept_and_no_server_is_blamed(web, tmp_path):
    web.bodies["/budget.jpg"] = b"\xff\xd8" + bytes(900_000)
    urls = [web.url("/budget.jpg", f"bytes{n}.test") for n in range(3)]
    slow = options(web, total_timeout_s=0.5, bytes_per_s=3_000_000)
    began = time.monotonic()
    made, _ = download(urls, tmp_path, slow, lists_at_once=2)
    least_s = 2.7 / 1.5 - 0.5  # MB by MB a second, less what may come at once
    pieces_s = 3 * 0.262 / 1.5  # and what each of three had read when it was told to wait
    assert time.monotonic() - began > least_s - pieces_s
    assert set(statuses(made)) <= {"decode_format", "decode_error", "decode_truncated"}
