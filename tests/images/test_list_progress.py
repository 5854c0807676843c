"""How far a list is can be read while it is at work, and nothing is left of it."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cah_dask.counts import Status
from cah_dask.images.list_progress import ListProgress, progress_written, read_progress
from cah_dask.images.outcomes import Ledger, Outcome
from cah_dask.urls import host_of
from tests import runs
from tests.images.downloads import download, options
from tests.webserver import WebServer

URLS = [f"http://{'slow' if n % 3 else 'fast'}.example/{n}" for n in range(9)]


def test_it_says_what_has_an_outcome_and_which_hosts_have_the_most_left(tmp_path: Path):
    path = tmp_path / "progress" / "list.json"
    ledger = Ledger(URLS)
    for index in (0, 3, 1):
        ledger.record(index, Outcome(Status.OK, attempts=1))
    ledger.record(6, Outcome(Status.DNS_ERROR, attempts=1), is_last=False)
    with progress_written(path, ledger, lambda: 1234, every_s=0.01):
        assert runs.wait_for(lambda: read_progress(path) is not None)
        found = read_progress(path)
        assert found is not None
        assert (found.urls, found.done, found.again, found.n_bytes) == (9, 3, 1, 1234)
        assert found.hosts == {"slow.example": 5, "fast.example": 1}
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("url", ["http://us[er@a.example/1", "http://a.example\\b[c/1", "no url"])
def test_a_url_that_others_would_refuse_ends_no_progress_and_has_its_host(url: str, tmp_path: Path):
    path = tmp_path / "list.json"
    with progress_written(path, Ledger([url, "http://A.example./2"]), int, every_s=0.01):
        assert runs.wait_for(lambda: read_progress(path) is not None)
        found = read_progress(path)
    assert found is not None
    assert found.hosts == Counter(map(host_of, [url, "http://A.example./2"]))


def test_a_host_that_is_to_be_asked_again_has_urls_left(web: WebServer, tmp_path: Path):
    """Each waits for its second try, or gets it: none is done before, and all are at the end."""
    path = tmp_path / "progress.json"
    late = options(web, retries=1, retry_delay_s=6.0)
    urls = [web.url(f"/503-{n}.jpg", "late.test") for n in range(3)]
    urls.append(web.url("/404.jpg", "quick.test"))
    told: list[ListProgress] = []
    with ThreadPoolExecutor(1) as pool:
        list_ = pool.submit(download, urls, tmp_path, late, progress_file=path)
        assert runs.wait_for(lambda: sees(path, told).done == 1, 20)
        assert told[-1].hosts == {"late.test": 3}
        assert runs.wait_for(lambda: sees(path, told).again == 3, 20)
        made, _ = list_.result(60)
    assert made.counts.rejected == {"http_404": 1, "http_5xx": 3}
    assert web.hits["late.test", "/503-0.jpg"] == 2


def sees(path: Path, told: list[ListProgress]) -> ListProgress:
    told += filter(None, [read_progress(path)])
    return told[-1] if told else ListProgress(0, 0, 0, 0.0, {})


def test_a_place_that_cannot_be_written_costs_nothing(tmp_path: Path):
    (tmp_path / "progress").write_text("a file where a folder should be")
    with progress_written(tmp_path / "progress" / "list.json", Ledger(URLS), int, every_s=0.01):
        assert read_progress(tmp_path / "progress" / "list.json") is None


def test_what_is_torn_is_not_believed(tmp_path: Path):
    (tmp_path / "list.json").write_bytes(b'{"urls":')
    assert read_progress(tmp_path / "list.json") is None
