"""What was asked is written down, whatever becomes of the list."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cah_dask.counts import Status
from cah_dask.errors import RunError
from cah_dask.images.download import download_list
from cah_dask.images.manners.hosts import HostOptions
from cah_dask.images.options import DownloadOptions
from cah_dask.images.picture.decode import DecodeOptions
from cah_dask.images.web.request_log import _FLUSH_S, UNFINISHED, RequestLog, read_log
from cah_dask.images.web.responses import Answer
from cah_dask.schema import REQUESTS
from tests.images.conftest import wait_until
from tests.webserver import WebServer

NOTE = """
import signal, sys
from pathlib import Path
from cah_dask.images.web import request_log
from cah_dask.images.web.responses import Answer
from cah_dask.images.web.request_log import RequestLog
from cah_dask.counts import Status

request_log._FLUSH_S = 0.2
with RequestLog(Path(sys.argv[1])) as log:
    for n in range(2500):
        log.note(f"http://a.test/{n}", "192.0.2.1", Answer(Status.OK, 200), n)
    signal.pause()  # no request ends any more
"""


def note_and_kill(log: Path) -> Path:
    """Have a process write a log, and kill it when all is written; return what it leaves."""
    left = log.with_suffix(UNFINISHED)
    with subprocess.Popen([sys.executable, "-c", NOTE, str(log)]) as process:
        written = wait_until(lambda: left.exists() and len(read_log(left)) == 2500, 30)
        process.kill()
    assert written
    return left


def options(web: WebServer, **changes: Any) -> DownloadOptions:
    return DownloadOptions(
        contact="me@lab.example",
        resolve={"*.test": "127.0.0.1"},
        allow_addresses=("127.0.0.1/32",),
        allow_ports=(web.port,),
        hosts=HostOptions(spacing_s=0),
        retry_delay_s=0.05,
        decoders=1,
        **changes,
    )


def test_each_request_has_its_row(tmp_path: Path):
    log = tmp_path / "requests" / "a.parquet"
    with WebServer() as web:
        urls = [
            web.url("/redirect.jpg?to=/ok-1.jpg"),
            web.url("/500.jpg"),
            web.url("/html.jpg"),
            "http://10.0.0.1/x.jpg",
            f"http://a.test:{web.port + 1}/x.jpg",
        ]
        allowed = options(web)
        download_list(urls, tmp_path / "a.h5", allowed, DecodeOptions(), request_log=log)
        seen = sorted(path for (_, path), times in web.hits.items() for _ in range(times))
        port = web.port
    table = pq.read_table(log)
    assert table.schema == REQUESTS
    assert list(log.parent.iterdir()) == [log]
    rows = table.to_pylist()
    paths = [row["url"].removeprefix(f"http://a.test:{port}").partition("?")[0] for row in rows]
    assert sorted(paths) == seen
    found = {row["url"].rpartition("/")[2]: row for row in rows}
    assert found["ok-1.jpg"]["status"] == "ok"
    assert found["ok-1.jpg"]["n_bytes"] > 500
    assert found["500.jpg"]["http_status"] == 500
    assert found["html.jpg"]["status"] == "bad_type"
    assert {row["address"] for row in rows} == {"127.0.0.1"}


def test_a_list_that_fails_leaves_its_log(tmp_path: Path):
    log = tmp_path / "a.parquet"
    with WebServer() as web:
        urls = [web.url("/404.jpg", f"h{n}.test") for n in range(40)]
        strict = options(web, alarm_hosts=20)
        with pytest.raises(RunError, match="only 0 of the first 20 hosts"):
            download_list(urls, tmp_path / "a.h5", strict, DecodeOptions(), request_log=log)
        sent = sum(web.hits.values())
    assert len(pq.read_table(log)) >= sent >= 40


def test_a_killed_process_leaves_all_but_its_last_seconds_whether_requests_end_or_not(
    tmp_path: Path,
):
    log = tmp_path / "a.parquet"
    rows = read_log(note_and_kill(log)).to_pylist()
    assert not log.exists()
    assert [row["n_bytes"] for row in rows] == list(range(2500))


def test_the_last_seconds_are_as_many_as_the_docs_say():
    assert _FLUSH_S == 10
    assert "at most the last ten\nseconds" in Path("docs/download.md").read_text()


def test_a_disk_that_takes_no_log_ends_the_list(tmp_path: Path):
    (tmp_path / f"a{UNFINISHED}").symlink_to("/dev/full")
    with pytest.raises(RunError, match="no space"), RequestLog(tmp_path / "a.parquet") as log:
        for _ in range(1000):
            log.note("http://a.test/", "192.0.2.1", Answer(Status.OK, 200), 1)
        assert wait_until(lambda: log._flusher._error is not None)
        log.note("http://a.test/", "192.0.2.1", Answer(Status.OK, 200), 1)
    assert not (tmp_path / "a.parquet").exists()


def test_a_torn_log_is_read_up_to_its_tear(tmp_path: Path):
    torn = note_and_kill(tmp_path / "a.parquet")
    whole = torn.read_bytes()
    lengths = []
    for cut in range(0, len(whole), 997):
        torn.write_bytes(whole[:cut])
        rows = read_log(torn)["n_bytes"].to_pylist()
        assert rows == list(range(len(rows)))
        lengths.append(len(rows))
    assert lengths[0] == 0
    assert lengths == sorted(lengths)


def test_an_empty_log_is_an_empty_table(tmp_path: Path):
    with RequestLog(tmp_path / "a.parquet"):
        pass
    assert pq.read_table(tmp_path / "a.parquet").schema == REQUESTS


def test_a_log_is_flushed_after_a_while_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cah_dask.images.web.request_log._FLUSH_S", 0.05)
    unfinished = tmp_path / f"a{UNFINISHED}"
    with RequestLog(tmp_path / "a.parquet") as log:
        log.note("http://a.test/", "192.0.2.1", Answer(Status.TIMEOUT, seconds=1.5), 0)
        assert wait_until(lambda: len(read_log(unfinished)) == 1)
        (row,) = read_log(unfinished).to_pylist()
    assert (row["status"], row["http_status"], row["request_ms"]) == ("timeout", None, 1500)
