"""The figures of a job that is no run, as its driver knows them: its stages."""

from datetime import UTC, datetime

from cah_dask.run.folder.journal import Commit
from cah_dask.run.stagewise import Stepwise
from cah_dask.run.watch.figures import JobFigures
from cah_dask.run.watch.history import History
from cah_dask.run.watch.view import Tasks, by_name, stage_figures


class JobWatch:
    """Learns of commits; the rest its units know."""

    def __init__(self, units: Stepwise) -> None:
        self._units = units
        self._history = History(units.stages)

    def add(self, commit: Commit) -> None:
        """Learn of a commit."""
        self._history.add(commit)

    def figures(self) -> JobFigures:
        """Return the figures of this moment."""
        units, now = self._units, datetime.now(UTC)
        tasks = Tasks(
            known=by_name(units.known), done=by_name(units.done), counts=by_name(units.counts)
        )
        stages = [stage_figures(stage, tasks, self._history, now) for stage in units.stages]
        return JobFigures(at=now, stages=stages)
