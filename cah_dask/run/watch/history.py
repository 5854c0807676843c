"""What the commits of a run tell over time: rates, outcomes, hosts, models; bounded state."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

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

RECENT_S = 600.0
_RECENT_COMMITS = 512


class _Recent(NamedTuple):
    at: float
    rows: int
    outcomes: dict[str, int]
    timings: dict[str, int]


class _StageHistory:
    """The commits of one stage."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.recent: deque[_Recent] = deque(maxlen=_RECENT_COMMITS)
        self.tasks = Series()

    def add(self, at: float, commit: Commit) -> None:
        counts = commit.receipt.counts
        self.began = min(self.began or at, at - commit.seconds)
        outcomes = {"ok": counts.kept, **counts.rejected}
        self.recent.append(_Recent(at, counts.seen, outcomes, commit.receipt.timings))
        self.tasks.add(at, {"tasks": 1})

    def rate(self, now: float) -> tuple[float, float]:
        """Return rows and tasks per second of late."""
        since = now
        for window in WINDOWS_S:
            since = max(now - window, min(self.began or now, now - 1.0))
            found = [each for each in self.recent if each.at >= since]
            if len(found) >= ENOUGH_TASKS:
                break
        if len(found) == _RECENT_COMMITS:
            since = found[0].at
        seconds = max(1.0, now - since)
        return sum(each.rows for each in found) / seconds, len(found) / seconds

    def steady_rates(self, now: float, work: WorkTime) -> tuple[float, float]:
        """Return tasks per second over the second half of its time at work, and over all of it."""
        if self.began is None:
            return 0.0, 0.0

        def worked(begin: float, end: float) -> float:
            return work.between(begin, min(end, now))

        seconds = max(1.0, worked(self.began, now))
        all_tasks = self.tasks.since(float("-inf")).get("tasks", 0.0)
        half = self.tasks.since(work.back(seconds / 2, now), worked).get("tasks", 0.0)
        return 2 * half / seconds, all_tasks / seconds


class History:
    """Learns of commits, in any order; what it holds does not grow with their number."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = {stage.name: _StageHistory() for stage in stages}
        self._outcomes = Series()
        self._hosts = WorstHosts()
        self._work = WorkTime()
        self.started: datetime | None = None
        self.last_commit: datetime | None = None
        self.embedded: deque[str] = deque(maxlen=6)
        """Names of the lists that were embedded last."""

    def add(self, commit: Commit) -> None:
        """Learn of a commit."""
        stage = self._stages.get(commit.stage)
        if stage is None:
            return
        at = commit.at.timestamp()
        stage.add(at, commit)
        self._work.add(at - commit.seconds, at)
        self.started = min(self.started or commit.at, commit.at)
        self.last_commit = max(self.last_commit or commit.at, commit.at)
        if commit.stage == DOWNLOAD.name:
            self._outcomes.add(at, stage.recent[-1].outcomes)
            for host, outcomes in commit.receipt.hosts.items():
                trouble = sum(number for status, number in outcomes.items() if status in TROUBLE)
                self._hosts.add(host, trouble, outcomes)
        if commit.stage == EMBED.name:
            self.embedded.append(commit.unit)

    def add_all(self, commits: Iterable[Commit]) -> None:
        """Learn of many commits."""
        for commit in commits:
            self.add(commit)

    def rate(self, stage: str, now: datetime) -> tuple[float, float]:
        """Return rows and tasks per second of a stage of late; see `WINDOWS_S`."""
        return self._stages[stage].rate(now.timestamp())

    def steady_rates(self, stage: str, now: datetime) -> tuple[float, float]:
        """Return its tasks per second over the second half of its time, and over all of it.

        The time between two drivers, in which no task ran, is not counted.
        """
        return self._stages[stage].steady_rates(now.timestamp(), self._work)

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
        since = now.timestamp() - RECENT_S
        for each in self._stages[DOWNLOAD.name].recent:
            if each.at >= since:
                total.update(each.outcomes)
        return dict(total.most_common())

    def hosts(self) -> list[HostFigures]:
        """Return the hosts with the most trouble, the worst first."""
        return self._hosts.top(HOSTS_SHOWN)

    def model(self) -> ModelFigures:
        """Return what the models did over the last lists."""
        total: Counter[str] = Counter()
        for each in list(self._stages[EMBED.name].recent)[-LISTS_OF_MODEL:]:
            total.update(each.timings)
        seconds = max(1, total[WORKER])
        return ModelFigures(
            at_work=total[MODEL] / seconds,
            waiting_for_pictures=total[INPUT] / seconds,
            waiting_for_turn=total[TURN] / seconds,
        )
