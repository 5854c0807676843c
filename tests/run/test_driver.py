"""The driver on machines that fail in every way: no process, no file, no waiting."""

import asyncio
import itertools
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cah_dask.counts import Counts
from cah_dask.errors import RunError
from cah_dask.run.driver import LOOK_S, Driver
from cah_dask.run.folder.failures import Then
from cah_dask.run.pools import Pool
from cah_dask.run.signals import Signals
from cah_dask.run.stages import EMBED, EXTRACT
from cah_dask.run.task import Done, Failed, Task
from cah_dask.run.unit import Unit
from cah_dask.storage import Receipt
from tests import virtual_time

CPU = Pool(name="cpu", stages=(EXTRACT,), threads=1, workers=4)
GPU = Pool(name="gpu", stages=(EMBED,), threads=1, workers=2)


class Archives:
    """A job of some archives, each of which is embedded once it is extracted."""

    stages = (EXTRACT, EMBED)

    def __init__(self, n: int) -> None:
        self.ready = [Unit(EXTRACT, archive=str(number)) for number in range(n)]
        self.finished: Counter[Unit] = Counter()
        self.lost: dict[Unit, tuple[str, int]] = {}
        self.moved: list[str] = []
        self.last: list[Unit] = []
        self.failures: list[tuple[Unit, str, int, Then]] = []
        self.later = 0
        self.looks: list[float] = []

    def take(self, stages):
        for unit in self.ready:
            if unit.stage in stages:
                self.ready.remove(unit)
                return unit
        return None

    def waiting(self, stages):
        return sum(unit.stage in stages for unit in self.ready)

    def put_back(self, unit):
        self.ready.append(unit)

    def task(self, unit, *, is_last_attempt):
        if is_last_attempt:
            self.last.append(unit)
        return Task(run_dir="", unit=unit, config_hash="")

    def done(self, unit, done):
        assert isinstance(done, Done)
        self.finished[unit] += 1
        if unit.stage == EXTRACT:
            self.ready.append(Unit(EMBED, number=int(unit.archive)))

    def failed(self, unit, failed, attempt, then):
        self.failures.append((unit, failed.message, attempt, then))

    def given_up(self, unit, reason, attempts):
        self.lost[unit] = (reason, attempts)

    def owns(self, path):
        return path.startswith("run/")

    def set_aside(self, path):
        self.moved.append(path)

    def look(self):
        self.looks.append(asyncio.get_running_loop().time())

    def more(self):
        self.later, later = 0, self.later
        self.ready += [Unit(EXTRACT, archive=str(1000 + number)) for number in range(later)]
        return later > 0


@dataclass
class Workers:
    """A machine with so many workers a pool; `fate` says what becomes of a task on one of them."""

    fate: Callable[[Task, str], Done | Failed | None]
    names: dict[str, list[str]] = field(
        default_factory=lambda: {pool.name: names_of(pool) for pool in (CPU, GPU)}
    )
    seconds: float = 10.0
    busy: set[str] = field(default_factory=set)
    most_in_flight: int = 0
    in_flight: int = 0
    asked: dict[str, int] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)

    def slots(self, pool):
        return len(self.names[pool.name])

    def ask(self, pool, n_tasks):
        self.asked[pool.name] = n_tasks

    async def submit(self, pool, task, *, priority, avoided):
        assert priority == Archives.stages.index(task.unit.stage)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            while not (worker := self._free(pool, avoided)):  # noqa: ASYNC110  # time is virtual
                await asyncio.sleep(1)
            self.busy.add(worker)
            outcome = self.fate(task, worker)
            await asyncio.sleep(self.seconds if isinstance(outcome, Done) else 0.1)
            self.busy.discard(worker)
            return outcome or Failed("its workers died")
        finally:
            self.in_flight -= 1

    def _free(self, pool, avoided):
        names = self.names[pool.name]
        names = [name for name in names if name not in avoided] or names
        return next((name for name in names if name not in self.busy), None)

    def give_up(self, pool, worker):
        assert worker in self.names[pool.name]
        self.gone.append(worker)


def names_of(pool: Pool) -> list[str]:
    return [f"node{number}/{pool.name}-{number}" for number in range(pool.workers)]


def well(task: Task, worker: str) -> Done:
    counts = Counts(1, 1)
    receipt = Receipt(stage=task.unit.stage.name, unit=task.unit.name, config="", counts=counts)
    return Done(receipt, 1.0, worker)


def driver_of(work: Archives, *, max_attempts: int = 3, **options) -> Driver:
    return Driver(
        work,  # type: ignore[arg-type]  # its numbers are for people and not looked at here
        work,
        [CPU, GPU],
        max_attempts=max_attempts,
        **options,
    )


