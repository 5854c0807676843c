"""What the servers see of a whole run with several downloads at a time."""

import itertools
from collections import defaultdict
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from cah_dask.images.web.request_log import UNFINISHED
from cah_dask.run.crawl_work import lists_at_once
from cah_dask.run.settings.config import Config
from tests import runs
from tests.webserver import Request, WebServer

HOSTS, LINKS = 20, 72
SPACING_S = 1.0
REQUESTS_PER_S = 4.0
JITTER_S = 0.4
"""So much later than it was sent may a busy machine see a request."""

POOLS = {"cpu": {"workers": 1}, "io": {"workers": 8}, "gpu": {"workers": 1, "threads": 1}}

CROWD = 120
"""Hosts at one address, each with one url."""
ADDRESS_CONCURRENCY, CROWD_WORKERS = 6, 3


class Seen:
    """The log of the server over one run, by host, and by the fetch list that asked."""

    def __init__(self, web: WebServer, run_dir: Path) -> None:
        self.requests = sorted(web.log, key=lambda request: request.began)
        self.by_host: defaultdict[str, list[Request]] = defaultdict(list)
        for request in self.requests:
            self.by_host[request.host].append(request)
        self.list_of = {
            url: f"{path.parent.name}/{path.stem}"
            for path in (run_dir / "images").rglob("*.parquet")
            for url in pq.read_table(path, columns=["url"])["url"].to_pylist()
        }
        logs = sorted((run_dir / "requests").rglob("*"))
        self.written = pa.concat_tables(
            pq.read_table(path) for path in logs if path.suffix == ".parquet"
        )
        self.torn = [path for path in logs if path.suffix == UNFINISHED]
        self.port = web.port

    def spans(self) -> dict[str, dict[str, tuple[float, float]]]:
        """Return, for each bucket and list, when its first image was asked for and its last."""
        spans: defaultdict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
        for request in self.requests:
            name = self.list_of.get(f"http://{request.host}:{self.port}{request.path}")
            if name is not None:
                bucket = name.partition("/")[2].partition("-")[0]
                began, ended = spans[bucket].get(name, (request.began, request.ended))
                spans[bucket][name] = min(began, request.began), max(ended, request.ended)
        return spans


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> Seen:
    folder = tmp_path_factory.mktemp("manners")
    with WebServer() as web:
        links = [
            (web.url(f"/slow-{n}.jpg", f"h{n % HOSTS}.test"), f"A photograph of thing number {n}")
            for n in range(LINKS)
        ]
        config = runs.write_config(
            folder / "run.yaml",
            inputs=runs.write_inputs(folder / "in", links),
            model=random_model,
            port=web.port,
            dedup={"buckets": 8, "list_urls": 3},
            pools=POOLS,
        )
        tree = yaml.safe_load(config.read_text())
        tree["download"] |= {
            "hosts": {"spacing_s": SPACING_S},
            "requests_per_s": REQUESTS_PER_S,
        }
        config.write_text(yaml.safe_dump(tree))
        assert runs.finish(config) == 0, runs.output(config)
    return Seen(web, folder / "run")


def test_every_image_is_asked_for_once(seen: Seen):
    paths = [request.path for request in seen.requests if request.path != "/robots.txt"]
    assert sorted(paths) == sorted(f"/slow-{n}.jpg" for n in range(LINKS))


def test_robots_txt_is_asked_for_once_over_all_lists_and_waves(seen: Seen):
    asked = [request.host for request in seen.requests if request.path == "/robots.txt"]
    assert sorted(asked) == sorted(seen.by_host)
    waves = {name.partition("/")[0] for lists in seen.spans().values() for name in lists}
    assert len(waves) == 2


def test_no_host_is_asked_by_more_than_two_at_once(seen: Seen):
    for requests in seen.by_host.values():
        for first, _, third in zip(requests, requests[1:], requests[2:], strict=False):
            assert first.ended < third.began


