"""What one list of a bucket is told by robots.txt holds for the lists that follow."""

import itertools
import random
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cah_dask.errors import RunError
from cah_dask.images.download import download_list
from cah_dask.images.manners import robots_cache, sitefiles
from cah_dask.images.manners.hosts import HostOptions
from cah_dask.images.manners.robots_cache import RobotsFile
from cah_dask.images.options import DownloadOptions
from cah_dask.images.picture.decode import DecodeOptions
from cah_dask.images.web.fetch import ROBOTS_BYTES
from cah_dask.schema import ROBOTS
from tests.nameserver import NameServer
from tests.webserver import WebServer

HOSTS = ["a.test", "b.test", "c.test"]


def fetch(web: WebServer, folder: Path, *urls: str, **changes: Any) -> list[str]:
    """Download one list of a bucket; return its statuses."""
    usual: dict[str, Any] = {
        "resolve": {"*.test": "127.0.0.1"},
        "allow_ports": (web.port,),
        "hosts": HostOptions(spacing_s=0),
    }
    options = DownloadOptions(
        contact="me@lab.example",
        allow_addresses=("127.0.0.1/32",),
        retries=0,
        decoders=1,
        **usual | changes,
    )
    robots, shard = folder / "robots" / "b00000.parquet", folder / "a.h5"
    made = download_list(urls, shard, options, DecodeOptions(), robots_file=robots)
    return made.outcomes["status"].to_pylist()


def asked(web: WebServer, host: str) -> int:
    return web.hits[host, "/robots.txt"]


def age(path: Path, by: timedelta) -> None:
    """Make all that a file knows older."""
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        row["fetched_at"] -= by
    pq.write_table(pa.Table.from_pylist(rows, schema=ROBOTS), path)


def test_two_lists_of_a_bucket_ask_each_origin_once(tmp_path: Path):
    with WebServer() as web:
        web.robots = {"a.test": b"User-agent: x\nDisallow: /", "b.test": 404, "c.test": 403}
        for n in range(2):
            urls = [web.url(f"/ok-{n}-{k}.jpg", host) for host in HOSTS for k in range(2)]
            assert fetch(web, tmp_path, *urls) == ["ok"] * 6
        assert [asked(web, host) for host in HOSTS] == [1, 1, 1]
    assert [path.name for path in (tmp_path / "robots").iterdir()] == ["b00000.parquet"]


def test_what_was_forbidden_to_the_first_list_is_forbidden_to_the_second(tmp_path: Path):
    with WebServer() as web:
        web.robots["a.test"] = b"User-agent: *\nDisallow: /ok-1 # and more\nDisallow: /ok-2"
        assert fetch(web, tmp_path, web.url("/ok-1.jpg")) == ["robots"]
        assert fetch(web, tmp_path, web.url("/ok-2.jpg"), web.url("/ok-3.jpg")) == ["robots", "ok"]
        assert asked(web, "a.test") == 1
        assert web.hits["a.test", "/ok-2.jpg"] == 0


def test_a_crawl_delay_holds_from_the_first_request_of_the_next_list_on(tmp_path: Path):
    with WebServer() as web:
        web.robots["a.test"] = b"User-agent: *\nCrawl-delay: 0.5"
        for n in range(2):
            fetch(web, tmp_path, *(web.url(f"/ok-{n}-{k}.jpg") for k in range(2)))
        times = web.starts["a.test"]
    assert len(times) == 5, "one robots.txt and four images"
    assert min(b - a for a, b in itertools.pairwise(times)) > 0.45


def test_what_is_older_than_a_day_is_asked_again_and_obeyed(tmp_path: Path):
    with WebServer() as web:
        fetch(web, tmp_path, web.url("/ok-1.jpg"))
        web.robots["a.test"] = b"User-agent: *\nDisallow: /"
        age(tmp_path / "robots" / "b00000.parquet", timedelta(hours=23, minutes=59))
        assert fetch(web, tmp_path, web.url("/ok-2.jpg")) == ["ok"]
        age(tmp_path / "robots" / "b00000.parquet", timedelta(minutes=2))
        assert fetch(web, tmp_path, web.url("/ok-3.jpg")) == ["robots"]
        assert asked(web, "a.test") == 2