def drive(work: Archives, machine: Workers, **options) -> tuple[float, list[str]]:
    """Drive a job to its end; return the seconds it took and the warnings."""
    warnings: list[str] = []

    async def main() -> None:
        await driver_of(work, warn=warnings.append, **options).drive(machine)

    return virtual_time.run(main()), warnings


def test_every_unit_is_done_once_and_the_window_is_bounded():
    work, machine = Archives(100), Workers(well)
    seconds, warnings = drive(work, machine)
    assert sum(work.finished.values()) == 200
    assert set(work.finished.values()) == {1}
    assert machine.most_in_flight <= CPU.workers + GPU.workers + 2
    assert seconds < 1.2 * 100 / GPU.workers * machine.seconds
    assert (work.lost, warnings, machine.gone) == ({}, [], [])


def test_what_comes_when_all_is_done_is_done_too():
    work = Archives(3)
    work.later = 2
    drive(work, Workers(well))
    assert sum(work.finished.values()) == 2 * 5


def test_a_node_that_fails_everything_at_once_costs_no_unit():
    def fate(task, worker):
        return Failed("no such file", worker=worker) if "node0" in worker else well(task, worker)

    work, machine = Archives(60), Workers(fate)
    _, warnings = drive(work, machine)
    assert work.lost == {}
    assert len(work.finished) == 120
    assert sorted(machine.gone) == ["node0/cpu-0", "node0/gpu-0"]
    assert sorted(warnings) == [
        f"worker node0/{name}-0 fails all its tasks while others do not; it gets no more"
        for name in ("cpu", "gpu")
    ]


def test_a_unit_that_fails_everywhere_is_given_up_and_the_rest_goes_on():
    def fate(task, worker):
        is_bad = task.unit.archive == "7"
        return Failed("cursed", worker=worker) if is_bad else well(task, worker)

    work = Archives(20)
    drive(work, Workers(fate))
    assert {unit.archive: found for unit, found in work.lost.items()} == {"7": ("cursed", 3)}
    assert len(work.finished) == 2 * 19
    assert [unit.archive for unit in work.last] == ["7"]


def test_a_fatal_fault_stops_the_job_at_once():
    def fate(task, worker):
        return (
            Failed("disk full", is_fatal=True) if task.unit.archive == "5" else well(task, worker)
        )

    work = Archives(100)
    with pytest.raises(RunError, match="disk full"):
        drive(work, Workers(fate))
    assert len(work.finished) < 20


def test_damage_is_believed_when_it_is_found_twice():
    found = Counter[str]()

    def fate(times):
        def judge(task, worker):
            if task.unit.archive != "5":
                return well(task, worker)
            found["5"] += 1
            if found["5"] > times:
                return well(task, worker)
            return Failed("damaged", is_fatal=True, worker=worker, damaged="run/x.parquet")

        return judge

    work = Archives(20)
    drive(work, Workers(fate(1)))
    assert len(work.finished) == 40
    assert work.moved == []
    found.clear()
    with pytest.raises(RunError, match="damaged; it was set aside: the same command"):
        drive(work := Archives(20), Workers(fate(2)))
    assert work.moved == ["run/x.parquet"]


def test_every_failed_attempt_is_told_and_what_follows_from_it():
    def fate(task, worker):
        return Failed("bad", worker=worker) if task.unit.archive == "1" else well(task, worker)

    drive(work := Archives(3), Workers(fate))
    unit = Unit(EXTRACT, archive="1")
    assert work.failures == [
        (unit, "bad", 1, Then.AGAIN),
        (unit, "bad", 2, Then.AGAIN),
        (unit, "bad", 3, Then.GIVEN_UP),
    ]
    with pytest.raises(RunError):
        drive(work := Archives(1), Workers(lambda _, w: Failed("full", is_fatal=True, worker=w)))
    assert [each[1:] for each in work.failures] == [("full", 1, Then.STOPPED)]


def test_damage_of_a_file_that_nothing_makes_again_stops_the_job():
    def fate(_, worker):
        return Failed("damaged", is_fatal=True, worker=worker, damaged="/data/list.parquet")

    work = Archives(3)
    with pytest.raises(RunError, match=r"^damaged$"):
        drive(work, Workers(fate))
    assert work.moved == []


def test_an_alarm_of_one_node_alone_stops_nothing():
    def fate(task, worker):
        is_deaf = worker == "node0/cpu-0"
        alarm = Failed("no names", is_fatal=True, is_alarm=True, worker=worker)
        return alarm if is_deaf else well(task, worker)

    work, machine = Archives(40), Workers(fate)
    _, warnings = drive(work, machine)
    assert len(work.finished) == 80
    assert machine.gone == ["node0/cpu-0"]
    assert "node0/cpu-0: no names; it is tried elsewhere" in warnings


