"""Carrying out a job that ends with a new release (`derive`)."""

import signal
from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec

from cah_dask.run.derive import PACK, Derivation
from cah_dask.run.folder.existing import WithRelease
from cah_dask.run.plan import Unit
from cah_dask.run.pools import pools
from cah_dask.run.session import Session, StagewiseWork, View
from cah_dask.run.settings.config import PoolsOptions
from cah_dask.run.signals import Signals
from cah_dask.run.slurm.options import SlurmOptions
from cah_dask.run.stages import Stage
from cah_dask.run.stagewise import Size, Stagewise
from cah_dask.run.task import Task
from cah_dask.schema import Counts
from cah_dask.storage import disk_errors

TaskOf: TypeAlias = Callable[[Unit, bool], Task]
"""Given a unit, and whether this is the last attempt at it."""


class DerivingWork(StagewiseWork):
    """A job that ends with a release, as its driver sees it (`driver.Work`)."""

    def __init__(
        self, derivation: Derivation, units: Stagewise, view: View, task_of: TaskOf
    ) -> None:
        super().__init__(derivation.folder, units, view)
        self._derivation = derivation
        self._task_of = task_of

    def task(self, unit: Unit, *, is_last_attempt: bool) -> Task:
        """Return what a worker is told about a unit."""
        if unit.stage == PACK:
            return self._derivation.task(unit, is_last_attempt=is_last_attempt)
        return self._task_of(unit, is_last_attempt)


class Ended(msgspec.Struct, frozen=True):
    """How far a job came."""

    counts: dict[str, Counts]
    """What became of the rows of each stage, by its name."""
    given_up: int
    """Units that could not be done."""
    stopped_by: signal.Signals | None

    @property
    def is_complete(self) -> bool:
        """Whether the release is there."""
        return not self.given_up and self.stopped_by is None


def carry_out(  # a job, and where it runs
    derivation: Derivation,
    sizes: Mapping[Stage, Size],
    task_of: TaskOf,
    options: tuple[PoolsOptions, SlurmOptions],
    view: View,
    signals: Signals,
) -> Ended:
    """Do all of a job that is left to do, and publish its release.

    Parameters
    ----------
    sizes
        Of all stages, `PACK` last: as `Stagewise` takes them.
    task_of
        Returns what a worker is told of a unit of another stage.
    options
        Of the pools, and of Slurm.

    Raises
    ------
    RunError
        When a person must look: the source is damaged, another release is there.
    """
    pool_options, slurm = options
    folder = derivation.folder
    with disk_errors(folder.path):
        units = Stagewise(sizes, WithRelease(folder, derivation.unfinished))
        session = Session(folder, pools(pool_options, slurm.launch, units.stages), slurm)
        work = DerivingWork(derivation, units, view, task_of)
        stopped_by = session.carry_out(units, work, view, signals)
        if stopped_by is None and not units.failed:
            derivation.publish()
    counts = {stage.name: counts for stage, counts in units.counts.items()}
    return Ended(counts, len(units.failed), stopped_by)