@pytest.mark.parametrize("code", [500, 503, 429])
def test_a_server_in_trouble_is_not_remembered(tmp_path: Path, code: int):
    with WebServer() as web:
        web.robots["a.test"] = code
        assert fetch(web, tmp_path, web.url("/ok-1.jpg")) != ["ok"]
        assert not (tmp_path / "robots").exists()
        web.robots["a.test"] = 404
        assert fetch(web, tmp_path, web.url("/ok-1.jpg")) == ["ok"]
        assert asked(web, "a.test") == 2


def test_a_robots_txt_that_has_moved_is_remembered_where_it_was(tmp_path: Path):
    with WebServer() as web:
        web.moved["a.test"] = web.url("/robots.txt", "b.test")
        web.robots["b.test"] = b"User-agent: cah-dask\nDisallow: /ok-2"
        for _ in range(2):
            urls = [web.url("/ok-1.jpg"), web.url("/ok-2.jpg")]
            assert fetch(web, tmp_path, *urls) == ["ok", "robots"]
        assert (asked(web, "a.test"), asked(web, "b.test")) == (1, 1)


def test_where_many_robots_txt_have_moved_to_is_asked_once(tmp_path: Path):
    hosts = [f"h{n}.test" for n in range(20)]
    with WebServer() as web:
        web.robots["there.test"] = b"User-agent: cah-dask\nDisallow: /ok-2"
        for host in hosts[:10]:
            web.moved[host] = web.url("/robots.txt", "there.test")
        for host in hosts[10:]:
            web.moved[host] = web.url("/robots.txt?of=shops", "there.test")
        for _ in range(2):
            urls = [web.url(path, host) for host in hosts for path in ("/ok-1.jpg", "/ok-2.jpg")]
            assert fetch(web, tmp_path, *urls) == ["ok", "robots"] * 20
        assert fetch(web, tmp_path, web.url("/ok-2.jpg", "there.test")) == ["robots"]
        assert [asked(web, host) for host in hosts] == [1] * 20
        assert asked(web, "there.test") == 2, "the usual place, and the other one"


def test_a_robots_txt_that_moves_in_circles_allows_all(tmp_path: Path):
    with WebServer() as web:
        web.moved["a.test"] = web.url("/robots.txt", "b.test")
        web.moved["b.test"] = web.url("/robots.txt", "a.test")
        web.moved["c.test"] = "/robots.txt"
        urls = [web.url("/ok-1.jpg", host) for host in HOSTS]
        assert fetch(web, tmp_path, *urls) == ["ok"] * 3
        assert [asked(web, host) for host in HOSTS] == [1] * 3


@pytest.mark.parametrize(
    "location",
    [
        "",
        "http://nowhere.invalid/robots.txt",
        "http://closed.test:9/robots.txt",
        "http://10.9.8.7/robots.txt",
        "http://a.test:23/robots.txt",
        "ftp://a.test/robots.txt",
        "http://[/robots.txt",
        f"/robots.txt?{'x' * 3000}",
    ],
)
def test_a_robots_txt_that_has_moved_out_of_reach_allows_nothing_now(tmp_path: Path, location: str):
    names = {"*.test": "127.0.0.1", "closed.test": "127.0.0.1"}
    with WebServer() as web, NameServer({}) as nameserver:
        web.moved["a.test"] = location
        way = {"nameservers": (nameserver.address,), "allow_ports": (web.port, 9), "resolve": names}
        urls = [web.url(f"/ok-{n}.jpg") for n in range(2)]
        expected = "connect_refused" if "closed" in location else "robots_unreachable"
        assert fetch(web, tmp_path, *urls, **way) == [expected] * 2
        assert not (tmp_path / "robots").exists(), "it is asked again by the next list"
        assert [web.hits["a.test", f"/ok-{n}.jpg"] for n in range(2)] == [0, 0]
        web.moved["a.test"] = web.url("/robots.txt", "b.test")
        assert fetch(web, tmp_path, *urls, **way) == ["ok"] * 2


