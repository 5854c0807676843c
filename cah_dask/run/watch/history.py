"""What the commits of a run tell over time: rates, outcomes, hosts, models; bounded state."""

from bisect import insort
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import NamedTuple

from cah_dask.images.manners.pause import PAUSED
from cah_dask.images.outcomes import TROUBLE
from cah_dask.pairs.timings import INPUT, MODEL, TURN, WORKER
from cah_dask.run.folder.journal import Commit
from cah_dask.run.stages import DOWNLOAD, EMBED, Stage
from cah_dask.run.watch.figures import HostFigures, ModelFigures, Moment
from cah_dask.run.watch.series import Series
from cah_dask.run.watch.work_time import WorkTime
from cah_dask.run.watch.worst import WorstHosts

WINDOWS_S = (60.0, 600.0, 3600.0)
"""Seconds over which a rate is taken: the first of them in which enough tasks ended."""

ENOUGH_TASKS = 8
HOSTS_SHOWN = 12
LISTS_OF_MODEL = 32
"""Embedded lists, the last ones, over which the shares of the models are taken."""

LISTS_OF_PAIRS = 6
"""Embedded lists, the last ones, whose pairs are shown."""

RECENT_S = 600.0
_RECENT_COMMITS = 512


class _Recent(NamedTuple):
    at: float
    seconds: float
    unit: str
    rows: int
    outcomes: dict[str, int]
    timings: dict[str, int]
    hosts: dict[str, dict[str, int]]


def _outcomes(commit: Commit) -> dict[str, int]:
    counts = commit.receipt.counts
    return {"ok": counts.kept, **counts.rejected}


def _work_s(commit: Commit) -> float:
    """Return how long a task took, without pauses."""
    return max(0.0, commit.seconds - commit.receipt.timings.get(PAUSED, 0) / 1000)


def _trouble(outcomes: Mapping[str, int]) -> int:
    return sum(number for status, number in outcomes.items() if status in TROUBLE)


