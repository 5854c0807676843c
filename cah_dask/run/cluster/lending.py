"""The way between the lists of a run and the driver, which lends them hosts (`manners.turns`).

The scheduler lives in the driver's process and every worker can call it, so a notice is one small
message to it.
"""

import asyncio
import time
from typing import Any

import msgspec
from distributed import Scheduler, get_worker

from cah_dask.images.manners.loans import Exchange
from cah_dask.images.manners.turns import Notice, Reply, Turns

_HANDLER = "cah_turns"


def lend_hosts(scheduler: Scheduler, turns: Turns) -> None:
    """Have a scheduler answer the notices of lists."""

    def answer(notice: dict[str, Any]) -> dict[str, Any]:
        reply = turns.exchange(msgspec.convert(notice, Notice), time.monotonic())
        return msgspec.structs.asdict(reply)

    scheduler.handlers[_HANDLER] = answer


def exchange_with_driver() -> Exchange:
    """Return the way to the driver, for a task that runs on a worker of it."""
    worker = get_worker()

    async def exchange(notice: Notice) -> Reply:
        call = getattr(worker.scheduler, _HANDLER)(notice=msgspec.structs.asdict(notice))
        future = asyncio.run_coroutine_threadsafe(call, worker.loop.asyncio_loop)
        return msgspec.convert(await asyncio.wrap_future(future), Reply)

    return exchange
