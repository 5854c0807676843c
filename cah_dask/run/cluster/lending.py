"""The way between the lists of a run and the driver, which lends them hosts (`manners.turns`).

The scheduler lives in the driver's process and every worker can call it, so a notice is one small
message to it.
"""

import time
from typing import Any

import msgspec
from distributed import Scheduler, get_worker

from cah_dask.images.manners.loans import Exchange
from cah_dask.images.manners.turns import Notice, Reply, Turns
from cah_dask.run.cluster.private_parts import answer_calls, call_scheduler

_HANDLER = "cah_turns"


def lend_hosts(scheduler: Scheduler, turns: Turns) -> None:
    """Have a scheduler answer the notices of lists."""

    def answer(notice: dict[str, Any]) -> dict[str, Any]:
        reply = turns.exchange(msgspec.convert(notice, Notice), time.monotonic())
        return msgspec.structs.asdict(reply)

    answer_calls(scheduler, _HANDLER, answer)


def exchange_with_driver() -> Exchange:
    """Return the way to the driver, for a task that runs on a worker of it."""
    worker = get_worker()

    async def exchange(notice: Notice) -> Reply:
        reply = await call_scheduler(worker, _HANDLER, notice=msgspec.structs.asdict(notice))
        return msgspec.convert(reply, Reply)

    return exchange
