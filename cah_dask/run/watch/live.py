"""The figures of a run as its driver knows them."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec

from cah_dask.release.pool_time import Midst, PoolLook
from cah_dask.run.folder.job_folder import JOURNAL_FILE
from cah_dask.run.folder.journal import Commit, LastLines
from cah_dask.run.folder.pool_times import PoolTimesFile
from cah_dask.run.plan import Plan
from cah_dask.run.pools import Pool
from cah_dask.run.stages import EMBED, PACK, Stage
from cah_dask.run.watch.busy import BusyTime
from cah_dask.run.watch.figures import (
    AT_WORK,
    PAUSED,
    Figures,
    ListsFigures,
    PairFigures,
    PoolFigures,
)
from cah_dask.run.watch.history import History
from cah_dask.run.watch.lists import lists_at_work
from cah_dask.run.watch.pairs import newest_pairs
from cah_dask.run.watch.view import Beside, Facts, Tasks, by_name, figures

FRESH_S = 1.0
"""Seconds for which figures are not made anew, however many look at them."""

LOOK_S = 1.0
"""Seconds between two looks how busy workers are."""

FILES_EVERY_S = 10.0
"""Seconds between two looks at lists at work and, while somebody sees them, at new pairs; longer
where reading is slow."""

_FILES_SHARE = 0.02
"""Share of a core that may go into reading them."""


class Crew(Protocol):
    """Who does the work, as the driver knows them."""

    @property
    def running(self) -> Counter[Stage]:
        """Tasks that workers have, by stage."""

    @property
    def workers_given_up(self) -> Sequence[str]:
        """Workers that get no more tasks."""


class Workers(Protocol):
    """The workers of all pools."""

    def pool_figures(self, pool: Pool) -> PoolFigures:
        """Return how many there are and ought to be of one pool; how busy they are is not said."""


@dataclass(frozen=True, slots=True)
class _Team:
    crew: Crew
    workers: Workers
    pools: Sequence[Pool]

    def seen(self) -> list[tuple[Pool, PoolFigures]]:
        """Return how the pools are now."""
        return [(pool, self.workers.pool_figures(pool)) for pool in self.pools]

    def busy(self, seen: Sequence[tuple[Pool, PoolFigures]]) -> dict[str, float]:
        """Return the share of the workers of each pool that have a task."""
        running, found = self.crew.running, {}
        for pool, each in seen:
            n_tasks = sum(running[stage] for stage in pool.stages)
            if each.workers:
                found[pool.name] = min(1.0, n_tasks / each.workers)
        return found


class Watch:
    """Learns of commits and looks at the pools about once a second; what it holds is bounded."""

    def __init__(
        self, known: Facts, plan: Plan, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._facts = known
        self._plan = plan
        self._clock = clock
        self._lock = threading.Lock()
        self._history = History(known.stages)
        self._team: _Team | None = None
        self._times: PoolTimesFile | None = None
        self._busy = BusyTime()
        self._looked = clock()
        self._made: tuple[float, Figures] | None = None
        self._pairs: list[PairFigures] = []
        self._at_work = ListsFigures()
        self._lists_due = self._pairs_due = 0.0
        self._lists_read: list[str] = []
        self._reader: threading.Thread | None = None
        self._ended = ""

    def remember(self) -> None:
        """Read what earlier drivers of the run wrote down, in a thread of its own.

        To be called before the first commit of this one.
        """
        journal = self._facts.folder.path / JOURNAL_FILE
        written = (journal, journal.stat().st_size)
        threading.Thread(target=self._remember, args=written, daemon=True).start()

    def _remember(self, journal: Path, n_bytes: int) -> None:
        for commit in LastLines(journal, n_bytes).commits():
            if commit.stage != PACK.name:  # a release may be made anew
                self.add(commit)

    def add(self, commit: Commit) -> None:
        """Learn of a commit."""
        if self._facts.is_about(commit.stage, commit.unit):
            with self._lock:
                self._history.add(commit)

    def begin(
        self, crew: Crew, workers: Workers, pools: Sequence[Pool], times: Path | None = None
    ) -> None:
        """Learn who does the work; add for how long it is held to the file `times`, if any."""
        self._team = _Team(crew, workers, pools)
        if times is not None:
            self._times = PoolTimesFile(times, datetime.now(UTC), self._clock)
        self._look(self._team)

    def last_look(self) -> None:
        """Look at the workers for the last time, before they are let go, and make figures anew."""
        self._made = None
        if self._team is not None:
            self._look(self._team)
        if self._times is not None:
            self._times.write()

    def look(self) -> None:
        """Look at the workers; called at least once a second."""
        if self._team is not None and self._clock() - self._looked >= LOOK_S:
            self._look(self._team)

    def _look(self, team: "_Team") -> None:
        self._looked = self._clock()
        seen = team.seen()
        busy = {} if self._is_paused() else team.busy(seen)
        self._busy.look(self._looked, busy)
        if self._times is not None:
            self._times.look({pool.name: self._pool_look(pool, each, busy) for pool, each in seen})

    def _pool_look(self, pool: Pool, seen: PoolFigures, busy: Mapping[str, float]) -> PoolLook:
        midst = None
        if pool.name in busy and self._is_embedding():
            ready = {stage.name: self._plan.waiting([stage]) for stage in pool.stages}
            midst = Midst(busy[pool.name], ready)
        return PoolLook(
            jobs=seen.running if seen.is_slurm else 0,
            pending=seen.pending,
            held=seen.running * (pool.processes if seen.is_slurm else 1),
            gpus=pool.gpus_in_use(seen.running),
            connected=seen.workers,
            midst=midst,
        )

    def _is_paused(self) -> bool:
        return self._facts.folder.pause_file.exists()

    def _is_embedding(self) -> bool:
        """Tell whether it is after the first list that could be embedded, and before the last."""
        plan, team = self._plan, self._team
        if EMBED not in plan.stages or EMBED not in plan.left():
            return False
        is_running = team is not None and team.crew.running[EMBED] > 0
        return plan.done[EMBED] > 0 or is_running or plan.waiting([EMBED]) > 0

    def end(self, state: str) -> None:
        """Learn that all workers are gone, and in which state the run is now."""
        self._ended, self._team, self._made = state, None, None

    def figures(self, *, with_pairs: bool = True) -> Figures:
        """Return the figures, at most `FRESH_S` old.

        Parameters
        ----------
        with_pairs
            Whether somebody looks who sees pairs: else no new ones are read.
        """
        now = self._clock()
        if self._made is None or now - self._made[0] >= FRESH_S:
            self._made = now, self._make()
        if not self._ended:
            self._look_at_files(now, with_pairs=with_pairs)
        return self._made[1]

    def _make(self) -> Figures:
        plan, team = self._plan, self._team
        tasks = Tasks(
            known=by_name(plan.known),
            done=by_name(plan.done),
            counts=by_name(plan.counts),
            running=by_name(team.crew.running) if team else {},
            failed=Counter(unit.stage.name for unit in plan.failed),
            blocked=by_name(plan.blocked()),
            can_start={stage.name: plan.waiting([stage]) for stage in plan.stages},
        )
        beside = Beside(
            state=self._ended or (PAUSED if self._is_paused() else AT_WORK),
            staged=plan.staged,
            at_work=ListsFigures() if self._ended else self._at_work,
            pools=[self._pool(team, pool) for pool in team.pools] if team else (),
            pairs=self._pairs,
            workers_given_up=team.crew.workers_given_up if team else (),
        )
        with self._lock:
            return figures(self._facts, tasks, self._history, beside, datetime.now(UTC))

    def _pool(self, team: "_Team", pool: Pool) -> PoolFigures:
        found = team.workers.pool_figures(pool)
        return msgspec.structs.replace(found, busy=self._busy.share(pool.name, self._clock()))

    def _look_at_files(self, now: float, *, with_pairs: bool) -> None:
        """Have a thread read lists at work and new pairs, if it is time and the last is through."""
        with_pairs = with_pairs and now >= self._pairs_due
        is_idle = self._reader is None or not self._reader.is_alive()
        if not is_idle or not (with_pairs or now >= self._lists_due):
            return
        self._lists_due = now + FILES_EVERY_S
        lists: list[str] = []
        if with_pairs:
            self._pairs_due = now + FILES_EVERY_S
            with self._lock:
                lists = list(self._history.embedded)
        self._reader = threading.Thread(target=self._read_files, args=(lists,), daemon=True)
        self._reader.start()

    def _read_files(self, lists: list[str]) -> None:
        began, used = self._clock(), time.thread_time()
        self._at_work = lists_at_work(self._facts.folder)
        if lists and lists != self._lists_read:
            self._lists_read = lists
            self._pairs = newest_pairs(self._facts, lists) or self._pairs
        due = began + (time.thread_time() - used) / _FILES_SHARE
        self._lists_due = max(self._lists_due, due)
        self._pairs_due = max(self._pairs_due, due)