def test_a_long_chain_of_hosts_hides_the_rules_of_none_of_them(tmp_path: Path):
    """The sixth redirect is not followed: all is allowed at the host that began, not at others."""
    hosts = [f"h{n}.test" for n in range(7)]
    with WebServer() as web:
        for host, following in itertools.pairwise(hosts):
            web.moved[host] = web.url("/robots.txt", following)
        web.robots["h6.test"] = b"User-agent: *\nDisallow: /"
        for host, status in [("h0.test", "ok"), ("h1.test", "robots"), ("h5.test", "robots")]:
            assert fetch(web, tmp_path, web.url("/ok-1.jpg", host)) == [status]


def test_where_many_robots_txt_lead_is_left_alone_while_it_is_in_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sitefiles, "_TROUBLE_S", 0.5)
    hosts = [f"h{n}.test" for n in range(40)]
    with WebServer() as web:
        web.robots["there.test"] = 503
        web.moved = {host: web.url("/robots.txt", "there.test") for host in hosts}
        urls = [web.url("/ok-1.jpg", host) for host in hosts]
        made = fetch(web, tmp_path, *urls, alarm_share=0, connections=10)
        assert made == ["http_5xx"] * 40
        times = web.starts["there.test"]
        assert 4 <= len(times) <= 8, "about ten hosts share each answer"
        assert min(b - a for a, b in itertools.pairwise(times)) > 0.45


def test_many_hosts_share_one_long_text(tmp_path: Path):
    hosts = [f"h{n}.test" for n in range(60)]
    lines = b"User-agent: *\n" + b"".join(b"Disallow: /%d/\n" % n for n in range(20_000))
    with WebServer() as web:
        web.robots["there.test"] = lines
        web.moved = {host: web.url("/robots.txt", "there.test") for host in hosts}
        assert fetch(web, tmp_path, *[web.url("/ok-1.jpg", host) for host in hosts]) == ["ok"] * 60
        assert asked(web, "there.test") == 1


@pytest.mark.parametrize("arrive", ["together", "one by one"])
def test_a_place_on_the_way_is_asked_once(tmp_path: Path, arrive):
    hosts = [f"h{n}.test" for n in range(30)]
    with WebServer() as web:
        web.robots["end.test"] = b"User-agent: *\nDisallow: /ok-2"
        web.moved = {host: web.url("/robots.txt", "there.test") for host in hosts}
        web.moved["there.test"] = web.url("/robots.txt", "end.test")
        connections = {"connections": 30 if arrive == "together" else 1}
        urls = [web.url("/ok-2.jpg", host) for host in hosts]
        assert fetch(web, tmp_path, *urls, **connections) == ["robots"] * 30
        assert (asked(web, "there.test"), asked(web, "end.test")) == (1, 1)


def test_what_a_moved_robots_txt_said_is_believed_for_a_day_from_then_on(tmp_path: Path):
    path = tmp_path / "robots" / "b00000.parquet"
    with WebServer() as web:
        for host in ("a.test", "b.test"):
            web.moved[host] = web.url("/robots.txt", "there.test")
        fetch(web, tmp_path, web.url("/ok-1.jpg"))
        age(path, timedelta(hours=23))
        fetch(web, tmp_path, web.url("/ok-1.jpg", "b.test"))
        assert asked(web, "there.test") == 1
        age(path, timedelta(hours=2))
        fetch(web, tmp_path, web.url("/ok-2.jpg", "b.test"))
        assert asked(web, "there.test") == 2


def test_a_list_that_is_stopped_leaves_what_it_learned(tmp_path: Path):
    with WebServer() as web:
        urls = [web.url("/404.jpg", f"h{n}.test") for n in range(20)]
        with pytest.raises(RunError, match="gave an image"):
            fetch(web, tmp_path, *urls, alarm_hosts=20)
        fetch(web, tmp_path, *urls, alarm_share=0)
        assert [asked(web, f"h{n}.test") for n in range(20)] == [1] * 20