class _StageHistory:
    """The commits of one stage."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.recent: list[_Recent] = []
        """The last ones by their time, whenever they are told."""
        self.tasks = Series()

    def add(self, at: float, commit: Commit) -> None:
        receipt, seconds = commit.receipt, _work_s(commit)
        self.began = min(self.began or at, at - seconds)
        outcomes, n_rows = _outcomes(commit), receipt.counts.seen
        made = _Recent(at, seconds, commit.unit, n_rows, outcomes, receipt.timings, receipt.hosts)
        insort(self.recent, made, key=attrgetter("at"))
        del self.recent[:-_RECENT_COMMITS]
        self.tasks.add(at, {"tasks": 1})

    def rows_per_s(self, now: float) -> float:
        """Return rows per second of late."""
        found, seconds = self._lately(now, lambda window: now - window, lambda since: now - since)
        return sum(each.rows for each in found) / seconds

    def tasks_per_s(self, now: float, work: WorkTime) -> float:
        """Return tasks per second of late, in time at work."""
        found, seconds = self._lately(
            now, lambda window: work.back(window, now), lambda since: work.between(since, now)
        )
        return len(found) / seconds

    def _lately(
        self, now: float, back: Callable[[float], float], length: Callable[[float], float]
    ) -> tuple[list[_Recent], float]:
        """Return the commits of the first window that has enough of them, and its seconds."""
        since = now
        for window in WINDOWS_S:
            since = max(back(window), min(self.began or now, now - 1.0))
            found = [each for each in self.recent if each.at >= since]
            if len(found) >= ENOUGH_TASKS:
                break
        if len(found) == _RECENT_COMMITS:
            since = found[0].at
        return found, max(1.0, length(since))

    def steady_rates(self, now: float, work: WorkTime) -> tuple[float, float]:
        """Return tasks per second over the second half of its time at work, and over all of it.

        Both are the same while fewer than `ENOUGH_TASKS` ended in the second half.
        """
        if self.began is None:
            return 0.0, 0.0

        def worked(begin: float, end: float) -> float:
            return work.between(begin, min(end, now))

        seconds = max(1.0, worked(self.began, now))
        all_tasks = self.tasks.since(float("-inf")).get("tasks", 0.0)
        half = self.tasks.since(work.back(seconds / 2, now), worked).get("tasks", 0.0)
        mean = all_tasks / seconds
        return (mean if half < ENOUGH_TASKS else 2 * half / seconds), mean


class History:
    """Learns of commits, in any order; what it holds does not grow with their number."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = {stage.name: _StageHistory() for stage in stages}
        self._outcomes = Series()
        self._hosts = WorstHosts()
        self._work = WorkTime()
        self.started: datetime | None = None
        self.last_commit: datetime | None = None

    def add(self, commit: Commit) -> None:
        """Learn of a commit."""
        stage = self._stages.get(commit.stage)
        if stage is None:
            return
        at = commit.at.timestamp()
        stage.add(at, commit)
        self._work.add(at - _work_s(commit), at)  # one that was paused, as if it began later
        self.started = min(self.started or commit.at, commit.at)
        self.last_commit = max(self.last_commit or commit.at, commit.at)
        if commit.stage == DOWNLOAD.name:
            self._outcomes.add(at, _outcomes(commit))
            for host, outcomes in commit.receipt.hosts.items():
                self._hosts.add(host, _trouble(outcomes), outcomes)

    def rows_per_s(self, stage: str, now: datetime) -> float:
        """Return rows per second of a stage of late; see `WINDOWS_S`."""
        return self._stages[stage].rows_per_s(now.timestamp())

    def tasks_per_s(self, stage: str, now: datetime) -> float:
        """Return tasks per second of a stage of late; time between two drivers does not count."""
        return self._stages[stage].tasks_per_s(now.timestamp(), self._work)

    def steady_rates(self, stage: str, now: datetime) -> tuple[float, float]:
        """Return its tasks per second over the second half of its time, and over all of it.

        The time between two drivers, in which no task ran, is not counted.
        """
        return self._stages[stage].steady_rates(now.timestamp(), self._work)

    def ended(self, stage: str) -> datetime | None:
        """Return when the last task of a stage ended."""
        recent = self._stages[stage].recent
        return datetime.fromtimestamp(recent[-1].at, UTC) if recent else None

    def task_seconds(self, stage: str) -> list[float]:
        """Return how long the last tasks of a stage took."""
        return [each.seconds for each in self._stages[stage].recent]

    def moments(self) -> list[Moment]:
        """Return the outcomes of urls over time, the earliest first."""
        return [
            Moment(
                at=datetime.fromtimestamp(begin, UTC),
                seconds=self._outcomes.seconds,
                outcomes=dict(sorted(counts.items())),
            )
            for begin, counts in self._outcomes
        ]

    def recent_outcomes(self, now: datetime) -> dict[str, int]:
        """Return the outcomes of urls whose lists were committed in the last `RECENT_S`."""
        total: Counter[str] = Counter()
        for each in self._recent_lists(now):
            total.update(each.outcomes)
        return dict(total.most_common())

    def recent_hosts(self, now: datetime) -> list[HostFigures]:
        """Return the hosts that had the most trouble in these lists, the worst first."""
        found: dict[str, Counter[str]] = {}
        for each in self._recent_lists(now):
            for host, outcomes in each.hosts.items():
                found.setdefault(host, Counter()).update(outcomes)
        made = [
            HostFigures(host=host, trouble=_trouble(total), outcomes=dict(total.most_common()))
            for host, total in found.items()
        ]
        return sorted(made, key=lambda each: (-each.trouble, each.host))[:HOSTS_SHOWN]

    def _recent_lists(self, now: datetime) -> list[_Recent]:
        since = now.timestamp() - RECENT_S
        return [each for each in self._stages[DOWNLOAD.name].recent if each.at >= since]

    @property
    def embedded(self) -> list[str]:
        """Names of the lists that were embedded last."""
        return [each.unit for each in self._stages[EMBED.name].recent[-LISTS_OF_PAIRS:]]

    def hosts(self) -> list[HostFigures]:
        """Return the hosts with the most trouble, the worst first."""
        return self._hosts.top(HOSTS_SHOWN)

    def model(self) -> ModelFigures:
        """Return what the models did over the last lists."""
        total: Counter[str] = Counter()
        for each in self._stages[EMBED.name].recent[-LISTS_OF_MODEL:]:
            total.update(each.timings)
        seconds = max(1, total[WORKER])
        return ModelFigures(
            at_work=total[MODEL] / seconds,
            waiting_for_pictures=total[INPUT] / seconds,
            waiting_for_turn=total[TURN] / seconds,
        )
