"""Preload of every worker process: what must hold before its first task."""

import logging
import signal

from distributed import Worker


async def dask_setup(worker: Worker) -> None:
    """Let only the driver decide when a worker ends, and keep its libraries quiet.

    Ctrl-C reaches every process of the terminal; a worker that died of it would lose the task that
    the driver is waiting for.
    """
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("httpx", "huggingface_hub", "open_clip", "PIL"):
        logging.getLogger(name).setLevel(logging.WARNING)
