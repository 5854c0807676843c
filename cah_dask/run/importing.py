"""The job of `cah import datacomp`: metadata become a release, with all rows in their order.

All files are looked at before anything is written, so that one bad row or byte is told at once.
"""

import time
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import msgspec

from cah_dask.counts import Counts
from cah_dask.curate.datacomp import layout_of, open_metadata
from cah_dask.curate.datacomp_look import FOREIGN_UIDS, look
from cah_dask.curate.pools.tables import TablePool
from cah_dask.errors import ConfigError, InputError
from cah_dask.pairs.select import SELECTION, checksum
from cah_dask.release.layout import PackOptions
from cah_dask.release.manifest import Step
from cah_dask.run.derive import PACK, Derivation
from cah_dask.run.folder.job_folder import JobFolder
from cah_dask.run.jobs import Job, name_of
from cah_dask.run.stages import Kind, Stage
from cah_dask.run.stagewise import Committed, Stagewise
from cah_dask.run.task import Task
from cah_dask.run.unit import Unit
from cah_dask.schema import SELECTED
from cah_dask.storage import Receipt, read_receipt, write_part
from cah_dask.words import counted

LOOK = Stage(
    name="look",
    kind=Kind.SHARD,
    folder="looked",
    pool="cpu",
    task="cah_dask.run.importing:look_task",
    rows="rows",
)
IMPORT = (LOOK, PACK)
"""The job of `cah import datacomp`."""


class LookTask(Task, frozen=True, kw_only=True):
    """All that a worker is told about one file."""

    metadata: str
    leaves_out: bool
    """Whether bad rows are left out rather than a fault."""


def look_task(task: LookTask) -> Receipt:
    """Look at one file with its vectors; leave its sound rows, and what is wrong with it."""
    started = time.perf_counter()
    found = look(_metadata(task.metadata, task.config_hash), task.unit.number)
    notes = {**found.counts.notes, SELECTION: checksum(found.chosen)}
    counts = msgspec.structs.replace(found.counts, notes=notes)
    errors = () if task.leaves_out and found.is_readable else found.faults
    receipt = task.receipt(counts, started, errors=errors)
    return write_part(task.part, SELECTED, found.chosen, receipt)


@cache
def _metadata(folder: str, _: str) -> TablePool:
    """Open metadata, which the name of their job tells from others, once in each worker."""
    return open_metadata(Path(folder))


@dataclass(frozen=True)
class ImportJob(Job):
    """Metadata, and the release that they become."""

    metadata: Path
    to: Path
    scratch: Path
    """The folder within which it keeps what is done."""
    leaves_out: bool = False
    """Whether bad rows are left out, counted by their reason, rather than a fault."""
    sizes: PackOptions = field(default_factory=PackOptions)

    def __post_init__(self) -> None:
        """Look at all that can be told at a glance before anything is written."""
        if self.metadata.resolve() in self.to.resolve().parents:
            raise ConfigError(
                f"{self.to} lies in {self.metadata}, which is only read; name a new folder"
            )
        self.derivation  # noqa: B018  # it looks at the target

    @cached_property
    def pool(self) -> TablePool:
        """The metadata."""
        if not self.metadata.is_dir():
            raise InputError(f"{self.metadata} is no folder")
        return open_metadata(self.metadata)

    @cached_property
    def name(self) -> str:
        """What other metadata, or another way to import them, do not have."""
        return name_of(self.pool.fingerprint, self.leaves_out)

    @cached_property
    def folder(self) -> JobFolder:
        """Where it keeps what is done."""
        return JobFolder(self.scratch / self.name, IMPORT)

    @cached_property
    def derivation(self) -> Derivation:
        """The release in the making."""
        layout = layout_of(self.pool, self.sizes)
        return Derivation(self.metadata, self.to, self.folder, layout)

    @cached_property
    def faults(self) -> list[str]:
        """What is wrong with the metadata, as lines, once all files are looked at."""
        return []

    @property
    def _units(self) -> list[Unit]:
        return [Unit(LOOK, number=number) for number in range(len(self.pool.units))]

    def plan(self, committed: Committed) -> Stagewise:
        """Return its units."""
        return Stagewise({LOOK: len(self.pool.units), PACK: self.begin}, committed)

    def task_of(self, unit: Unit, *, is_last_attempt: bool) -> LookTask:
        """Return what a worker is told about a file."""
        return LookTask(
            run_dir=str(self.folder.path.resolve()),
            unit=unit,
            config_hash=self.name,
            is_last_attempt=is_last_attempt,
            metadata=str(self.metadata.resolve()),
            leaves_out=self.leaves_out,
        )

    def begin(self) -> int:
        """Begin the release, once all files are looked at; return its shards.

        Raises
        ------
        InputError
            If anything is wrong with them; such files are looked at again by the next attempt.
        """
        for unit in self._units:
            path = self.folder.path / unit.part
            if errors := read_receipt(path).errors:
                place = str(self.metadata.resolve())
                self.faults.extend(error.replace(place, str(self.metadata)) for error in errors)
                self.folder.void(unit.stage.name, unit.name)
                path.unlink()
        if self.faults:
            n_faults = counted(len(self.faults), "fault")
            raise InputError(f"{self.metadata} is not imported, nothing was written: {n_faults}")
        return self.derivation.begin([unit.part for unit in self._units], self.step)

    def step(self, counts: Counts) -> Step:
        """Return what the manifest says."""
        notes = {FOREIGN_UIDS: counts.notes.get(FOREIGN_UIDS, 0)}
        return Step(
            how="import",
            of="metadata",
            fingerprint=self.pool.fingerprint,
            rule={"files": len(self.pool.units)},
            counts=msgspec.structs.replace(counts, notes=notes),
        )
