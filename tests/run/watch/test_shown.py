"""What the HTTP server of a scheduler answers, and what is read for whom."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import aiohttp
import msgspec
from distributed import Scheduler

from cah_dask.run.cluster.page.shown import shown
from cah_dask.run.watch.figures import Figures
from cah_dask.run.watch.view import Facts
from tests.run.watch.test_lists import write
from tests.run.watch.test_live import Watched, embedded
from tests.run.watch.test_pairs import known as known  # noqa: PLC0414  # a fixture
from tests.run.watch.test_pairs import write_list


async def until(answers: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await answers():  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0.01)


def test_prometheus_alone_has_no_pairs_read(known: Facts, tmp_path: Path):
    watched = Watched(known)
    watched.watch.add(embedded(write_list(tmp_path, 0, [0.5, 0.2], 0)))

    async def look() -> None:
        options = {"dashboard": True, "dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
        async with (
            Scheduler(**options) as scheduler,
            shown(scheduler, watched.watch),
            aiohttp.ClientSession(f"http://127.0.0.1:{scheduler.http_server.port}") as session,
        ):

            async def answer(path: str) -> bytes:
                watched.seconds += 15.0
                async with session.get(path) as found:
                    assert found.status == 200
                    return await found.read()

            async def scraped(n_lists: int) -> bool:
                return b"\ncah_lists_at_work %.1f\n" % n_lists in await answer("/metrics")

            async def has_pairs() -> bool:
                return bool(msgspec.json.decode(await answer("/cah.json"), type=Figures).pairs)

            for number in range(2):  # the second is read when the first reading is through
                write(known.folder, f"w00000/b00000-l0000{number}")
                await until(partial(scraped, number + 1))
            assert watched.watch.figures(with_pairs=False).pairs == []
            await until(has_pairs)

    asyncio.run(look())
