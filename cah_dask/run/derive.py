"""A new release from chosen rows of a run or of another release: the last stage of a job.

A job (`jobs.Job`) that chooses rows leaves parts as `select` does (`schema.selected`) and has
`PACK` as its last stage:

    derivation = Derivation(source, to, folder)
    sizes = {CHOOSE: n, PACK: lambda: derivation.begin(parts, step_of)}
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import msgspec

from cah_dask.counts import Counts
from cah_dask.curate import datacomp
from cah_dask.errors import ConfigError, InputError, RetryableError, RunError
from cah_dask.pairs.select import SELECTION, SelectOptions
from cah_dask.release import verify
from cah_dask.release.derived_card import write_derived_card
from cah_dask.release.layout import (
    CARD,
    MANIFEST,
    Layout,
    ReleasedColumn,
    Slice,
    deal,
    fingerprint,
    read_layout,
    rows_of,
)
from cah_dask.release.manifest import (
    Manifest,
    Step,
    checksum_of,
    manifest_faults,
    redacted,
    steps_before,
)
from cah_dask.release.pack import create_release, pack_shard
from cah_dask.release.rows import Rows, source_of
from cah_dask.run.folder.job_folder import JobFolder
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.publish import layout_of
from cah_dask.run.stages import Kind, Stage
from cah_dask.run.task import Task
from cah_dask.run.unit import Unit
from cah_dask.storage import Receipt, fsync, read_receipt, sweep, write_atomic

PACK = Stage(
    name="pack",
    kind=Kind.SHARD,
    folder="",
    pool="cpu",
    task="cah_dask.run.derive:pack_task",
    rows="pairs",
    memory_mb=400,
    files=3,  # and a Zarr shard of both arrays
)
"""The last stage of a job that makes a release; its parts are those of the release."""


class PackTask(Task, frozen=True, kw_only=True):
    """All that a worker is told about one shard."""

    source: str
    release: str
    """The unfinished release."""
    layout: Layout
    slices: tuple[Slice, ...]


def pack_task(task: PackTask) -> Receipt:
    """Write one shard of the release and the parquet part with the same rows.

    Raises
    ------
    RetryableError
        If another release is being made at that place now.
    """
    release = Path(task.release)
    if read_layout(release) != task.layout:
        raise RetryableError(f"{release} is not the release that this task belongs to")
    source = Path(task.source)
    if read_layout(source) is None and not RunFolder(source).has_begun:
        rows: Rows = _metadata_rows(task.source, task.layout.config)
    else:
        rows = source_of(source)
    return pack_shard(Path(task.run_dir), release, task.unit.number, task.slices, rows)


class Derivation:
    """A release in the making, from chosen rows of a run or of another release.

    Parameters
    ----------
    source
        A run folder, a release, or a folder of DataComp's metadata.
    to
        Where the release goes; it exists only when it is whole.
    folder
        Of the job whose parts say which rows.
    layout
        Without rows. Default: that of the source.
    redacts
        Whether it must not tell which rows are left out: then it is the same, byte for byte,
        wherever they were.

    Raises
    ------
    ConfigError
        If there is anything else at `to` than a derived release, or it is the source.
    InputError
        If the source is none of these, or not whole.
    """

    def __init__(
        self,
        source: Path,
        to: Path,
        folder: JobFolder,
        layout: Layout | None = None,
        *,
        redacts: bool = False,
    ) -> None:
        require_place(source, to)
        self._source = source
        self._to = to
        self._folder = folder
        self._redacts = redacts
        self._dealt: list[list[Slice]] = []
        self._layout = layout or _layout_of_source(source)
        self._manifest = Manifest(())
        self.is_there = False
        """Whether exactly this release was made before, as `begin` finds out."""

    @property
    def folder(self) -> JobFolder:
        """Of the job."""
        return self._folder

    @property
    def unfinished(self) -> Path:
        """The release while it is written."""
        return self._to.with_name(f"{self._to.name}.partial")

    @property
    def step(self) -> Step:
        """What the manifest says of it, once it is begun."""
        return self._manifest.steps[-1]

    @property
    def layout(self) -> Layout:
        """What the release will hold, once it is begun; before, its rows are not known."""
        return self._layout

    def begin(
        self,
        parts: Iterable[str],
        step_of: Callable[[Counts], Step],
        columns: Sequence[ReleasedColumn] = (),
    ) -> int:
        """Fix what the release will hold and create it, or go on with it; return its shards.

        Parameters
        ----------
        parts
            Paths of the chosen rows, relative to the folder of the job, in canonical order. Their
            receipts have the note `SELECTION`; where rows are redacted, it depends on the rows that
            stay alone.
        step_of
            Says, of the sum of their counts, what the manifest shall say.
        columns
            That the chosen rows bring along.
        """
        kept, total = [], Counts()
        for part in parts:
            counts = read_receipt(self._folder.path / part).counts
            kept.append((part, counts.kept))
            total += counts
        self._dealt = deal(kept, self._layout.rows_per_shard)
        steps = (*steps_before(self._source), step_of(total))
        self._manifest = Manifest(tuple(redacted(steps)) if self._redacts else steps)
        dealt = [] if self._redacts else self._dealt  # how many rows stay of each part tells, too
        self._layout = msgspec.structs.replace(
            self._layout,
            rows=rows_of(self._dealt),
            slices_sha256=fingerprint(dealt, total.notes.get(SELECTION, 0)),
            run="",
            columns=(*self._layout.columns, *columns),
            manifest=checksum_of(self._manifest),
        )
        return self._create()

    def _create(self) -> int:
        layout, folder = self._layout, self.unfinished
        if self._to.exists():
            if read_layout(self._to) != layout:
                raise RunError(f"{self._to} holds another release; name a new folder")
            self.is_there = _is_complete(self._to, layout)
            if self.is_there:
                return 0
        if read_layout(folder) != layout:
            _require_ours(folder)
            shutil.rmtree(folder, ignore_errors=True)
            if self._to.exists():  # it has lost files
                self._to.replace(folder)
        sweep(folder)
        create_release(folder, layout)
        write_atomic(folder / MANIFEST, self._manifest.encoded())
        verify.drop_unsound(folder, layout)
        return layout.shards

    def task(self, unit: Unit, *, is_last_attempt: bool) -> PackTask:
        """Return what a worker is told about one shard."""
        return PackTask(
            run_dir=str(self._folder.path.resolve()),
            unit=unit,
            config_hash=self._layout.config,
            is_last_attempt=is_last_attempt,
            source=str(self._source.resolve()),
            release=str(self.unfinished.resolve()),
            layout=self._layout,
            slices=tuple(self._dealt[unit.number]),
        )

    def publish(self) -> None:
        """Check the release, add its data card, and give it its name, unless it is there."""
        if self.is_there:
            return
        if read_layout(self.unfinished) != self._layout:
            raise RunError(f"{self.unfinished} was replaced meanwhile; run the same command again")
        verify.verify_release(self.unfinished)
        write_derived_card(self.unfinished / CARD, self._manifest, self._layout)
        self.unfinished.replace(self._to)
        fsync(self._to.parent)


def require_place(source: Path, to: Path) -> None:
    """Raise ConfigError if no release can be made of `source` at `to`; a derived one may be there.

    Nothing is written.
    """
    is_inside = read_layout(source) is not None and source.resolve() in to.resolve().parents
    if to.resolve() == source.resolve() or is_inside:
        raise ConfigError(f"{to} is or lies in {source}, which is only read; name a new folder")
    layout = read_layout(to)
    if to.exists() and (layout is None or not layout.manifest):
        raise ConfigError(f"{to} exists and is no derived release; name a new folder")


def _layout_of_source(source: Path) -> Layout:
    layout = read_layout(source)
    if layout is not None:
        if not verify.is_whole(source, layout):
            raise InputError(f"{source} is not whole; see `cah verify {source}`")
        for fault in _faults_of_manifest(source, layout):
            raise InputError(f"{source}/{fault}; see `cah verify {source}`")
        return layout
    run = RunFolder(source)
    if not run.has_begun:
        if any(source.rglob("*.parquet")):
            return datacomp.layout_of(datacomp.open_metadata(source))
        raise InputError(f"{source} is neither a release, a run folder nor metadata of DataComp")
    return layout_of(run.config(), SelectOptions())


def _is_complete(release: Path, layout: Layout) -> bool:
    """Tell whether a derived release has all of its files, by a glance, and the right manifest."""
    documents = all((release / name).is_file() for name in layout.documents)
    is_whole = documents and verify.is_whole(release, layout)
    return is_whole and not _faults_of_manifest(release, layout)


def _require_ours(folder: Path) -> None:
    """Raise RunError rather than delete what is no unfinished derived release."""
    found = read_layout(folder)
    is_taken = folder.is_dir() and any(folder.iterdir())
    if is_taken and (found is None or not found.manifest):
        raise RunError(f"{folder} is in the way and is no derived release; move it elsewhere")


def _faults_of_manifest(release: Path, layout: Layout) -> list[str]:
    """Return what is wrong with what a release says it was made of, as lines."""
    if layout.manifest and not (release / MANIFEST).is_file():
        return [f"{MANIFEST}: it is not there"]
    return manifest_faults(release, layout)


@cache
def _metadata_rows(source: str, _: str) -> datacomp.MetadataRows:
    """Open metadata, which their fingerprint tells from others, once in each worker."""
    return datacomp.MetadataRows(Path(source))
