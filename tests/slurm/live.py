"""A live `Cluster` of ours on the test Slurm, driven from an ordinary test function."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

from distributed import Client

from cah_dask.run.cluster.access import grant
from cah_dask.run.cluster.cluster import Cluster
from cah_dask.run.cluster.settings import dask_settings
from cah_dask.run.pools import Pool, pools
from cah_dask.run.settings.config import PoolOptions, PoolsOptions
from cah_dask.run.slurm.options import SlurmOptions
from tests.slurm.cluster import wait_until

FAST: dict[str, Any] = {"poll_s": 0.5, "idle_s": 60, "drain_s": 5, "interfaces": ("lo",)}
CPU = PoolOptions(partition="cpu", time="10", memory="200M", max_jobs=1)
GPU = PoolOptions(partition="gpu", time="10", gres="gpu:2", max_jobs=1)


class Live:
    """The cluster's event loop runs in a thread of its own; use as a context manager."""

    def __init__(
        self, folder: Path, cpu: PoolOptions = CPU, gpu: PoolOptions | None = None, **slurm: Any
    ) -> None:
        self.folder = folder
        self.warnings: list[str] = []
        local = PoolOptions(workers=1)
        found = pools(PoolsOptions(cpu=cpu, gpu=gpu or local))
        self._chosen = [pool for pool in found if gpu is not None or pool.name == "cpu"]
        self.pools: dict[str, Pool] = {pool.name: pool for pool in self._chosen}
        self._options = SlurmOptions(**{**FAST, **slurm})
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        ready: Future[None] = Future()
        self._session = asyncio.run_coroutine_threadsafe(self._open(ready), self._loop)
        self._session.add_done_callback(
            lambda ended: None if ready.done() else ready.set_exception(ended.exception())
        )
        ready.result(60)
        return self

    async def _open(self, ready: Future[None]) -> None:
        self._closing = asyncio.Event()
        access = grant(self.folder / "secrets")
        with dask_settings():
            async with (
                Cluster(
                    self._chosen, self._options, self.folder, access, self.warnings.append
                ) as self.cluster,
                Client(self.cluster, asynchronous=True) as self.client,
            ):
                ready.set_result(None)
                await self._closing.wait()

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        try:
            self._session.result(60)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)

    def ask(self, pool: str, n_tasks: int) -> None:
        async def ask() -> None:
            self.cluster.ask(self.pools[pool], n_tasks)

        self.call(ask())

    def submit(self, pool: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Hand out a task; `result` waits for it."""

        async def submit() -> Any:
            resources = self.pools[pool].needed
            return self.client.submit(function, *arguments, resources=resources, pure=False)

        return self.call(submit())

    def carry_out(self, pool: str, function: Callable[..., Any], work: list[Any]) -> list[Any]:
        """Run a task for each item, two in flight, and take each result at once: as the driver."""
        resources = self.pools[pool].needed

        async def one(window: asyncio.Semaphore, arguments: Any) -> Any:
            async with window:
                future = self.client.submit(function, *arguments, resources=resources, pure=False)
                try:
                    return await future
                finally:
                    future.release()

        async def all_of_them() -> list[Any]:
            window = asyncio.Semaphore(2)
            return await asyncio.gather(*(one(window, arguments) for arguments in work))

        return self.call(all_of_them())

    def result(self, future: Any) -> Any:
        async def result() -> Any:
            return await future

        return self.call(result())

    def wait_for_workers(self, pool: str, count: int, seconds: float = 60) -> float:
        """Wait until a pool has exactly so many workers; return how long that took."""
        started = time.monotonic()

        async def slots() -> int:
            found = self.pools[pool]
            return self.cluster.slots(found) // found.tasks_at_once

        wait_until(lambda: self.call(slots()) == count, seconds, f"{count} workers of {pool}")
        return time.monotonic() - started

    @property
    def jobs(self) -> dict[str, str]:
        """Names and Slurm ids of the jobs that the driver thinks it has."""

        async def jobs() -> dict[str, str]:
            return {name: job.job_id for name, job in self.cluster.workers.items()}

        return self.call(jobs())


def where_am_i() -> dict[str, str]:
    """Return what the environment of a task says about its place."""
    names = ("SLURM_JOB_PARTITION", "SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES", "SLURMD_NODENAME")
    return {name: os.environ.get(name, "") for name in names}


def note_and_sleep(path: str, name: str, seconds: float) -> str:
    """Write down that a task started and that it ended."""
    with Path(path).open("a") as file:
        file.write(f"start {name}\n")
    time.sleep(seconds)
    with Path(path).open("a") as file:
        file.write(f"end {name}\n")
    return name


@contextlib.contextmanager
def counted(program: str, folder: Path, path: str) -> Iterator[Path]:
    """Put a wrapper before a program that writes a line for each call."""
    real = next(Path(p) / program for p in path.split(":") if (Path(p) / program).exists())
    log = folder / f"{program}.calls"
    log.touch()
    wrapper = folder / "bin" / program
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\ndate +%s.%N >> {log}\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{wrapper.parent}:{before}"
    try:
        yield log
    finally:
        os.environ["PATH"] = before
