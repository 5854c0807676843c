"""The job of `cah verify`: every byte and every row of a release, on the workers of all pools.

One unit checks one part with its vectors and leaves the uids of its rows behind, cut into ranges;
then one unit for each range looks for uids that are there twice. What it leaves lies beside the
release until the job is done, so that the same command goes on where it stopped.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec

from cah_dask.counts import Counts
from cah_dask.curate.care.lists import COLUMNS, KINDS, Pinned, load_lists, load_pinned, pinned
from cah_dask.curate.uid_ranges import UIDS, as_keys, cut, n_ranges
from cah_dask.release.check import check_part, damaged_metadata, repeated, stray_files
from cah_dask.release.layout import Layout, layout_of_release, part_path
from cah_dask.release.manifest import manifest_faults
from cah_dask.run.folder.job_folder import Existing, JobFolder
from cah_dask.run.jobs import Ended, Job, name_of
from cah_dask.run.stages import Kind, Stage
from cah_dask.run.stagewise import Committed, Stagewise
from cah_dask.run.task import Task
from cah_dask.run.unit import Unit
from cah_dask.storage import Receipt, open_part, read_part, write_part

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


class VerifyTask(Task, frozen=True, kw_only=True):
    """All that a worker is told about one unit."""

    release: str
    layout: Layout
    lists: Pinned
    """Of what must not be there."""

    @property
    def ranges(self) -> int:
        """In how many ranges uids are compared."""
        return n_ranges(self.layout.rows)

    def checked(self, number: int) -> Path:
        """Return where the uids of one part are."""
        return Path(self.run_dir) / Unit(CHECK, number=number).part


def check_task(task: VerifyTask) -> Receipt:
    """Check one part with its vectors."""
    started = time.perf_counter()
    found = check_part(Path(task.release), task.unit.number, task.layout)
    faults = found.faults
    if task.lists and not faults:  # else it may lack what lists are compared with
        faults = tuple(_listed(task))
    receipt = task.receipt(found.counts, started, errors=faults)
    return write_part(task.part, UIDS, cut(found.uids, task.ranges), receipt)


def unique_task(task: VerifyTask) -> Receipt:
    """Look for uids of one range that are there twice, in whatever parts."""
    started = time.perf_counter()
    number = task.unit.bucket
    parts = [task.checked(part) for part in range(task.layout.shards)]
    uids = [as_keys(read_part(part, row_group=number)) for part in parts]
    n_again, some = (0, []) if task.layout.may_repeat else repeated(uids)
    n_rows = sum(map(len, uids))
    counts = Counts(n_rows, n_rows - n_again, {"repeated": n_again} if n_again else {})
    errors = tuple(f"pairs: uid {uid} is there more than once" for uid in some)
    return write_part(task.part, UIDS, [], task.receipt(counts, started, errors=errors))


def _listed(task: VerifyTask) -> Iterator[str]:
    """Yield how many rows of a part are named by the lists of each kind, as lines."""
    lists = load_pinned(task.lists)
    path = part_path(Path(task.release), task.unit.number)
    n_of: Counter[int] = Counter()
    with open_part(path) as part:
        for number in range(part.n_row_groups):
            n_of.update(lists.found_in(part.read([number], COLUMNS)).kind.tolist())
    for kind, name in enumerate(KINDS):
        if n_of[kind]:
            yield f"{path.relative_to(task.release)}: {name} that must be gone: {n_of[kind]:,}"


@dataclass(frozen=True)
class VerifyJob(Job):
    """A release that is to be checked."""

    release: Path
    scratch: Path
    """Within it is kept what is done; it goes when all is."""
    paths: Mapping[str, Path] = field(default_factory=dict)
    """Lists of what must not be there, by their kind, one of `KINDS`."""

    def __post_init__(self) -> None:
        """Raise InputError if there is no release, or a list holds anything else than entries."""
        load_lists(self.paths)
        self.layout  # noqa: B018  # it is read

    @cached_property
    def layout(self) -> Layout:
        """Of the release."""
        return layout_of_release(self.release)

    @cached_property
    def pinned(self) -> Pinned:
        """What must not be there, as tasks are told."""
        return pinned(self.paths)

    @cached_property
    def name(self) -> str:
        """What another release at the same place does not have, nor other lists."""
        lists = sorted((kind, digest) for kind, (_, digest) in self.pinned.items())
        return name_of(self.layout.fingerprint, lists)

    @cached_property
    def folder(self) -> JobFolder:
        """Where it keeps what is done."""
        return JobFolder(self.scratch / self.name, VERIFY)

    def plan(self, committed: Committed) -> Stagewise:
        """Return its units."""
        sizes = {CHECK: self.layout.shards, UNIQUE: n_ranges(self.layout.rows)}
        return Stagewise(sizes, committed)

    def existing(self) -> "_Sound":
        """Return what tells which parts are known to be sound."""
        return _Sound(self.folder)

    def task_of(self, unit: Unit, *, is_last_attempt: bool) -> VerifyTask:
        """Return what a worker is told about a unit."""
        return VerifyTask(
            run_dir=str(self.folder.path.resolve()),
            unit=unit,
            config_hash=self.name,
            release=str(self.release.resolve()),
            layout=self.layout,
            lists=self.pinned,
            is_last_attempt=is_last_attempt,
        )


class Verdict(msgspec.Struct, frozen=True):
    """What was found of a release, as far as the job came."""

    rows: int
    """Rows that were looked at."""
    faults: list[str]
    """One line each, file first."""


def verdict_of(job: VerifyJob, ended: Ended) -> Verdict:
    """Return what a job found, with what is told at a glance."""
    faults = stray_files(job.release, job.layout) + damaged_metadata(job.release, job.layout)
    faults += manifest_faults(job.release, job.layout) + ended.errors
    return Verdict(ended.counts[CHECK.name].seen, list(dict.fromkeys(faults)))


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
