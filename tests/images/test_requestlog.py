"""What was asked is written down, whatever becomes of the list."""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cah_dask.errors import RunError
from cah_dask.images.answers import Answer
from cah_dask.images.decode import DecodeOptions
from cah_dask.images.download import download_list
from cah_dask.images.hosts import HostOptions
from cah_dask.images.options import DownloadOptions
from cah_dask.images.requestlog import UNFINISHED, RequestLog, read_log
from cah_dask.schema import REQUESTS, Status
from tests.webserver import WebServer

NOTE = """
import os, signal, sys
from pathlib import Path
from cah_dask.images.answers import Answer
from cah_dask.images.requestlog import RequestLog
from cah_dask.schema import Status

with RequestLog(Path(sys.argv[1])) as log:
    for n in range(2500):
        log.note(f"http://a.test/{n}", "192.0.2.1", Answer(Status.OK, 200), n)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def options(web: WebServer, **changes: object) -> DownloadOptions:
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


def test_a_killed_process_leaves_what_it_wrote(tmp_path: Path):
    log = tmp_path / "a.parquet"
    subprocess.run([sys.executable, "-c", NOTE, str(log)], check=False)
    assert not log.exists()
    rows = read_log(log.with_suffix(UNFINISHED)).to_pylist()
    assert [row["n_bytes"] for row in rows] == list(range(2000))


def test_a_torn_log_is_read_up_to_its_tear(tmp_path: Path):
    log = tmp_path / "a.parquet"
    subprocess.run([sys.executable, "-c", NOTE, str(log)], check=False)
    torn = log.with_suffix(UNFINISHED)
    whole = torn.read_bytes()
    lengths = set()
    for cut in range(0, len(whole), 997):
        torn.write_bytes(whole[:cut])
        lengths.add(len(read_log(torn)))
    assert lengths == {0, 1000}


def test_an_empty_log_is_an_empty_table(tmp_path: Path):
    with RequestLog(tmp_path / "a.parquet"):
        pass
    assert pq.read_table(tmp_path / "a.parquet").schema == REQUESTS


def test_a_log_is_flushed_after_a_while_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cah_dask.images.requestlog._FLUSH_S", 0.0)
    with RequestLog(tmp_path / "a.parquet") as log:
        log.note("http://a.test/", "192.0.2.1", Answer(Status.TIMEOUT, seconds=1.5), 0)
        (row,) = read_log(tmp_path / f"a{UNFINISHED}").to_pylist()
    assert (row["status"], row["http_status"], row["request_ms"]) == ("timeout", None, 1500)
