"""The job of `cah join`: a new release with columns of a table; `join_tasks` is what workers do."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from cah_dask.counts import Counts
from cah_dask.curate.care.tables import Tables
from cah_dask.errors import ConfigError
from cah_dask.release.layout import Layout, layout_of_release
from cah_dask.release.manifest import Step
from cah_dask.run.care.join_tasks import CHOOSE, JOIN, KEYS, MATCH, READ, JoinTask
from cah_dask.run.derive import PACK, Derivation
from cah_dask.run.folder.job_folder import JobFolder
from cah_dask.run.jobs import Job, name_of
from cah_dask.run.stagewise import Committed, Stagewise
from cah_dask.run.unit import Unit
from cah_dask.schema import SELECTED, similarity_of, vector_of
from cah_dask.storage import read_receipt

ROWS_PER_RANGE = 1_000_000
"""Pairs whose keys are joined at once."""
BYTES_PER_RANGE = 64_000_000
"""Of the files of the table, likewise; compressed ones take several times that in memory."""
MOST_RANGES = 1024


@dataclass(frozen=True)
class JoinJob(Job):
    """A release, a table, and where the new release goes."""

    release: Path
    tables: Tables
    to: Path
    scratch: Path
    """The folder within which it keeps what is done."""

    def __post_init__(self) -> None:
        """Look at all that can be wrong before anything is written."""
        if not self.tables.columns:
            raise ConfigError("name the columns of the table that are wanted, by --column")
        layout = self.layout
        taken = {*layout.schema.names, *SELECTED.names, similarity_of(layout.encoder)}
        taken |= {vector_of(name, modality) for name, modality, _ in layout.arrays}
        if both := [column.name for column in self.tables.released if column.name in taken]:
            raise ConfigError(
                f"{self.release} has a column {both[0]} already; give it another name: "
                f"--column NAME={self.tables.columns[both[0]]}"
            )
        self.derivation  # noqa: B018  # it looks at source and target

    @cached_property
    def layout(self) -> Layout:
        """Of the release."""
        return layout_of_release(self.release)

    @cached_property
    def ranges(self) -> int:
        """In how many ranges keys are joined, a power of two."""
        n_bytes = sum(file.stat().st_size for file in self.tables.files)
        needed = max(-(-self.layout.rows // ROWS_PER_RANGE), -(-n_bytes // BYTES_PER_RANGE))
        return min(MOST_RANGES, 1 << max(0, needed - 1).bit_length())

    @cached_property
    def name(self) -> str:
        """What another release or table does not have."""
        files = [(str(file), *_state(file)) for file in self.tables.files]
        return name_of(self.layout.fingerprint, self.tables.on, self.tables.columns, files)

    @cached_property
    def folder(self) -> JobFolder:
        """Where it keeps what is done."""
        return JobFolder(self.scratch / self.name, JOIN)

    @cached_property
    def derivation(self) -> Derivation:
        """The new release."""
        return Derivation(self.release, self.to, self.folder)

    def plan(self, committed: Committed) -> Stagewise:
        """Return its units."""
        shards, files = self.layout.shards, len(self.tables.files)
        sizes = {KEYS: shards, READ: files, MATCH: self.ranges, CHOOSE: shards}
        return Stagewise({**sizes, PACK: self.begin}, committed)

    def task_of(self, unit: Unit, *, is_last_attempt: bool) -> JoinTask:
        """Return what a worker is told about a unit."""
        files = self.tables.files
        return JoinTask(
            run_dir=str(self.folder.path.resolve()),
            unit=unit,
            config_hash=self.name,
            is_last_attempt=is_last_attempt,
            release=str(self.release.resolve()),
            shards=self.layout.shards,
            ranges=self.ranges,
            on=self.tables.on,
            columns=dict(self.tables.columns),
            released=self.tables.released,
            file=str(files[unit.number].resolve()) if unit.stage == READ else "",
            files=tuple(map(self.tables.name_of, files)) if unit.stage == MATCH else (),
        )

    def begin(self) -> int:
        """Begin the new release, once all is joined; return its shards."""
        parts = [Unit(CHOOSE, number=number).part for number in range(self.layout.shards)]
        return self.derivation.begin(parts, self.step, self.tables.released)

    def step(self, counts: Counts) -> Step:
        """Return what the manifest says."""
        files = {}
        for number, file in enumerate(self.tables.files):
            receipt = read_receipt(self.folder.path / Unit(READ, number=number).part)
            files[self.tables.name_of(file)] = receipt.inputs[0]
        rule = {
            "on": self.tables.on,
            "columns": dict(self.tables.columns),
            "files": files,
            "joined": counts.notes["joined"],
        }
        return Step(
            how="join",
            of="release",
            fingerprint=self.layout.fingerprint,
            rule=rule,
            counts=msgspec.structs.replace(counts, notes={}),
        )


def _state(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns
