"""Runs that never were: a real plan, a clock of its own, commits as a driver writes them."""

import heapq
import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from cah_dask.counts import Counts
from cah_dask.pairs.options import EmbedOptions
from cah_dask.run.folder.journal import Commit
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.plan import Plan
from cah_dask.run.settings.config import Config
from cah_dask.run.stages import DEDUP, DOWNLOAD, EMBED, EXTRACT, SELECT, Stage
from cah_dask.run.unit import Unit
from cah_dask.run.watch.figures import AT_WORK, Figures
from cah_dask.run.watch.history import History
from cah_dask.run.watch.view import Beside, Tasks, facts, figures
from cah_dask.schema import SPLITS
from cah_dask.storage import Receipt, SideFile
from tests.run.watch.loads import NOW

STAGES = (EXTRACT, DEDUP, DOWNLOAD, EMBED, SELECT)
SERVED = {"gpu": (EMBED,), "io": (DOWNLOAD,), "cpu": (SELECT, DEDUP, EXTRACT)}


@dataclass
class Shape:
    """How large a run is and how long its tasks take."""

    archives: int = 120
    archives_per_wave: int = 6
    buckets: int = 32
    lists: int = 2
    """Of each bucket of a wave, on average."""
    seconds: Mapping[Stage, float] = field(
        default_factory=lambda: {EXTRACT: 90, DEDUP: 20, DOWNLOAD: 300, EMBED: 60, SELECT: 3}
    )
    slots: Mapping[str, int] = field(default_factory=lambda: {"cpu": 4, "io": 12, "gpu": 3})
    spread: float = 0.3
    """Of how long tasks take, as the sigma of its logarithm."""
    later: Mapping[str, float] = field(default_factory=dict)
    """Second from which on a pool has its slots; before it has one."""
    stopped_at: float = float("inf")
    """Second in which its driver is killed, and all tasks that run with it."""
    standstill: float = 0.0
    """Seconds until the next driver."""


@dataclass
class Simulated:
    """What is known of a run after each commit."""

    now: datetime
    commit: Commit
    plan: Plan
    history: History
    folder: RunFolder
    config: Config

    def figures(self, now: datetime | None = None) -> Figures:
        """Return its figures, as those of the driver."""
        tasks = Tasks(
            known={stage.name: n for stage, n in self.plan.known.items()},
            done={stage.name: n for stage, n in self.plan.done.items()},
            counts={stage.name: counts for stage, counts in self.plan.counts.items()},
        )
        known = msgspec.structs.replace(facts(self.config, self.folder), stages=STAGES)
        beside = Beside(state=AT_WORK, staged=self.plan.staged)
        return figures(known, tasks, self.history, beside, now or self.now)


def simulate(shape: Shape, seed: int = 5) -> Iterator[Simulated]:
    """Carry out a plan; yield after each commit what is known then, always the same object."""
    chance = random.Random(seed)
    config = Config(
        run_dir="run", inputs=("x",), archives_per_wave=shape.archives_per_wave,
        embed=EmbedOptions(model="tiny"),
    )  # fmt: skip
    plan = Plan(
        [f"{number}.warc.wat.gz" for number in range(shape.archives)],
        archives_per_wave=shape.archives_per_wave, buckets=shape.buckets,
        committed=lambda _: None, staged_limit=config.staged_gb * 1e9, stages=STAGES,
    )  # fmt: skip
    history, folder = History(STAGES), RunFolder(Path("run"))
    numbers, now = itertools.count(), 0.0
    busy = dict.fromkeys(shape.slots, 0)
    running: list[tuple[float, int, str, float, Unit]] = []

    def hand_out() -> None:
        for pool, slots in shape.slots.items():
            room = slots if now >= shape.later.get(pool, 0.0) else 1
            while busy[pool] < room and (unit := plan.take(SERVED[pool])):
                busy[pool] += 1
                took = shape.seconds[unit.stage] * chance.lognormvariate(0, shape.spread)
                heapq.heappush(running, (now + took, next(numbers), pool, took, unit))

    hand_out()
    is_stopped = False
    while running:
        if running[0][0] > shape.stopped_at and not is_stopped:
            is_stopped, now = True, shape.stopped_at + shape.standstill
            running = [(now + took, n, pool, took, unit) for _, n, pool, took, unit in running]
            heapq.heapify(running)
        now, _, pool, took, unit = heapq.heappop(running)
        busy[pool] -= 1
        receipt = _receipt(unit, shape, chance)
        at = NOW + timedelta(seconds=now)
        commit = Commit(at, unit.stage.name, unit.name, f"n/{pool}-1", took, receipt)
        plan.complete(unit, receipt)
        history.add(commit)
        yield Simulated(at, commit, plan, history, folder, config)
        hand_out()


def _receipt(unit: Unit, shape: Shape, chance: random.Random) -> Receipt:
    """Return what a task of that shape says of its unit."""
    notes: dict[str, int] = {}
    if unit.stage == DEDUP:
        notes = {"lists": chance.randint(max(1, shape.lists - 1), shape.lists + 1), "late_lists": 0}
    if unit.stage == EMBED:
        notes = {f"similarity//{split}/{n}": 83 for split in SPLITS for n in range(40, 80)}
    counts = Counts(seen=10_000, kept=9_000, rejected={"http_404": 1_000}, notes=notes)
    timings = {"model": 9_000, "input": 500, "turn": 100, "worker": 10_000}
    side = (SideFile("x.h5", 240_000_000, ""),) if unit.stage == DOWNLOAD else ()
    return Receipt(
        stage=unit.stage.name,
        unit=unit.name,
        config="",
        counts=counts,
        side=side,
        timings=timings if unit.stage == EMBED else {},
        hosts={f"h{chance.randrange(5000)}.test": {"timeout": 3}} if side else {},
    )
