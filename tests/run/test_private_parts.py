"""Canaries: does the installed Dask still have the private parts that we use, and do they behave?

Each works on real objects. The message of one that fails names the part and the versions.
"""

import asyncio
import contextlib
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from bokeh.document import Document
from distributed import Client, Scheduler, Status, Worker
from distributed.deploy.spec import ProcessInterface

from cah_dask.run.cluster import private_parts
from cah_dask.run.cluster.access import Access
from cah_dask.run.cluster.jobs import PoolJob, job_options
from cah_dask.run.cluster.private_parts import WatchedCluster, close_without_command
from cah_dask.run.pools import pools
from cah_dask.run.settings.config import PoolOptions, PoolsOptions
from cah_dask.run.slurm.options import SlurmOptions

SCHEDULER: dict[str, Any] = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
NO_ACCESS = Access(Path("cert.pem"), Path("key.pem"), "")


@contextlib.contextmanager
def relying_on(part: str) -> Iterator[None]:
    """Fail with the name of a part and the versions of who should have it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        versions = [f"{name} {version(name)}" for name in ("distributed", "dask-jobqueue")]
        pytest.fail(
            f"{part} is not what run/cluster/private_parts.py relies on in {', '.join(versions)}: "
            f"{type(error).__name__}: {error}"
        )


class Recorded(WatchedCluster):
    """Writes down what it is told, in order."""

    def __init__(self, workers: dict[str, Any]) -> None:
        self.told: list[str] = []
        super().__init__(
            workers=workers,
            scheduler={"cls": Scheduler, "options": SCHEDULER},
            asynchronous=True,
            silence_logs=False,
        )

    async def begin(self) -> None:
        self.told.append(f"begin {self.scheduler.status.name} {len(self.workers)}")

    async def end(self) -> None:
        self.told.append(f"end {self.scheduler.status.name} {len(self.workers)}")

    def came(self, workers: Iterable[str]) -> None:
        self.told.append(f"came {', '.join(workers)}")

    def left(self) -> None:
        self.told.append("left")


class Refused(ProcessInterface):  # type: ignore[misc]  # untyped library
    """A job that cannot be started."""

    async def start(self) -> None:
        self.status = Status.failed
        raise OSError("refused")

    async def close(self) -> None:
        await close_without_command(self)


WORKER = {"cls": Worker, "options": {"nthreads": 1, "host": "127.0.0.1", "dashboard": False}}


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110  # Dask has no event
            await asyncio.sleep(0.01)


def test_a_cluster_is_told_of_start_workers_and_end_in_order():
    async def watch() -> list[str]:
        async with Recorded({"cpu-1": WORKER}) as cluster:
            await until(lambda: "came cpu-1" in cluster.told)
            await cluster.workers["cpu-1"].close()
            await until(lambda: "left" in cluster.told)
            assert "cpu-1" in cluster.workers  # SpecCluster's own rule would drop it after 15 s
        return cluster.told

    with relying_on("SpecCluster._start, _close or _update_worker_status"):
        told = asyncio.run(watch())
        assert told == ["begin running 0", "came cpu-1", "left", "end running 1"]


def test_the_rule_that_is_skipped_is_still_that_of_the_class_above():
    with relying_on("SpecCluster._update_worker_status"):
        mro = WatchedCluster.__mro__
        owners = [kind.__name__ for kind in mro if "_update_worker_status" in vars(kind)]
        assert owners == ["WatchedCluster", "SpecCluster", "Cluster"]


def test_what_is_missing_is_started_and_one_refusal_is_raised_after_all_were_tried():
    async def start() -> None:
        async with Recorded({}) as cluster:
            cluster.worker_spec["cpu-1"] = {"cls": Refused, "options": {}}
            cluster.worker_spec["cpu-2"] = WORKER
            with pytest.raises(OSError, match="refused"):
                await cluster.start_missing()
            assert cluster.workers["cpu-1"].status is Status.failed
            assert cluster.workers["cpu-2"].status is Status.running
            kept = cluster.workers["cpu-2"]
            await cluster.start_missing()  # what is there is let be
            assert cluster.workers["cpu-2"] is kept
            for name in ("cpu-1", "cpu-2"):  # as `Cluster` forgets a job
                del cluster.worker_spec[name]
            job = cluster.workers.pop("cpu-1")
            job.status = Status.closed

    with relying_on("SpecCluster._correct_state"):
        asyncio.run(start())


@pytest.fixture
def pool_job(tmp_path: Path) -> PoolJob:
    found = pools(PoolsOptions(cpu=PoolOptions(partition="c", time="5", memory="8G", cores=2)))
    pool = next(pool for pool in found if pool.job is not None)
    options = job_options("cpu-1", pool, SlurmOptions(), tmp_path, NO_ACCESS)
    options["skip"] = frozenset({"-n"})
    return PoolJob("tls://the-driver", launcher=None, **options)


def test_a_job_has_our_header_no_limit_of_memory_and_is_closed_without_a_command(pool_job: PoolJob):
    async def close() -> Status:
        await pool_job.close()  # there is no scancel here
        await asyncio.wait_for(pool_job.finished(), 5)
        return pool_job.status

    with relying_on("ProcessInterface.close, job_header or worker_process_memory of dask_jobqueue"):
        script = pool_job.job_script()
        assert "--memory-limit 0 " in script
        assert "#SBATCH --mem=8G\n" in script
        assert "#SBATCH -n 1\n" not in script
        assert asyncio.run(close()) is Status.closed


def test_importing_the_slurm_job_leaves_signals_alone():
    code = (
        "import signal; before = signal.getsignal(signal.SIGINT); real = signal.signal;"
        "from cah_dask.run.cluster.private_parts import slurm_job_class; slurm_job_class();"
        "assert signal.getsignal(signal.SIGINT) is before and signal.signal is real;"
        "import dask_jobqueue.runner"
    )
    with relying_on("the import of dask_jobqueue"):
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@contextlib.asynccontextmanager
async def live_worker() -> AsyncIterator[tuple[Scheduler, Worker, Client]]:
    async with (
        Scheduler(**SCHEDULER, dashboard=True) as scheduler,
        Worker(
            scheduler.address, name="cpu-1", nthreads=1, host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as worker,
        Client(scheduler.address, asynchronous=True) as client,
    ):  # fmt: skip
        yield scheduler, worker, client


async def _is_answered(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


def test_the_http_servers_are_where_we_gate_and_stop_them():
    async def look() -> None:
        async with live_worker() as (scheduler, worker, _):
            application = private_parts.http_application(scheduler)
            assert callable(application.find_handler)
            assert await _is_answered(scheduler.http_server.port)
            assert await _is_answered(worker.http_server.port)
            port = worker.http_server.port
            private_parts.stop_http_server(worker)
            assert not await _is_answered(port)

    with relying_on("Scheduler.http_application, Worker.http_server or Worker.services"):
        asyncio.run(look())


running, may_end = threading.Event(), threading.Event()


def hold() -> int:
    """A task that runs until it may end."""
    running.set()
    may_end.wait(20)
    return 7


def test_a_worker_that_refuses_tasks_ends_the_one_it_has_and_signs_off():
    running.clear()
    may_end.clear()

    async def drain() -> None:
        async with live_worker() as (scheduler, worker, client):
            assert not private_parts.is_needed(worker)
            first = client.submit(hold, pure=False)
            await until(running.is_set)
            assert private_parts.is_needed(worker)
            private_parts.refuse_new_tasks(worker)
            state = scheduler.workers[worker.address]
            await until(lambda: state.status is Status.closing_gracefully)
            second = client.submit(int, 8, pure=False)
            may_end.set()
            assert await first == 7
            assert private_parts.is_needed(worker)  # the result is still here
            first.release()
            await until(lambda: not private_parts.is_needed(worker))
            assert second.status == "pending"
            await private_parts.sign_off(worker, "canary")
            assert not scheduler.workers
            assert worker.status is Status.closing_gracefully

    with relying_on("Worker.status, state.executing_count, data or Scheduler.retire_workers"):
        asyncio.run(drain())


def test_a_task_calls_the_driver_from_an_event_loop_of_its_own():
    async def ask(worker: Worker) -> Any:
        return await private_parts.call_scheduler(worker, "cah_canary", number=20)

    async def talk() -> Any:
        async with live_worker() as (scheduler, worker, _):
            private_parts.answer_calls(scheduler, "cah_canary", lambda number: number + 1)
            return await asyncio.to_thread(asyncio.run, ask(worker))

    with relying_on("Scheduler.handlers, Worker.scheduler or Worker.loop.asyncio_loop"):
        assert asyncio.run(talk()) == 21


def test_a_page_of_ours_is_the_first_that_all_pages_lead_to():
    def fill(document: Document) -> None:
        document.template = private_parts.page_template("{% extends 'base.html' %}")
        assert document.theme is not None

    async def look() -> list[str]:
        async with live_worker() as (scheduler, _, _):
            private_parts.add_page(scheduler, "canary", fill)
            site = f"http://127.0.0.1:{scheduler.http_server.port}"
            pages = []
            async with aiohttp.ClientSession() as session:
                for path in ("/canary", "/status", "/workers"):
                    async with session.get(site + path) as answer:
                        assert answer.status == 200
                        pages.append(await answer.text())
            return pages

    with relying_on("dashboard.scheduler.template_variables, BokehApplication, env or BOKEH_THEME"):
        for page in asyncio.run(look()):
            links = re.findall(r'<a href="(\w+)">', page)
            assert links[0] == "canary"
            assert "status" in links


def test_a_canary_names_the_part_and_the_versions():
    with pytest.raises(pytest.fail.Exception) as caught, relying_on("Worker._lost"):
        Worker._lost  # noqa: B018
    assert str(caught.value).startswith("Worker._lost is not what run/cluster/private_parts.py")
    assert f"distributed {version('distributed')}" in str(caught.value)