def test_requests_to_a_host_keep_their_distance_within_and_between_lists(seen: Seen):
    for requests in seen.by_host.values():
        gaps = [b.began - a.began for a, b in itertools.pairwise(requests)]
        assert min(gaps) > SPACING_S - JITTER_S, requests


def test_one_list_of_a_bucket_is_downloaded_at_a_time(seen: Seen):
    spans = seen.spans()
    assert len(spans) == 8
    assert sum(len(lists) for lists in spans.values()) > 16
    for lists in spans.values():
        for (_, ended), (began, _) in itertools.pairwise(sorted(lists.values())):
            assert ended < began


def test_the_budget_of_the_run_is_kept_by_all_downloads_together(seen: Seen):
    starts = [request.began for request in seen.requests]
    for first, start in enumerate(starts):
        in_window = sum(1 for other in starts[first:] if other < start + 5)
        bursts = 8 * 2  # each download may be half a second and one request ahead
        assert in_window <= REQUESTS_PER_S * (5 + JITTER_S) + bursts
    assert len(starts) / (starts[-1] - starts[0]) <= REQUESTS_PER_S


def test_every_request_that_the_servers_saw_is_written_down(seen: Seen):
    sent = [f"http://{request.host}:{seen.port}{request.path}" for request in seen.requests]
    assert sorted(seen.written["url"].to_pylist()) == sorted(sent)
    assert set(seen.written["address"].to_pylist()) == {"127.0.0.1"}
    assert set(seen.written["http_status"].to_pylist()) == {200, 404}
    assert seen.torn == []


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> list[Request]:
    """All requests of a run whose many hosts have one address, and nothing else holds it back."""
    folder = tmp_path_factory.mktemp("crowd")
    with WebServer() as web:
        links = [
            (web.url(f"/slow-{n}.jpg", f"c{n}.test"), f"A photograph of thing number {n}")
            for n in range(CROWD)
        ]
        config = runs.write_config(
            folder / "run.yaml",
            inputs=runs.write_inputs(folder / "in", links, archives=1),
            model=random_model,
            port=web.port,
            dedup={"buckets": CROWD_WORKERS, "list_urls": 1000},
            pools=POOLS | {"io": {"workers": CROWD_WORKERS}},
        )
        tree = yaml.safe_load(config.read_text())
        tree["download"]["hosts"]["address_concurrency"] = ADDRESS_CONCURRENCY
        config.write_text(yaml.safe_dump(tree))
        assert runs.finish(config) == 0, runs.output(config)
    return web.log


def test_an_address_is_never_asked_more_at_once_than_the_run_may(crowd: list[Request]):
    images = [request for request in crowd if request.path != "/robots.txt"]
    assert len({request.host for request in images}) == len(images) == CROWD
    at_once = [
        sum(1 for other in crowd if other.began <= request.began < other.ended) for request in crowd
    ]
    assert ADDRESS_CONCURRENCY // CROWD_WORKERS < max(at_once) <= ADDRESS_CONCURRENCY


@pytest.mark.parametrize(
    ("pools", "slurm", "expected"),
    [
        ({"cpu": {"workers": 6}}, {}, 6),
        ({"cpu": {"workers": 6}, "io": {"workers": 3}}, {}, 3),
        ({"cpu": {"workers": 1000}}, {}, 256),
        ({"cpu": {"partition": "a", "processes": 4, "max_jobs": 5}}, {}, 20),
        ({"cpu": {"partition": "a", "processes": 4, "max_jobs": 50}}, {"max_jobs": 2}, 8),
    ],
)
def test_a_budget_is_shared_by_as_many_downloads_as_there_can_be(pools, slurm, expected):
    tree = {"run_dir": "x", "inputs": ["x"], "pools": pools, "slurm": slurm}
    assert lists_at_once(msgspec.convert(tree, Config)) == expected
