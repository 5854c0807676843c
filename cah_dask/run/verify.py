"""The job of `cah verify`: every byte and every row of a release, on the workers of all pools.

One unit checks one part with its vectors and leaves the uids of its rows behind, cut into ranges;
then one unit for each range looks for uids that are there twice. What it leaves lies beside the
release until the job is done, so that the same command goes on where it stopped.
"""

import hashlib
import signal
import time
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from cah_dask.errors import InputError
from cah_dask.keys import Keys, from_digests
from cah_dask.release.check import check_part, damaged_metadata, repeated, stray_files
from cah_dask.release.layout import Layout, read_layout
from cah_dask.release.manifest import manifest_faults
from cah_dask.run.folder.job_folder import Existing, JobFolder
from cah_dask.run.plan import Unit
from cah_dask.run.pools import pools
from cah_dask.run.session import Session, StagewiseWork, View
from cah_dask.run.settings.config import PoolsOptions
from cah_dask.run.signals import Signals
from cah_dask.run.slurm.options import SlurmOptions
from cah_dask.run.stages import Kind, Stage
from cah_dask.run.stagewise import Stagewise
from cah_dask.run.task import Task
from cah_dask.schema import UID_BYTES, Counts
from cah_dask.storage import Receipt, disk_errors, read_part, write_part

CHECK = Stage(
    name="check",
    kind=Kind.SHARD,
    folder="checked",
    pool="cpu",
    task="cah_dask.run.verify:check_task",
    rows="pairs",
)
UNIQUE = Stage(
    name="unique",
    kind=Kind.BUCKET,
    folder="unique",
    pool="cpu",
    task="cah_dask.run.verify:unique_task",
    rows="uids",
    after="check",
)
VERIFY = (CHECK, UNIQUE)
"""The job of `cah verify`."""

ROWS_PER_RANGE = 4_000_000
"""Rows whose uids are compared at once: 64 MB, and twice that while they are sorted."""
MOST_RANGES = 256
UIDS = pa.schema([pa.field("uid", pa.binary(UID_BYTES), nullable=False)])
"""``checked/``: one row group for each range of uids, in their order."""


class VerifyTask(Task, frozen=True, kw_only=True):
    """All that a worker is told about one unit."""

    release: str
    layout: Layout

    @property
    def ranges(self) -> int:
        """In how many ranges uids are compared."""
        return n_ranges(self.layout)

    def checked(self, number: int) -> Path:
        """Return where the uids of one part are."""
        return Path(self.run_dir) / Unit(CHECK, number=number).part


