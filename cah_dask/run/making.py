"""Carrying out a job of stages one after the other, which may end with a new release (`derive`)."""

import signal
from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec

from cah_dask.run.derive import PACK, Derivation
from cah_dask.run.folder.existing import WithRelease
from cah_dask.run.folder.job_folder import Existing, JobFolder
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


class JobWork(StagewiseWork):
    """A job as its driver sees it (`driver.Work`)."""

    def __init__(
        self,
        folder: JobFolder,
        units: Stagewise,
        view: View,
        task_of: TaskOf,
        derivation: Derivation | None = None,
    ) -> None:
        super().__init__(folder, units, view)
        self._derivation = derivation
        self._task_of = task_of

    def task(self, unit: Unit, *, is_last_attempt: bool) -> Task:
        """Return what a worker is told about a unit."""
        if unit.stage == PACK and self._derivation is not None:
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


def carry_out(
    derivation: Derivation,
    sizes: Mapping[Stage, Size],
    task_of: TaskOf,
    options: tuple[PoolsOptions, SlurmOptions],
    view: View,
    signals: Signals,
) -> Ended:
    """Do all of a job that is left to do, and publish its release; see `carry_out_job`."""
    return carry_out_job(
        derivation.folder, sizes, task_of, (options, view, signals), derivation=derivation
    )


Place: TypeAlias = tuple[tuple[PoolsOptions, SlurmOptions], View, Signals]
"""Where a job runs: the options of pools and of Slurm, who looks on, and what may stop it."""


def carry_out_job(
    folder: JobFolder,
    sizes: Mapping[Stage, Size],
    task_of: TaskOf,
    place: Place,
    *,
    derivation: Derivation | None = None,
) -> Ended:
    """Do all of a job that is left to do; its folder is held by this process.

    Parameters
    ----------
    sizes
        Of all stages, as `Stagewise` takes them; `PACK` last if there is a derivation.
    task_of
        Returns what a worker is told of a unit of another stage.
    derivation
        Of the release that it ends with; it is published.

    Raises
    ------
    RunError
        When a person must look: the source is damaged, another release is there.
    """
    (pool_options, slurm), view, signals = place
    with disk_errors(folder.path):
        committed = WithRelease(folder, derivation.unfinished) if derivation else Existing(folder)
        units = Stagewise(sizes, committed)
        session = Session(folder, pools(pool_options, slurm.launch, units.stages), slurm)
        work = JobWork(folder, units, view, task_of, derivation)
        stopped_by = session.carry_out(units, work, view, signals)
        if derivation and stopped_by is None and not units.failed:
            derivation.publish()
    counts = {stage.name: counts for stage, counts in units.counts.items()}
    return Ended(counts, len(units.failed), stopped_by)
