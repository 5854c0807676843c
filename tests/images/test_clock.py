"""Time in which this process could not run is counted against nobody."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cah_dask.blocklists.exclusion import Exclusion
from cah_dask.images.manners.hosts import HostOptions
from cah_dask.images.shards import ShardWriter
from cah_dask.images.web import clock
from tests.hostile import picture
from tests.images.conftest import wait_until
from tests.images.downloads import download, options, statuses
from tests.rawserver import KeptServer, response
from tests.webserver import WebServer

STOPPED = """
import asyncio
from cah_dask.images.web import clock

async def main():
    async with asyncio.timeout(1.5):
        print("begun", flush=True)
        await asyncio.to_thread(input)
    print("in time")

clock.run(main())
"""


def test_the_clock_goes_on_while_the_loop_runs():
    async def wait() -> float:
        started_at = clock.now()
        await asyncio.sleep(1.2)
        return clock.now() - started_at

    assert 1.2 <= clock.run(wait()) < 2


def test_the_clock_stands_still_while_the_loop_is_blocked():
    async def block() -> tuple[float, float]:
        started_at = clock.now()
        time.sleep(2)  # noqa: ASYNC251  a write that the file system does not take
        at_once = clock.now() - started_at
        await asyncio.sleep(0)
        return at_once, clock.now() - started_at

    for seconds in clock.run(block()):
        assert 0.4 < seconds < 0.8


def test_a_process_that_was_stopped_does_not_take_that_for_the_delay_of_others():
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(3)  # twice as long as it would wait
        os.kill(process.pid, signal.SIGCONT)
        process.stdin.write("go on\n")
        process.stdin.close()
        assert process.stdout.read() == "in time\n"


class Stalled(Exclusion):
    """A list on a file system that does not answer for three seconds."""

    stalls_s: ClassVar[list[float]] = [3.0]

    def excludes_image(self, md5: bytes) -> bool:
        time.sleep(self.stalls_s.pop() if self.stalls_s else 0)
        return Exclusion.excludes_image(self, md5)


def test_a_loop_that_is_blocked_for_seconds_loses_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("cah_dask.images.web.fetch._GRACE_S", 1.0)
    n_urls = 12

    async def talk(path, _number, writer):
        data = response(picture(seed=int(path[1:])))
        writer.write(data[:300])
        await asyncio.sleep(0.1 if path == "/0" else 0.5)
        writer.write(data[300:])

    with KeptServer(talk) as server:
        urls = [f"http://h{n}.test:{server.port}/{n}" for n in range(n_urls)]
        short: dict[str, Any] = {
            "read_timeout_s": 1.5,
            "total_timeout_s": 2.5,
            "min_bytes_per_s": 2000.0,
        }
        strict = options(server, obey_robots=False, retries=0, **short)
        began = time.monotonic()
        made, _ = download(urls, tmp_path, strict, exclusion=Stalled())
    assert time.monotonic() - began > 3
    assert statuses(made) == ["ok"] * n_urls
    assert max(made.outcomes["fetch_ms"].to_pylist()) < 2000


def test_a_write_that_blocks_holds_up_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    add = ShardWriter.add
    stalls_s = [2.0]

    def add_late(writer: ShardWriter, data: bytes) -> int:
        time.sleep(stalls_s.pop() if stalls_s else 0)
        return add(writer, data)

    async def talk(path, _number, writer):
        writer.write(response(picture(seed=int(path[1:]))))

    monkeypatch.setattr(ShardWriter, "add", add_late)
    with KeptServer(talk) as server:
        urls = [f"http://a.test:{server.port}/{n}" for n in range(12)]
        polite = options(server, obey_robots=False, hosts=HostOptions(spacing_s=0.1))
        made, images = download(urls, tmp_path, polite)
        times = [at for at, _ in server.requests]
    assert statuses(made) == ["ok"] * 12
    assert times[-1] - times[0] < 1.9
    assert len(images) == 12


def test_a_list_can_be_downloaded_below_a_loop_that_runs(tmp_path: Path):
    """As in a notebook."""
    with WebServer() as web:

        async def cell() -> list[str]:
            urls = [web.url(f"/ok-{n}.jpg") for n in range(3)]
            return statuses(download(urls, tmp_path, options(web))[0])

        assert asyncio.run(cell()) == ["ok"] * 3


def test_who_interrupts_a_notebook_ends_the_download(tmp_path: Path):
    def interrupt(web: WebServer) -> None:
        wait_until(lambda: ("a.test", "/hang.jpg") in web.hits)
        main_thread = threading.main_thread().ident
        assert main_thread is not None
        signal.pthread_kill(main_thread, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job may ignore it
    with contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGINT, before)
        web = stack.enter_context(WebServer())

        async def cell() -> None:
            with pytest.raises(KeyboardInterrupt):
                download([web.url("/hang.jpg")], tmp_path, options(web, retries=0))

        threading.Thread(target=interrupt, args=[web]).start()
        began = time.monotonic()
        loop = asyncio.new_event_loop()
        loop.run_until_complete(cell())
        loop.close()
    assert time.monotonic() - began < 10
