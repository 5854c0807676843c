import asyncio
import hashlib
import os
import signal

import psutil
import pytest

from cah_dask.images.decode import DecodeOptions
from cah_dask.images.decoders import Decoders, Verdict, judge
from cah_dask.schema import Status
from tests.webserver import bomb, picture

OPTIONS = DecodeOptions()


def judge_all(
    files: list[bytes], *, timeout_s: float = 30, disturb: int | None = None
) -> list[Verdict]:
    """Judge files in two decoders; signal one of them once they run, if told so."""

    async def run() -> list[Verdict]:
        async with Decoders(OPTIONS, processes=2, timeout_s=timeout_s) as decoders:
            if disturb is not None:
                for child in psutil.Process().children():
                    os.kill(child.pid, disturb)
            return await asyncio.gather(*map(decoders.judge, files))

    return asyncio.run(run())


def test_a_decoder_answers_as_the_function_does():
    files = [picture(seed=n) for n in range(20)] + [b"junk", bomb(), picture(size=(10, 10))]
    assert judge_all(files) == [judge(file, OPTIONS) for file in files]


def test_hashes_are_those_of_the_received_bytes():
    for data in (picture(), b"no picture"):
        verdict = judge(data, OPTIONS)
        assert verdict.sha256 == hashlib.sha256(data).hexdigest()
        assert verdict.md5 == hashlib.md5(data).hexdigest()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])
def test_a_crash_or_a_hang_costs_one_image_each(blow):
    files = [picture(seed=n) for n in range(10)]
    verdicts = judge_all(files, timeout_s=1.5, disturb=blow)
    statuses = [verdict.status for verdict in verdicts]
    assert statuses == [Status.DECODE_CRASH] * 2 + [Status.OK] * 8
    assert verdicts[0].sha256 == hashlib.sha256(files[0]).hexdigest()


def test_a_large_file_passes_the_pipes():
    data = picture("PNG", size=(1500, 1500), compress_level=0)
    assert len(data) > 6_000_000
    assert judge_all([data] * 3) == [judge(data, OPTIONS)] * 3


def test_a_task_that_is_cancelled_leaves_no_decoder():
    async def run() -> None:
        async with Decoders(OPTIONS, processes=1, timeout_s=60) as decoders:
            task = asyncio.ensure_future(decoders.judge(picture(size=(3000, 3000))))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