def n_ranges(layout: Layout) -> int:
    """Return in how many ranges the uids of a release are compared, a power of two."""
    needed = -(-layout.rows // ROWS_PER_RANGE)
    return min(MOST_RANGES, 1 << max(0, needed - 1).bit_length())


def check_task(task: VerifyTask) -> Receipt:
    """Check one part with its vectors."""
    started = time.perf_counter()
    found = check_part(Path(task.release), task.unit.number, task.layout)
    starts = np.arange(1, task.ranges, dtype=np.uint64) << np.uint64(65 - task.ranges.bit_length())
    cuts = np.searchsorted(found.uids["f0"], starts)
    groups = [_as_table(keys) for keys in np.split(found.uids, cuts)]
    receipt = task.receipt(found.counts, started, errors=found.faults)
    return write_part(task.part, UIDS, groups, receipt)


def unique_task(task: VerifyTask) -> Receipt:
    """Look for uids of one range that are there twice, in whatever parts."""
    started = time.perf_counter()
    number = task.unit.bucket
    parts = [task.checked(part) for part in range(task.layout.shards)]
    uids = [_as_keys(read_part(part, row_group=number)) for part in parts]
    n_again, some = (0, []) if task.layout.may_repeat else repeated(uids)
    n_rows = sum(map(len, uids))
    counts = Counts(n_rows, n_rows - n_again, {"repeated": n_again} if n_again else {})
    errors = tuple(f"pairs: uid {uid} is there more than once" for uid in some)
    return write_part(task.part, UIDS, [], task.receipt(counts, started, errors=errors))


def _as_table(keys: Keys) -> pa.Table:
    halves = np.stack([keys["f0"], keys["f1"]], axis=1).astype(">u8")
    data = pa.py_buffer(np.ascontiguousarray(halves))
    uids = pa.Array.from_buffers(UIDS.field("uid").type, len(keys), [None, data])
    return pa.table([uids], schema=UIDS)


def _as_keys(table: pa.Table) -> Keys:
    return from_digests(b"".join(table["uid"].to_pylist()))


class Verification(StagewiseWork):
    """The job as its driver sees it (`driver.Work`)."""

    def __init__(
        self, release: Path, layout: Layout, folder: JobFolder, units: Stagewise, view: View
    ) -> None:
        super().__init__(folder, units, view)
        self._release = release
        self._layout = layout

    def task(self, unit: Unit, *, is_last_attempt: bool) -> VerifyTask:
        """Return what a worker is told about a unit."""
        return VerifyTask(
            run_dir=str(self.folder.path.resolve()),
            unit=unit,
            config_hash=_name_of(self._layout),
            release=str(self._release.resolve()),
            layout=self._layout,
            is_last_attempt=is_last_attempt,
        )


class Verdict(msgspec.Struct, frozen=True):
    """What was found of a release, as far as the job came."""

    rows: int
    """Rows that were looked at."""
    faults: list[str]
    """One line each, file first."""
    given_up: int
    """Units that could not be done."""
    stopped_by: signal.Signals | None = None

    @property
    def is_complete(self) -> bool:
        """Whether everything was looked at."""
        return not self.given_up and self.stopped_by is None


def folder_for(release: Path, scratch: Path) -> JobFolder:
    """Return where a job keeps what it has done, within `scratch`, which goes when it is done.

    Raises
    ------
    InputError
        If there is no release.
    """
    return JobFolder(scratch / _name_of(_layout_of(release)), VERIFY)


def verify(
    release: Path,
    folder: JobFolder,
    options: tuple[PoolsOptions, SlurmOptions],
    view: View,
    signals: Signals,
) -> Verdict:
    """Check a release on the workers of the cpu pool, or go on with it.

    Parameters
    ----------
    folder
        As `folder_for` returns it, and driven by this process.
    options
        Of the pools, and of Slurm.

    Raises
    ------
    InputError
        If there is no release.
    """
    layout = _layout_of(release)
    faults = stray_files(release, layout) + damaged_metadata(release, layout)
    faults += manifest_faults(release, layout)
    pool_options, slurm = options
    units = Stagewise({CHECK: layout.shards, UNIQUE: n_ranges(layout)}, _Sound(folder))
    session = Session(folder, pools(pool_options, slurm.launch, VERIFY), slurm)
    work = Verification(release, layout, folder, units, view)
    with disk_errors(folder.path):
        stopped_by = session.carry_out(units, work, view, signals)
    return Verdict(
        rows=units.counts[CHECK].seen,
        faults=list(dict.fromkeys(faults + units.errors)),
        given_up=len(units.failed),
        stopped_by=stopped_by,
    )


class _Sound(Existing):
    """What an earlier attempt found to be sound; all else may have been mended meanwhile."""

    def __init__(self, folder: JobFolder) -> None:
        super().__init__(folder)
        self._are_uids_valid = True

    def __call__(self, unit: Unit) -> Receipt | None:
        """Return the receipt of a unit that need not be done again.

        With the first part that is to be checked again go the comparisons of all uids, and first,
        so that none of them is left however the driver dies.
        """
        receipt = super().__call__(unit)
        if receipt is None or not receipt.errors:
            return receipt
        if unit.stage == CHECK and self._are_uids_valid:
            self.drop_all(UNIQUE)
            self._are_uids_valid = False
        self.folder.void(unit.stage.name, unit.name)
        self.path_of(unit).unlink()
        return None


def _layout_of(release: Path) -> Layout:
    layout = read_layout(release)
    if layout is None:
        raise InputError(f"{release} is no release: it has no layout.json that can be read")
    return layout


def _name_of(layout: Layout) -> str:
    """Return a name that another release at the same place does not have."""
    return hashlib.sha256(msgspec.json.encode(layout)).hexdigest()[:16]