@pytest.mark.parametrize("garbage", [b"", b"no parquet", b"PAR1" * 100])
def test_a_damaged_file_is_ignored_and_replaced(tmp_path: Path, garbage: bytes):
    path = tmp_path / "robots" / "b00000.parquet"
    path.parent.mkdir()
    path.write_bytes(garbage)
    with WebServer() as web:
        assert fetch(web, tmp_path, web.url("/ok-1.jpg")) == ["ok"]
        assert fetch(web, tmp_path, web.url("/ok-2.jpg")) == ["ok"]
        assert asked(web, "a.test") == 1


def test_a_file_that_cannot_be_replaced_costs_nothing_but_questions(tmp_path: Path):
    (tmp_path / "robots" / "b00000.parquet" / "folder").mkdir(parents=True)
    with WebServer() as web:
        for _ in range(2):
            assert fetch(web, tmp_path, web.url("/ok-1.jpg")) == ["ok"]
        assert asked(web, "a.test") == 2
    assert not list(tmp_path.rglob(".tmp-*"))


def test_no_damage_to_a_file_is_an_exception_or_another_rule(tmp_path: Path):
    path = tmp_path / "a.parquet"
    said = {f"http://h{n}.test": f"User-agent: *\nDisallow: /{n}" for n in range(200)}
    with RobotsFile(path) as file:
        for origin, lines in said.items():
            file.put(origin, lines)
    whole, chance = path.read_bytes(), random.Random(7)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged[: chance.choice([len(whole), chance.randrange(len(whole))])])
        with RobotsFile(path) as file:
            assert {file.get(origin) for origin in said} <= {*said.values(), None}


def test_what_an_earlier_version_has_kept_is_asked_again(tmp_path: Path):
    """It took for allowed what it could not read."""
    rows = [{"place": "http://a.test", "fetched_at": datetime.now(UTC), "lines": ""}]
    schema = ROBOTS.set(2, pa.field("lines", pa.string(), nullable=False))
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "a.parquet")
    with RobotsFile(tmp_path / "a.parquet") as file:
        assert file.get("http://a.test") is None


def test_a_file_of_other_columns_is_ignored(tmp_path: Path):
    pq.write_table(pa.table({"place": ["http://a.test"]}), tmp_path / "a.parquet")
    with RobotsFile(tmp_path / "a.parquet") as file:
        assert file.get("http://a.test") is None


def test_the_newest_entries_stay_within_the_memory_that_one_file_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(robots_cache, "LIMIT_BYTES", 5_000)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with RobotsFile(tmp_path / "a.parquet", lambda: now) as file:
        for n in range(9):
            now += timedelta(seconds=1)
            file.put(f"http://h{n}.test", "x" * 1000)
    with RobotsFile(tmp_path / "a.parquet", lambda: now) as file:
        kept = [n for n in range(9) if file.get(f"http://h{n}.test") is not None]
    assert kept == [6, 7, 8]


def test_what_is_longer_than_what_is_read_is_asked_again(tmp_path: Path):
    with RobotsFile(tmp_path / "a.parquet") as file:
        file.put("http://a.test", "\ufffd" * (ROBOTS_BYTES // 2))
        file.put("http://b.test", "x" * ROBOTS_BYTES)
        assert file.get("http://a.test") is not None, "within its own list it is known"
    with RobotsFile(tmp_path / "a.parquet") as file:
        assert file.get("http://a.test") is None
        assert file.get("http://b.test") == "x" * ROBOTS_BYTES


def test_two_lists_at_once_leave_a_whole_file(tmp_path: Path):
    """A list that was thought dead may end while its next attempt is at work."""
    path, both = tmp_path / "a.parquet", threading.Barrier(2)

    def learn(origin: str) -> None:
        with RobotsFile(path) as file:
            file.put(origin, "")
            both.wait(10)

    threads = [threading.Thread(target=learn, args=(origin,)) for origin in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    with RobotsFile(path) as file:
        assert [file.get("a"), file.get("b")].count("") == 1
