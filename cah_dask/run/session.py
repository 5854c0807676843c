"""One attempt to carry a job to its end: its workers, its driver, and who looks on."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cah_dask.run.cluster.access import Dashboard
from cah_dask.run.cluster.machine import DaskMachine, opened
from cah_dask.run.driver import Driver, Units, Work
from cah_dask.run.folder.failures import Then, note
from cah_dask.run.folder.job_folder import JobFolder
from cah_dask.run.pools import Pool
from cah_dask.run.signals import Signals
from cah_dask.run.slurm.options import SlurmOptions
from cah_dask.run.task import Failed
from cah_dask.run.unit import Unit
from cah_dask.run.watch.figures import Figures, JobFigures


class View(Protocol):
    """Shows a person how a job is doing; every call returns at once."""

    def start(self, dashboard: Dashboard) -> None:
        """Learn that the scheduler is up and where its dashboard is."""

    def look(self, figures: Callable[[], Figures | JobFigures], *, at_once: bool = False) -> None:
        """Show figures if it is time to, or `at_once`; called about once a second."""

    def say(self, message: str) -> None:
        """Show a line of news."""

    def warn(self, message: str) -> None:
        """Show something that a person may want to act on."""


class FolderWork:
    """The part of `driver.Work` that a job's folder knows."""

    def __init__(self, folder: JobFolder) -> None:
        self.folder = folder

    def failed(self, unit: Unit, failed: Failed, attempt: int, then: Then) -> None:
        """Write down that an attempt failed."""
        note(self.folder.failures_file, unit, failed, attempt, then)

    def owns(self, path: str) -> bool:
        """Tell whether a file is a part of the job."""
        return self.folder.maker_of(Path(path)) is not None

    def set_aside(self, path: str) -> None:
        """Have the next start make a damaged part again."""
        if maker := self.folder.maker_of(Path(path)):
            self.folder.set_aside(*maker)


@dataclass(frozen=True, slots=True)
class Session:
    """Where a job runs."""

    folder: JobFolder
    pools: Sequence[Pool]
    slurm: SlurmOptions
    max_attempts: int = 3
    around: Callable[[Driver, DaskMachine], AbstractAsyncContextManager[None]] = (
        lambda _driver, _machine: contextlib.nullcontext()
    )
    """Returns what is entered before any task and left after the last one."""
    performance: Path | None = None
    """Where Dask's performance report goes, if anywhere."""

    def carry_out(
        self, units: Units, work: Work, view: View, signals: Signals
    ) -> signal.Signals | None:
        """Do all that can be done; return the signal that stopped it, if one did.

        Raises
        ------
        RunError
            When a person must look: the disk is full, a file is damaged.
        """
        return asyncio.run(self._carry_out(units, work, view, signals))

    async def _carry_out(
        self, units: Units, work: Work, view: View, signals: Signals
    ) -> signal.Signals | None:
        driver = Driver(units, work, self.pools, max_attempts=self.max_attempts, warn=view.warn)
        folder = self.folder
        with driver.heeds(signals):
            async with (
                opened(
                    self.pools, self.slurm, folder.path, folder.secrets, view.warn, self.performance
                ) as machine,
                self.around(driver, machine),
            ):
                machine.dashboard.write(folder.dashboard_file)
                view.start(machine.dashboard)
                try:
                    await driver.drive(machine)
                finally:
                    folder.dashboard_file.unlink(missing_ok=True)  # nobody listens any more
        return driver.stopped_by
