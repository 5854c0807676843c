"""The driver: keeps every pool busy with units until a job is done or told to stop.

It knows a job as `Work` and the workers as a `Machine`; only small records pass through it, all
data go through files. It hands out a bounded number of tasks for each pool, takes each result at
once, and asks what became possible.
"""

import asyncio
import contextlib
import logging
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from cah_dask.errors import RunError
from cah_dask.run.attempts import Attempts
from cah_dask.run.folder.failures import Then
from cah_dask.run.pools import Pool
from cah_dask.run.signals import GRACE_S, Signals
from cah_dask.run.stages import Stage
from cah_dask.run.task import Done, Failed, Task
from cah_dask.run.unit import Unit

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""Seconds between two looks at the pools: workers come and go while nothing else happens."""


class Machine(Protocol):
    """Where tasks run."""

    def slots(self, pool: Pool) -> int:
        """Return how many tasks of a pool can run now."""

    def ask(self, pool: Pool, n_tasks: int) -> None:
        """Say how many tasks a pool could run at once, those that run included."""

    async def submit(
        self, pool: Pool, task: Task, *, priority: int, avoided: AbstractSet[str]
    ) -> Done | Failed:
        """Have a worker of a pool do a task, one that is not `avoided` if there is any."""

    def give_up(self, pool: Pool, worker: str) -> None:
        """Let go of a worker that only fails."""


class Units(Protocol):
    """Which units of a job may be done now."""

    stages: tuple[Stage, ...]

    def take(self, stages: Sequence[Stage]) -> Unit | None:
        """Return the first unit that may start now, trying `stages` in order, or None."""

    def waiting(self, stages: Sequence[Stage]) -> int:
        """Return how many units of `stages` may start now."""

    def put_back(self, unit: Unit) -> None:
        """Return a unit that was taken and not done."""


class Work(Protocol):
    """A job: what a worker is told of a unit, and what follows from its answer."""

    def task(self, unit: Unit, *, is_last_attempt: bool) -> Task:
        """Return what a worker is told about a unit."""

    def done(self, unit: Unit, done: Done) -> None:
        """Learn that a unit is done."""

    def failed(self, unit: Unit, failed: Failed, attempt: int, then: Then) -> None:
        """Learn that an attempt failed, and what the driver makes of it."""

    def given_up(self, unit: Unit, reason: str, attempts: int) -> None:
        """Learn that a unit is given up."""

    def owns(self, path: str) -> bool:
        """Tell whether a file is one that the job can make again."""

    def set_aside(self, path: str) -> None:
        """Have the next start make a damaged file again."""

    def look(self) -> None:
        """Look around; called about once a second to the end, also while `more` is at work."""

    def more(self) -> bool:
        """Add what is to be done when all else is, and tell whether there is any.

        It may take long: the loop that serves the workers goes on meanwhile.
        """


class Driver:
    """One attempt to carry a job to its end.

    Parameters
    ----------
    units, work
        The job.
    max_attempts
        Attempts at a unit before it is given up.
    warn
        Told, in one line, what a person may want to act on.
    """

    def __init__(
        self,
        units: Units,
        work: Work,
        pools: Sequence[Pool],
        *,
        max_attempts: int,
        warn: Callable[[str], None],
    ) -> None:
        self._units = units
        self._work = work
        self._pools = pools
        self._warn = warn
        self._attempts = Attempts(max_attempts)
        self._given_up: set[str] = set()
        self._alarmed: set[str] = set()
        self._running: dict[asyncio.Task[Done | Failed], tuple[Pool, Unit]] = {}
        self._stop = asyncio.Event()
        self._kill = asyncio.Event()
        self._stopped_by = signal.SIGINT

    async def drive(self, machine: Machine) -> None:
        """Do all that can be done, unless `stopped_by` says otherwise.

        Raises
        ------
        RunError
            When a person must look: the disk is full, a file is damaged.
        """
        self._machine = machine
        await self._do_all()
        while not self._stop.is_set() and await self._more():
            await self._do_all()

    def heeds(self, signals: Signals) -> contextlib.AbstractContextManager[None]:
        """Return a context in which signals stop the driver; enter it in the event loop."""
        loop = asyncio.get_running_loop()

        def listen(kind: signal.Signals) -> None:
            loop.call_soon_threadsafe(self._on_signal, kind)

        return signals.heard_by(listen)

    @property
    def stopped_by(self) -> signal.Signals | None:
        """The signal that stopped it; None if none did."""
        return self._stopped_by if self._stop.is_set() else None

    @property
    def running(self) -> Counter[Stage]:
        """Tasks that are handed out, by stage."""
        return Counter(unit.stage for _, unit in self._running.values())

    @property
    def workers_given_up(self) -> list[str]:
        """Workers that only failed while others did not."""
        return sorted(self._given_up)

    def _on_signal(self, kind: signal.Signals) -> None:
        if self._stop.is_set():
            self._kill.set()
            return
        self._stopped_by = kind
        self._stop.set()
        at_once = "; interrupt again to stop at once" if kind is signal.SIGINT else ""
        self._warn(
            f"stopping: {len(self._running)} running tasks get {GRACE_S[kind]:.0f} s to "
            f"finish{at_once}"
        )

    async def _more(self) -> bool:
        """Have more work sought, and look around meanwhile."""
        more = asyncio.create_task(asyncio.to_thread(self._work.more))
        while not more.done():
            self._work.look()
            await asyncio.wait({more}, timeout=LOOK_S)
        return more.result()

    async def _do_all(self) -> None:
        """Keep the pools busy until nothing is left to hand out or the job is told to stop."""
        stop = asyncio.create_task(self._stop.wait())
        clock = asyncio.get_running_loop().time
        try:
            while not self._stop.is_set():
                self._work.look()
                for unit in self._attempts.due(clock()):
                    self._units.put_back(unit)
                self._hand_out()
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

    async def _finish_running(self) -> None:
        kill = asyncio.create_task(self._kill.wait())
        deadline = asyncio.get_running_loop().time() + GRACE_S[self._stopped_by]
        for task in [
            task for task, (pool, _) in self._running.items() if not self._machine.slots(pool)
        ]:
            task.cancel()  # it waits for a worker that will not be started any more
            del self._running[task]
        while self._running and not kill.done():
            self._work.look()
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await asyncio.wait(
                {*self._running, kill},
                timeout=min(left, LOOK_S),
                return_when=asyncio.FIRST_COMPLETED,
            )
            self._collect()
        kill.cancel()

    def _hand_out(self) -> None:
        """Fill the window of each pool: a task for each slot and one more, so that none idles."""
        for pool in self._pools:
            in_flight = sum(1 for taken, _ in self._running.values() if taken is pool)
            self._machine.ask(pool, in_flight + self._units.waiting(pool.stages))
            for _ in range(self._machine.slots(pool) + 1 - in_flight):
                unit = self._units.take(pool.stages)
                if unit is None:
                    break
                self._running[asyncio.create_task(self._submit(pool, unit))] = (pool, unit)

    async def _submit(self, pool: Pool, unit: Unit) -> Done | Failed:
        self._attempts.begin(unit)
        return await self._machine.submit(
            pool,
            self._work.task(unit, is_last_attempt=self._attempts.is_last(unit)),
            priority=self._units.stages.index(unit.stage),
            avoided=self._attempts.avoid(unit, pool.name),
        )

    def _collect(self) -> None:
        for task in [task for task in self._running if task.done()]:
            pool, unit = self._running.pop(task)
            result = task.result()
            match result:
                case Done():
                    self._attempts.succeeded(unit, pool.name, result.worker)
                    self._work.done(unit, result)
                case Failed():
                    if result.worker:
                        self._attempts.failed(unit, pool.name, result.worker)
                    self._failed(unit, result)
            self._give_up_workers(pool)

    def _give_up_workers(self, pool: Pool) -> None:
        """Take leave of workers that only fail while others of their pool succeed."""
        for worker in self._attempts.in_disgrace(pool.name) - self._given_up:
            self._given_up.add(worker)
            self._warn(f"worker {worker} fails all its tasks while others do not; it gets no more")
            self._machine.give_up(pool, worker)

    def _is_confirmed(self, unit: Unit, worker: str) -> bool:
        """Tell whether an alarm is not that of one node alone: the unit or another node rang it."""
        self._alarmed.add(worker.partition("/")[0])
        return self._attempts.number(unit) > 1 or len(self._alarmed) > 1

    def _failed(self, unit: Unit, failed: Failed) -> None:
        logger.error(
            "task=%s stage=%s %s\n%s", unit.name, unit.stage, failed.message, failed.detail
        )
        then = self._then(unit, failed)
        attempt = self._attempts.number(unit)
        self._work.failed(unit, failed, attempt, then)
        match then:
            case Then.STOPPED if failed.damaged and self._work.owns(failed.damaged):
                self._work.set_aside(failed.damaged)
                raise RunError(
                    f"{failed.message}; it was set aside: the same command makes it again"
                )
            case Then.STOPPED:
                raise RunError(failed.message)
            case Then.GIVEN_UP:
                self._work.given_up(unit, failed.message, attempt)
            case Then.AGAIN:
                if failed.is_alarm:
                    self._warn(f"{failed.worker}: {failed.message}; it is tried elsewhere")
                self._attempts.postpone(unit, asyncio.get_running_loop().time())

    def _then(self, unit: Unit, failed: Failed) -> Then:
        """Judge what is to follow from a failed attempt."""
        if failed.damaged and self._work.owns(failed.damaged):  # damage is what is found twice
            return Then.STOPPED if self._attempts.number(unit) > 1 else Then.AGAIN
        if failed.is_alarm and not self._is_confirmed(unit, failed.worker):
            return Then.AGAIN
        if failed.is_fatal:
            return Then.STOPPED
        return Then.GIVEN_UP if self._attempts.is_last(unit) else Then.AGAIN
