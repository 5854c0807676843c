"""Jobs of steps one after the other over numbered units, which may end with a new release."""

import hashlib
import signal
from abc import ABC, abstractmethod

import msgspec

from cah_dask.counts import Counts
from cah_dask.run.derive import PACK, Derivation
from cah_dask.run.folder.existing import WithRelease
from cah_dask.run.folder.job_folder import Existing, JobFolder
from cah_dask.run.pools import pools
from cah_dask.run.session import FolderWork, Session, View
from cah_dask.run.settings.config import PoolsOptions
from cah_dask.run.signals import Signals
from cah_dask.run.slurm.options import SlurmOptions
from cah_dask.run.stagewise import Committed, Stepwise
from cah_dask.run.task import Done, Task
from cah_dask.run.unit import Unit
from cah_dask.run.watch.job import JobWatch
from cah_dask.storage import disk_errors


class Job(ABC):
    """What is to be done, in which steps, and what a worker is told about it."""

    @property
    @abstractmethod
    def folder(self) -> JobFolder:
        """Where it keeps what is done."""

    @property
    def derivation(self) -> Derivation | None:
        """Of the release that it ends with, by the stage `PACK`; None if it makes none."""
        return None

    @property
    def max_attempts(self) -> int:
        """Attempts at a unit before it is given up."""
        return 3

    @abstractmethod
    def plan(self, committed: Committed) -> Stepwise:
        """Return its units."""

    def publish(self) -> None:
        """Give what is made its name, once all is done."""
        if self.derivation is not None:
            self.derivation.publish()

    @abstractmethod
    def task_of(self, unit: Unit, *, is_last_attempt: bool) -> Task:
        """Return what a worker is told about a unit of any stage but `PACK`."""

    def remark(self, unit: Unit, done: Done) -> str:  # noqa: ARG002  # for jobs that have any
        """Return what a person may want to know now that a unit is done, in a line, or nothing."""
        return ""

    def existing(self) -> Existing:
        """Return what tells which units are done; its folder is held."""
        if self.derivation is None:
            return Existing(self.folder)
        return WithRelease(self.folder, self.derivation.unfinished)


def name_of(*what: object) -> str:
    """Return a name that a job over another source or with other options does not have."""
    return hashlib.sha256(msgspec.json.encode(what)).hexdigest()[:16]


class JobWork(FolderWork):
    """A job as its driver sees it (`driver.Work`); its folder is held."""

    def __init__(self, job: Job, view: View) -> None:
        super().__init__(job.folder)
        self.units = job.plan(job.existing())
        self._watch = JobWatch(self.units)
        self._job = job
        self._view = view

    def task(self, unit: Unit, *, is_last_attempt: bool) -> Task:
        """Return what a worker is told about a unit."""
        if unit.stage == PACK and self._job.derivation is not None:
            return self._job.derivation.task(unit, is_last_attempt=is_last_attempt)
        return self._job.task_of(unit, is_last_attempt=is_last_attempt)

    def done(self, unit: Unit, done: Done) -> None:
        """Write down that a unit is done."""
        commit = self.folder.commit(unit, done)
        self.units.complete(unit, done.receipt)
        self._watch.add(commit)
        if line := self._job.remark(unit, done):
            self._view.say(line)

    def given_up(self, unit: Unit, reason: str, attempts: int) -> None:
        """Go on without a unit; the steps after it are not begun."""
        self.units.fail(unit, reason)
        self._view.warn(f"{unit.stage} {unit.name} is given up after {attempts} attempts: {reason}")

    def look(self) -> None:
        """Let a person see how far it is."""
        self._view.look(self._watch.figures)

    def more(self) -> bool:
        """Begin a step whose units were not known before."""
        return self.units.begin()


class Ended(msgspec.Struct, frozen=True):
    """How far a job came."""

    counts: dict[str, Counts]
    """What became of the rows of each stage, by its name."""
    errors: list[str]
    """What receipts say of errors, in the order of stages and units."""
    given_up: int
    """Units that could not be done."""
    stopped_by: signal.Signals | None

    @property
    def is_complete(self) -> bool:
        """Whether all is done."""
        return not self.given_up and self.stopped_by is None


def carry_out(
    job: Job, options: tuple[PoolsOptions, SlurmOptions], view: View, signals: Signals
) -> Ended:
    """Do all of a job that is left to do, and publish its release; its folder is held.

    Parameters
    ----------
    options
        Of the pools, and of Slurm.

    Raises
    ------
    RunError
        When a person must look: what is read is damaged, another release is there.
    """
    pool_options, slurm = options
    with disk_errors(job.folder.path):
        work = JobWork(job, view)
        units = work.units
        made = pools(pool_options, slurm.launch, units.stages)
        session = Session(job.folder, made, slurm, job.max_attempts)
        stopped_by = session.carry_out(units, work, view, signals)
        if stopped_by is None and not units.failed:
            job.publish()
    counts = {stage.name: counts for stage, counts in units.counts.items()}
    return Ended(counts, units.errors, len(units.failed), stopped_by)
