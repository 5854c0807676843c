import asyncio
import contextlib
import hashlib
import os
import platform
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from PIL import Image

from cah_dask.counts import Status
from cah_dask.errors import RetryableError
from cah_dask.images.picture.decode import DecodeOptions
from cah_dask.images.picture.decoders import Decoders, Task, Verdict, judge
from tests.hostile import bomb, encoded, many_scans, mutants, picture, polyglots
from tests.images.downloads import download, options
from tests.webserver import WebServer

TASK = Task(DecodeOptions())


def decoders_here() -> list[psutil.Process]:
    """The decoders of this process, which may have children of other tests, too."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            if "cah_dask.images.picture.decoders" in child.cmdline():
                found.append(child)
    return found


def judge_all(
    files: list[bytes],
    *,
    task: Task = TASK,
    timeout_s: float = 30,
    disturb: int | None = None,
) -> list[Verdict]:
    """Judge files in two decoders; signal one of them once they run, if told so."""

    async def run() -> list[Verdict]:
        async with Decoders(task, processes=2, timeout_s=timeout_s) as decoders:
            if disturb is not None:
                victims = decoders_here()
                assert len(victims) == 2
                for child in victims:
                    os.kill(child.pid, disturb)
            return await asyncio.gather(*map(decoders.judge, files))

    return asyncio.run(run())


def test_a_decoder_answers_as_the_function_does():
    files = [picture(seed=n) for n in range(20)] + [b"junk", bomb(), picture(size=(10, 10))]
    assert judge_all(files) == [judge(file, TASK) for file in files]


def test_hashes_are_those_of_the_received_bytes():
    for data in (picture(), b"no picture"):
        verdict = judge(data, TASK)
        assert verdict.sha256 == hashlib.sha256(data).hexdigest()
        assert verdict.md5 == hashlib.md5(data).hexdigest()
        assert verdict.sha1 is None
        sha1 = judge(data, Task(DecodeOptions(), with_sha1=True)).sha1
        assert sha1 == hashlib.sha1(data).hexdigest()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])
def test_a_decoder_that_is_killed_or_stopped_from_outside_costs_no_image(blow):
    files = [picture(seed=n) for n in range(10)]
    verdicts = judge_all(files, timeout_s=3, disturb=blow)
    assert verdicts == [judge(file, TASK) for file in files]


def test_decoders_that_are_killed_while_they_are_idle_cost_nothing():
    files = [picture(seed=n) for n in range(6)]

    async def run() -> list[Verdict]:
        verdicts = []
        async with Decoders(TASK, processes=2, timeout_s=30) as decoders:
            for file in files:
                victims = decoders_here()
                assert victims
                for child in victims:
                    child.kill()
                while any(child.is_running() for child in victims):  # noqa: ASYNC110  no event
                    await asyncio.sleep(0.01)  # until asyncio has reaped them
                verdicts.append(await decoders.judge(file))
        return verdicts

    assert asyncio.run(run()) == [judge(file, TASK) for file in files]


def test_an_image_that_kills_two_decoders_is_to_blame():
    async def run() -> Verdict:
        async with Decoders(TASK, processes=1, timeout_s=30) as decoders:
            task = asyncio.ensure_future(decoders.judge(picture(size=(4000, 4000))))
            for _ in range(2):
                (child,) = decoders_here()
                while not has_work(child):  # noqa: ASYNC110  no event
                    await asyncio.sleep(0.001)
                child.kill()
                while child in decoders_here():  # noqa: ASYNC110  no event
                    await asyncio.sleep(0.001)
                while not (task.done() or decoders_here()):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            return await task

    verdict = asyncio.run(run())
    assert verdict.status is Status.DECODE_CRASH
    assert verdict.sha256 == hashlib.sha256(picture(size=(4000, 4000))).hexdigest()


def waits_for_work(process: psutil.Process) -> bool:
    """Tell whether a decoder has started and is idle: it waits to read its standard input."""
    with contextlib.suppress(OSError):
        call, *arguments = Path(f"/proc/{process.pid}/syscall").read_text().split()
        return call in ("0", "63") and arguments[0] == "0x0"  # read, on x86-64 and on ARM
    return False


def has_work(process: psutil.Process) -> bool:
    """Tell whether a decoder has been given an image: its inbox holds more than its task."""
    with contextlib.suppress(OSError, psutil.Error):
        inbox = process.cmdline()[-1]
        return Path(f"/proc/{process.pid}/fd/{inbox}").stat().st_size > 10_000
    return False


def test_a_download_whose_decoders_are_killed_again_and_again_stores_the_same(tmp_path: Path):
    with WebServer() as web:
        urls = [web.url(f"/slow-{n}.jpg?s={n / 10}", f"h{n}.test") for n in range(40)]
        _, expected = download(urls, tmp_path, options(web))
        stop = threading.Event()
        killer = threading.Thread(target=kill_decoders, args=(stop, random.Random(7)))
        killer.start()
        try:
            made, images = download(urls, tmp_path, options(web, decoders=2))
        finally:
            stop.set()
            killer.join()
    assert made.counts.kept == len(urls), made.counts
    assert images == expected


def kill_decoders(stop: threading.Event, rng: random.Random) -> None:
    """Kill one decoder after another that has been idle for a while."""
    looks: Counter[int] = Counter()
    while not stop.wait(0.1):
        with contextlib.suppress(psutil.Error):  # one has just ended
            idle = {child.pid: child for child in decoders_here() if waits_for_work(child)}
            looks = Counter({pid: looks[pid] + 1 for pid in idle})
            long_idle = [pid for pid, n_looks in looks.items() if n_looks > 3]
            if long_idle:
                idle[rng.choice(long_idle)].kill()


def test_a_large_file_passes_the_pipes():
    data = picture("PNG", size=(1500, 1500), compress_level=0)
    assert len(data) > 6_000_000
    assert judge_all([data] * 3) == [judge(data, TASK)] * 3


def page_faults(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how glibc allocates")
def test_a_decoder_keeps_its_memory_for_the_next_picture():
    async def run() -> int:
        async with Decoders(TASK, processes=1, timeout_s=30) as decoders:
            (child,) = decoders_here()
            faults = []
            for seed in range(60):
                await decoders.judge(picture(size=(1000, 700), seed=seed))
                faults.append(page_faults(child.pid))
            return faults[-1] - faults[20]

    assert asyncio.run(run()) < 40 * 50, "a picture of 1000 x 700 has 684 pages"


def test_a_task_that_is_cancelled_leaves_no_decoder():
    async def run() -> None:
        async with Decoders(TASK, processes=1, timeout_s=60) as decoders:
            task = asyncio.ensure_future(decoders.judge(picture(size=(3000, 3000))))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())


@pytest.mark.parametrize("turns", [1, 2, 3, 10, 100])
def test_a_verdict_nobody_waits_for_is_not_the_next_images(turns: int):
    """`turns` of the event loop after it was asked for, somewhere between pipe and answer."""

    async def run() -> Verdict:
        async with Decoders(TASK, processes=1, timeout_s=30) as decoders:
            given_up = asyncio.create_task(decoders.judge(picture(size=(900, 900), seed=1)))
            for _ in range(turns):
                await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
            return await decoders.judge(picture(seed=2))

    assert asyncio.run(run()) == judge(picture(seed=2), TASK)


def test_a_task_that_is_cancelled_while_its_decoder_is_replaced_closes_nothing_twice():
    async def run() -> list[int]:
        async with Decoders(TASK, processes=1, timeout_s=0.1) as decoders:
            (child,) = decoders_here()
            child.suspend()
            task = asyncio.ensure_future(decoders.judge(picture()))
            while psutil.pid_exists(child.pid):  # noqa: ASYNC110  its end is no event here
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return [os.memfd_create("another") for _ in range(4)]  # numbers that were free again

    for number in asyncio.run(run()):
        os.close(number)


def test_ten_thousand_damaged_files_end_in_a_status_and_crash_nothing():
    began = time.monotonic()
    counts = Counter(verdict.status for verdict in judge_all(list(mutants(10_000))))
    assert counts.total() == 10_000
    assert counts[Status.DECODE_CRASH] == 0, counts
    assert len(counts) >= 6, counts
    assert time.monotonic() - began < 120


def test_a_file_that_takes_for_ever_costs_its_decoder_only():
    files = [picture(), many_scans(), picture(seed=1)]
    statuses = [verdict.status for verdict in judge_all(files, timeout_s=3)]
    assert statuses == [Status.OK, Status.DECODE_CRASH, Status.OK]


def test_a_picture_that_needs_too_much_memory_is_a_crash_of_its_own():
    task = Task(DecodeOptions(max_pixels=10**9))
    square = encoded(Image.new("1", (13_300, 13_300)), "PNG", transparency=0)
    assert judge_all([square], task=task)[0].status is Status.DECODE_CRASH


@pytest.mark.parametrize("data", polyglots(), ids=range(6))
def test_a_file_of_two_formats_is_one_of_them_or_none(data):
    verdict = judge(data, TASK)
    if verdict.picture is None:
        assert verdict.status in (Status.DECODE_FORMAT, Status.DECODE_ERROR)
    else:
        assert b"script" not in verdict.picture.data
        assert b"PK" not in verdict.picture.data[:100]


def test_a_decoder_that_does_not_start_is_the_trouble_of_its_task(tmp_path, monkeypatch):
    (tmp_path / "python").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(RetryableError, match="a decoder does not start"):
        judge_all([picture()])
