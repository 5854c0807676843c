"""The driver: keeps every pool busy with units of the plan until the release is published.

Dask moves only small records here; all data go through files. The driver hands out a bounded number
of tasks for each pool, takes each result at once, writes it to the journal, and asks the plan what
became possible.
"""

import asyncio
import logging
import signal
import uuid
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Protocol

import dask
from distributed import Client, Future, KilledWorker

from cah_dask.candidates.sources import public_names
from cah_dask.errors import RunError
from cah_dask.images.turns import Turns
from cah_dask.run.access import Dashboard, grant
from cah_dask.run.attempts import Attempts
from cah_dask.run.cluster import DASK_SETTINGS, Cluster, started
from cah_dask.run.config import Config, config_hash, run_hash, variants
from cah_dask.run.journal import Commit
from cah_dask.run.lending import lend_hosts
from cah_dask.run.lost import late_waves, write_lost
from cah_dask.run.manifest import RunFolder
from cah_dask.run.plan import Plan, Unit
from cah_dask.run.pools import Pool, pools
from cah_dask.run.publish import Publisher
from cah_dask.run.signals import GRACE_S, Signals
from cah_dask.run.stages import DEDUP, DOWNLOAD, EMBED, EXTRACT, PACK, SELECT, Stage
from cah_dask.run.tasks import Done, Failed, Job, run_task
from cah_dask.storage import disk_errors

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""Seconds between two looks at the pools: workers come and go while nothing else happens."""


class Ending(Enum):
    """How an attempt to carry a run to its end came out."""

    PUBLISHED = "published"
    STOPPED = "stopped"
    OUT_OF_TIME = "out of time"
    INCOMPLETE = "incomplete"


def ending_of(kind: signal.Signals) -> Ending:
    """Return how a run ends that a signal stopped."""
    return Ending.OUT_OF_TIME if kind is signal.SIGUSR2 else Ending.STOPPED


class View(Protocol):
    """Shows a person how the run is doing; every call returns at once."""

    def start(self, plan: Plan, dashboard: Dashboard) -> None:
        """Learn that the scheduler is up and where its dashboard is."""

    def update(self, commit: Commit) -> None:
        """Learn of a commit."""

    def say(self, message: str) -> None:
        """Show a line of news."""

    def warn(self, message: str) -> None:
        """Show something that a person may want to act on."""


def run(config: Config, folder: RunFolder, view: View, signals: Signals) -> Ending:
    """Carry the run to its end, or as far as it gets; `folder` must be driven by this process.

    Raises
    ------
    RunError
        When a person must look: the disk is full, the run folder is damaged.
    Stopped
        When a signal came before the first task or after the last one.
    """
    plan = Plan(
        folder.archives(),
        archives_per_wave=config.archives_per_wave,
        buckets=config.dedup.buckets,
        committed=folder.existing(),
        staged_limit=config.staged_gb * 1e9,
        late=late_waves(folder),
        stages=folder.stages,
        variants=variants(config),
    )
    publisher = Publisher(config, folder, plan)
    if publisher.is_published():
        return Ending.PUBLISHED
    if plan.left()[0] == SELECT:
        view.say("everything is scored: only a selection is to be made, without web or model")
    with dask.config.set(DASK_SETTINGS), disk_errors(folder.path):
        ending = asyncio.run(Driver(config, folder, plan, publisher, view).drive(signals))
        if ending is None:
            publisher.publish()
    return ending or Ending.PUBLISHED


def lists_at_once(config: Config) -> int:
    """Return how many fetch lists may be in flight at most: each has a share of the budgets."""
    buckets = config.dedup.buckets  # one list of each
    for pool in pools(config.pools, config.slurm.launch):
        if DOWNLOAD in pool.stages:
            jobs = min(pool.max_jobs, config.slurm.max_jobs)
            return min(buckets, pool.workers if pool.job is None else jobs * pool.processes)
    return buckets


class Driver:
    """One attempt to carry a run to its end."""

    def __init__(
        self, config: Config, folder: RunFolder, plan: Plan, publisher: Publisher, view: View
    ) -> None:
        self._config = config
        self._hash = run_hash(config)
        self._release_hash = config_hash(config)
        self._folder = folder
        self._plan = plan
        self._publisher = publisher
        self._view = view
        self._archive_names = public_names(folder.archives())
        self._attempts = Attempts(config.max_attempts)
        self._given_up: set[str] = set()
        self._is_paused = False
        self._running: dict[asyncio.Task[Done | Failed], tuple[Pool, Unit]] = {}

    async def drive(self, signals: Signals) -> Ending | None:
        """Start the pools and do all that can be done; None if that is all that is to be done."""
        loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._kill = asyncio.Event()
        self._stopped_by = signal.SIGINT
        found = pools(self._config.pools, self._config.slurm.launch, self._folder.stages)
        left = set(self._plan.left())
        self._pools = tuple(pool for pool in found if left & set(pool.stages))

        def listen(kind: signal.Signals) -> None:
            loop.call_soon_threadsafe(self._on_signal, kind)

        with signals.heard_by(listen):
            await self._drive()
        if self._stop.is_set():
            return ending_of(self._stopped_by)
        if self._publisher.too_many_lost:
            self._view.warn(self._publisher.too_many_lost)
        is_whole = not (self._plan.failed or self._publisher.too_many_lost)
        return None if is_whole else Ending.INCOMPLETE

    async def _drive(self) -> None:
        async with (
            started(self._make_cluster) as self._cluster,
            Client(self._cluster, asynchronous=True) as client,
        ):
            lend_hosts(self._cluster.scheduler, Turns(self._config.dedup.buckets))
            way = self._cluster.way
            way.write(self._folder.dashboard_file)
            self._view.start(self._plan, way)
            try:
                await self._work(client)
                if (
                    self._plan.is_selected
                    and not self._publisher.too_many_lost
                    and not self._stop.is_set()
                ):
                    self._publisher.create()
                    await self._work(client)
            finally:
                self._folder.dashboard_file.unlink(missing_ok=True)  # nobody listens any more

    def _make_cluster(self) -> Cluster:
        return Cluster(
            self._pools,
            self._config.slurm,
            self._folder.path,
            grant(self._folder.secrets),
            warn=self._view.warn,
        )

    def _on_signal(self, kind: signal.Signals) -> None:
        if self._stop.is_set():
            self._kill.set()
            return
        self._stopped_by = kind
        self._stop.set()
        at_once = "; interrupt again to stop at once" if kind is signal.SIGINT else ""
        self._view.warn(
            f"stopping: {len(self._running)} running tasks get {GRACE_S[kind]:.0f} s to "
            f"finish{at_once}"
        )

    async def _work(self, client: Client) -> None:
        """Keep the pools busy until nothing is left to hand out or the run is told to stop."""
        stop = asyncio.create_task(self._stop.wait())
        clock = asyncio.get_running_loop().time
        try:
            while not self._stop.is_set():
                self._mind_pause()
                for unit in self._attempts.due(clock()):
                    self._plan.put_back(unit)
                self._hand_out(client)
                if not self._running and not self._attempts.are_waiting:
                    return
                await asyncio.wait(
                    {*self._running, stop}, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED
                )
                self._collect()
            await self._finish_running()
        finally:
            stop.cancel()
            for task in self._running:
                task.cancel()
            self._running.clear()

    def _mind_pause(self) -> None:
        """Say when downloads are paused and when they go on; the tasks see to it themselves."""
        is_paused = self._folder.pause_file.exists()
        if is_paused and not self._is_paused:
            self._view.warn(f"downloads are paused: remove {self._folder.pause_file} to go on")
        if self._is_paused and not is_paused:
            self._view.warn("downloads go on")
        self._is_paused = is_paused

    async def _finish_running(self) -> None:
        kill = asyncio.create_task(self._kill.wait())
        deadline = asyncio.get_running_loop().time() + GRACE_S[self._stopped_by]
        for task in [
            task for task, (pool, _) in self._running.items() if not self._cluster.slots(pool)
        ]:
            task.cancel()  # it waits for a worker that will not be started any more
            del self._running[task]
        while self._running and not kill.done():
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await asyncio.wait(
                {*self._running, kill}, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            self._collect()
        kill.cancel()

    def _hand_out(self, client: Client) -> None:
        """Fill the window of each pool: a task for each slot and one more, so that none idles."""
        for pool in self._pools:
            in_flight = sum(1 for taken, _ in self._running.values() if taken is pool)
            self._cluster.ask(pool, in_flight + self._plan.waiting(pool.stages))
            for _ in range(self._cluster.slots(pool) + 1 - in_flight):
                unit = self._plan.take(pool.stages)
                if unit is None:
                    break
                self._attempts.begin(unit)
                task = asyncio.create_task(self._carry_out(client, pool, unit))
                self._running[task] = (pool, unit)

    async def _carry_out(self, client: Client, pool: Pool, unit: Unit) -> Done | Failed:
        """Have one of the workers that may do so carry out a unit; they may all go meanwhile."""
        result = None
        while result is None:
            workers = self._cluster.elsewhere(pool, self._attempts.avoid(unit, pool.name))
            future = client.submit(
                run_task,
                self._job(unit),
                key=f"{unit.stage}-{unit.name}-{uuid.uuid4().hex[:8]}",
                workers=workers,
                resources=pool.resources,
                priority=self._plan.stages.index(unit.stage),
                pure=False,
            )
            try:
                result = await self._result(future, workers)
            except KilledWorker as error:
                result = Failed(f"its workers died: {error}")
            finally:
                future.release()
        return result

    async def _result(self, future: Future, workers: list[str] | None) -> Done | Failed | None:
        """Wait for a task; None if none of the `workers` is left that may run it."""
        result = asyncio.ensure_future(future.result())
        try:
            while not result.done():
                await asyncio.wait({result}, timeout=None if workers is None else LOOK_S)
                if workers is not None and not self._cluster.has_any(workers):
                    break
            return result.result() if result.done() else None
        finally:
            result.cancel()

    def _job(self, unit: Unit) -> Job:
        inputs: tuple[str, ...] = ()
        if unit.stage == DEDUP:
            inputs = tuple(extract.part for extract in self._plan.wave(unit.wave))
        return Job(
            run_dir=str(self._folder.path.resolve()),
            unit=unit,
            config=self._config,
            config_hash=self._release_hash if unit.variant else self._hash,
            archive_name=self._archive_names.get(unit.archive, ""),
            inputs=inputs,
            late_waves=tuple(self._plan.late_waves(unit.wave)) if unit.stage == DEDUP else (),
            slices=self._publisher.slices(unit) if unit.stage == PACK else (),
            release=str(self._folder.unfinished_release.resolve()),
            lists_at_once=lists_at_once(self._config),
            is_last_attempt=self._attempts.is_last(unit),
        )

    def _collect(self) -> None:
        for task in [task for task in self._running if task.done()]:
            pool, unit = self._running.pop(task)
            result = task.result()
            match result:
                case Done():
                    self._attempts.succeeded(unit, pool.name, result.worker)
                    self._done(unit, result)
                case Failed():
                    if result.worker:
                        self._attempts.failed(unit, pool.name, result.worker)
                    self._failed(unit, result)
            self._give_up_workers(pool)

    def _give_up_workers(self, pool: Pool) -> None:
        """Take leave of workers that only fail while others of their pool succeed."""
        for worker in self._attempts.in_disgrace(pool.name) - self._given_up:
            self._given_up.add(worker)
            self._view.warn(
                f"worker {worker} fails all its tasks while others do not; it gets no more"
            )
            self._cluster.give_up(pool, worker)

    def _done(self, unit: Unit, done: Done) -> None:
        commit = Commit(
            at=datetime.now(UTC),
            stage=unit.stage.name,
            unit=unit.name,
            worker=done.worker,
            seconds=round(done.seconds, 3),
            receipt=done.receipt,
        )
        self._folder.record(commit)
        self._plan.complete(unit, done.receipt)
        counts = done.receipt.counts
        logger.info(
            "task=%s stage=%s worker=%s seen=%d kept=%d seconds=%.2f",
            unit.name, unit.stage, done.worker, counts.seen, counts.kept, done.seconds,
        )  # fmt: skip
        for error in done.receipt.errors:
            self._view.warn(f"{unit.archive or unit.name}: {error}")
        if unit.stage == EMBED and not self._config.keep_images:
            self._folder.drop_images(unit)
        self._view.update(commit)

    def _failed(self, unit: Unit, failed: Failed) -> None:
        logger.error(
            "task=%s stage=%s %s\n%s", unit.name, unit.stage, failed.message, failed.detail
        )
        if failed.damaged and (maker := self._folder.maker_of(Path(failed.damaged))):
            self._set_aside(unit, *maker, failed.message)
            return
        if failed.is_fatal:
            raise RunError(failed.message)
        if not self._attempts.is_last(unit):
            self._attempts.postpone(unit, asyncio.get_running_loop().time())
            return
        if unit.stage == EXTRACT:
            self._lose(unit, failed)
            return
        self._plan.fail(unit, failed.message)
        self._view.warn(
            f"{unit.stage} {unit.name} is given up after {self._attempts.number(unit)} attempts: "
            f"{failed.message}"
        )

    def _lose(self, unit: Unit, failed: Failed) -> None:
        """Let the run go on without an archive, until it is taken up again."""
        receipt = write_lost(self._folder, unit, self._hash, failed.message)
        self._done(unit, Done(receipt, 0.0, ""))

    def _set_aside(self, unit: Unit, stage: Stage, name: str, message: str) -> None:
        """Believe in damage when it is found twice; the next start makes the part again."""
        if self._attempts.number(unit) == 1:
            self._attempts.postpone(unit, asyncio.get_running_loop().time())
            return
        self._folder.set_aside(stage, name)
        raise RunError(f"{message}; it was set aside: the same command makes it again")
