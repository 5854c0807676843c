"""A host that redirects of many lists lead to is asked as politely as any other."""

import itertools
from pathlib import Path

import pytest
import yaml

from cah_dask.candidates.dedup import host_bucket
from tests import runs
from tests.webserver import Request, WebServer

BUCKETS, WORKERS = 3, 3
SPACING_S = 1.0
GAPS = 5
LATE_S = 1.0
"""How late a busy machine may send a request; without turns five gaps together last 1.3 s."""
CDN = "cdn.test"
PER_LIST = 3
OWN = 3


def hosts_of(bucket: int) -> list[str]:
    """Return hosts of a bucket, one for each redirect of its list."""
    names = (f"site{number}.test" for number in itertools.count())
    return list(itertools.islice((h for h in names if host_bucket(h, BUCKETS) == bucket), PER_LIST))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> list[Request]:
    folder = tmp_path_factory.mktemp("shared")
    with WebServer() as web:
        links = [
            (
                web.url(f"/redirect.jpg?to={web.url(f'/slow-{bucket}{n}.jpg', CDN)}", host),
                f"A photograph of thing {bucket} {n}",
            )
            for bucket in range(BUCKETS)
            for n, host in enumerate(hosts_of(bucket))
        ]
        links += [
            (web.url(f"/slow-own{n}.jpg", CDN), f"A photograph of the host's own {n}")
            for n in range(OWN)
        ]
        config = runs.write_config(
            folder / "run.yaml",
            inputs=runs.write_inputs(folder / "in", links, archives=1),
            model=random_model,
            port=web.port,
            dedup={"buckets": BUCKETS, "list_urls": 1000},
            pools={
                "cpu": {"workers": 1}, "io": {"workers": WORKERS},
                "gpu": {"workers": 1, "threads": 1},
            },
        )  # fmt: skip
        tree = yaml.safe_load(config.read_text())
        tree["download"]["hosts"] = {"spacing_s": SPACING_S}
        config.write_text(yaml.safe_dump(tree))
        assert runs.finish(config) == 0, runs.output(config)
    return sorted(
        (request for request in web.log if request.host == CDN), key=lambda request: request.began
    )


def test_every_image_behind_the_redirects_is_fetched_once(seen: list[Request]):
    paths = [request.path for request in seen if request.path != "/robots.txt"]
    assert len(paths) == len(set(paths)) == BUCKETS * PER_LIST + OWN


def test_its_requests_keep_their_distance_whoever_sends_them(seen: list[Request]):
    """One request that is late on its way shortens one gap, but not five of them together."""
    began = [request.began for request in seen]
    spans = [later - earlier for earlier, later in zip(began, began[GAPS:], strict=False)]
    assert len(spans) > GAPS
    assert min(spans) > GAPS * SPACING_S - LATE_S, spans


def test_never_more_than_two_are_under_way(seen: list[Request]):
    for first, third in zip(seen, seen[2:], strict=False):
        assert first.ended < third.began
