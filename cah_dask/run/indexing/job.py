"""What drives `cah index`, also when it is the first thing that a run does."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cah_dask.archives.remote import is_remote
from cah_dask.archives.sources import list_archives, public_names
from cah_dask.candidates.tables import is_table
from cah_dask.errors import ConfigError, InputError
from cah_dask.images.archived.cdx import is_cdx
from cah_dask.images.archived.index import About, n_lacking, read_about, write_about
from cah_dask.run.folder.job_folder import JOURNAL_FILE, JobFolder
from cah_dask.run.folder.journal import LastLines
from cah_dask.run.indexing.tasks import INDEX, SCAN, SORT, IndexTask
from cah_dask.run.jobs import Job, name_of
from cah_dask.run.stagewise import Committed, Stagewise
from cah_dask.run.unit import Unit
from cah_dask.words import counted

_NO_WARC = (".wat.gz", ".wat", ".wet.gz", ".wet")
_END_BYTES = 4096


def sources_of(entries: Sequence[str]) -> dict[str, str]:
    """Return the WARC archives and CDX files that some entries stand for, by their names.

    Raises
    ------
    InputError
        If one is missing, or is of a kind that holds no pictures.
    """
    places = list_archives(entries)
    for place in places:
        path = place.partition("?")[0] if is_remote(place) else place
        if path.lower().endswith(_NO_WARC) or is_table(path):
            raise InputError(
                f"{place} holds no pictures; name WARC archives (.warc.gz) or CDX files (.cdx, "
                ".cdxj, cdx-*.gz)"
            )
    return dict(sorted((name, place) for place, name in public_names(places).items()))


def id_of(sources: Mapping[str, str]) -> str:
    """Return what an index of other sources does not have.

    These are known by their names; those on disk also by their sizes, beginnings and ends.

    Raises
    ------
    InputError
        If one cannot be read.
    """
    return name_of([(name, _mark_of(place)) for name, place in sorted(sources.items())])


def _mark_of(place: str) -> str:
    """Return what tells a file from others of its name; "" for one that is elsewhere."""
    if is_remote(place):
        return ""
    try:
        with Path(place).open("rb") as file:
            start = file.read(_END_BYTES)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _END_BYTES))
            return hashlib.sha256(b"%d %b" % (size, start + file.read())).hexdigest()
    except OSError as error:
        raise InputError(f"{place} cannot be read: {error}") from error


@dataclass(frozen=True)
class IndexJob(Job):
    """Sources, and the folder of their index."""

    sources: Mapping[str, str]
    """Where each one lies, by its name."""
    to: Path
    buckets: int

    def __post_init__(self) -> None:
        """Look at the folder before anything is written.

        Raises
        ------
        ConfigError
            If it holds something else.
        """
        before = read_about(self.to)
        if before is None:
            folder = JobFolder(self.to, INDEX)
            if self.to.exists() and not (self.to.is_dir() and folder.is_only_locked(JOURNAL_FILE)):
                raise ConfigError(f"{self.to} holds something else; name a new folder for an index")
        elif (before.id, before.buckets) != (self.about.id, self.buckets):
            raise ConfigError(
                f"{self.to} is an index of other archives, or with other buckets; name a new "
                "folder, or restore them"
            )

    @cached_property
    def about(self) -> About:
        """What the index is of."""
        cdx = {name: place for name, place in self.sources.items() if is_cdx(place)}
        archives = {name: place for name, place in self.sources.items() if name not in cdx}
        located = {name: _absolute(place) for name, place in archives.items()}
        return About(
            id=id_of(self.sources),
            buckets=self.buckets,
            archives=located,
            cdx={name: _absolute(place) for name, place in cdx.items()},
        )

    @cached_property
    def folder(self) -> JobFolder:
        """Where it keeps what is done: the index itself."""
        return JobFolder(self.to, INDEX)

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing to be done."""
        return read_about(self.to) is not None and not n_lacking(self.to, self.about)

    def renew(self) -> None:
        """Say where the archives of a complete index lie now."""
        if read_about(self.to) != self.about:
            write_about(self.to, self.about)

    def plan(self, committed: Committed) -> Stagewise:
        """Return its units; the folder says from here on what it is an index of."""
        write_about(self.to, self.about)
        return Stagewise({SCAN: len(self.sources), SORT: self.buckets}, committed)

    def task_of(self, unit: Unit, *, is_last_attempt: bool) -> IndexTask:
        """Return what a worker is told about a unit."""
        name = list(self.sources)[unit.number] if unit.stage == SCAN else ""
        return IndexTask(
            run_dir=str(self.to.resolve()),
            unit=unit,
            config_hash=self.about.id,
            name=name,
            place=self.sources.get(name, ""),
            label=self.about.label_of(name) if name in self.about.cdx else name,
            n_sources=len(self.sources),
            buckets=self.buckets,
            is_last_attempt=is_last_attempt,
        )


def _absolute(place: str) -> str:
    return place if "://" in place else str(Path(place).absolute())


def index_state(folder: Path) -> Iterator[str]:
    """Yield how far an index is; nothing if there is none."""
    about = read_about(folder)
    if about is None:
        return
    commits = list(LastLines(folder / JOURNAL_FILE).commits())
    n_sources = counted(len(about.archives) + len(about.cdx), "source")
    if n_lacking(folder, about):
        n_read = sum(each.stage == SCAN.name for each in commits)
        yield f"index: {n_read} of {n_sources} read"
    else:
        captures = [each.receipt.counts.kept for each in commits if each.stage == SORT.name]
        yield f"index: {counted(sum(captures), 'capture')} of {n_sources}"