@pytest.mark.parametrize("n_nodes", [1, 4])
def test_an_alarm_that_is_rung_again_stops_the_job(n_nodes: int):
    def fate(_, worker):
        return Failed("no names", is_fatal=True, is_alarm=True, worker=worker)

    work, machine = Archives(40), Workers(fate)
    machine.names["cpu"] = [f"node{n % n_nodes}/cpu-{n}" for n in range(4)]
    with pytest.raises(RunError, match="no names"):
        drive(work, machine)
    assert work.finished == {}


def test_a_pool_without_workers_is_asked_for_and_waited_for():
    machine = Workers(well)
    names, machine.names["cpu"] = machine.names["cpu"], []

    async def arrive() -> None:
        await asyncio.sleep(3600)
        assert machine.asked["cpu"] >= 5
        machine.names["cpu"] = names

    async def main() -> None:
        arrival = asyncio.create_task(arrive())
        await driver_of(work, warn=print).drive(machine)
        await arrival

    work = Archives(5)
    assert 3600 < virtual_time.run(main()) < 3800
    assert len(work.finished) == 10


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_lets_running_tasks_finish_and_starts_no_others(kind: signal.Signals):
    work, machine = Archives(100), Workers(well, seconds=15.0)
    driver = None

    async def main() -> None:
        nonlocal driver
        driver = driver_of(work, warn=warnings.append)
        with Signals() as signals, driver.heeds(signals):
            asyncio.get_running_loop().call_later(40.0, signal.raise_signal, kind)
            await driver.drive(machine)

    warnings: list[str] = []
    assert virtual_time.run(main()) <= 40 + 2 * 15 + 1, "what runs, and one more of each pool"
    assert driver is not None
    assert driver.stopped_by is kind
    assert len(work.ready) > 80
    assert sum(work.finished.values()) + len(work.ready) + machine.in_flight >= 100
    assert warnings[0].startswith("stopping: ")


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_there_is_a_look_a_second_to_the_end_of_the_last_task(kind: signal.Signals):
    work, machine = Archives(100), Workers(well, seconds=15.0)

    async def main() -> None:
        driver = driver_of(work, warn=lambda _: None)
        with Signals() as signals, driver.heeds(signals):
            asyncio.get_running_loop().call_later(40.0, signal.raise_signal, kind)
            await driver.drive(machine)

    seconds = virtual_time.run(main())
    assert seconds > 45
    assert _longest_gap([*work.looks, seconds]) <= LOOK_S


def test_there_are_looks_while_more_work_is_sought():
    class Slow(Archives):
        """Finds more once somebody has looked a few times meanwhile."""

        def __init__(self) -> None:
            super().__init__(1)
            self.looked = threading.Semaphore(0)

        def look(self):
            super().look()
            if self.is_seeking:
                self.looked.release()

        is_seeking = False

        def more(self):
            self.is_seeking = True
            seen = [self.looked.acquire(timeout=20) for _ in range(3)]
            self.is_seeking = False
            assert all(seen)
            return super().more()

    work = Slow()
    work.later = 2
    seconds, _ = drive(work, Workers(well))
    assert sum(work.finished.values()) == 2 * 3
    assert _longest_gap([*work.looks, seconds]) <= LOOK_S


def test_what_goes_wrong_while_more_work_is_sought_is_told():
    class Damaged(Archives):
        def more(self):
            raise RunError("a row was lost")

    with pytest.raises(RunError, match="a row was lost"):
        drive(Damaged(1), Workers(well))


def _longest_gap(moments: list[float]) -> float:
    return max(after - before for before, after in itertools.pairwise(moments))


def test_the_second_interrupt_ends_it_at_once():
    work, machine = Archives(10), Workers(well, seconds=1000.0)

    async def main() -> None:
        driver = driver_of(work, warn=lambda _: None)
        with Signals() as signals, driver.heeds(signals):
            for at in (5.0, 8.0):
                asyncio.get_running_loop().call_later(at, signal.raise_signal, signal.SIGINT)
            await driver.drive(machine)

    assert virtual_time.run(main()) < 20


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.floats(0, 0.9))
def test_with_any_luck_every_archive_is_done_once_or_given_up(seed: int, n: int, bad: float):
    rng = random.Random(seed)

    def fate(task, worker):
        lot = rng.random()
        if lot < bad / 2:
            return None
        return Failed("bad luck", worker=worker) if lot < bad else well(task, worker)

    work = Archives(n)
    drive(work, Workers(fate))
    extracted = {unit for unit in work.finished if unit.stage == EXTRACT}
    lost = {unit for unit in work.lost if unit.stage == EXTRACT}
    assert len(extracted) + len(lost) == n
    assert not extracted & lost
    embedded = [unit for unit in itertools.chain(work.finished, work.lost) if unit.stage == EMBED]
    assert len(embedded) == len(extracted)
    assert all(attempts == 3 for _, attempts in work.lost.values())
    assert max(work.finished.values(), default=1) == 1
