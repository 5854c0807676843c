"""The run folder: what a run was told, what it has finished, and where everything lies."""

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from cah_dask.blocklists.exclusion import Exclusion
from cah_dask.blocklists.optouts import load_optouts
from cah_dask.candidates.dedup import host_bucket
from cah_dask.errors import ConfigError, DamageError, InputError
from cah_dask.groups import INDEX_FOLDER, bucket_of, group_name_of
from cah_dask.release.draw import Draw
from cah_dask.release.layout import read_layout
from cah_dask.release.summary import Summary
from cah_dask.run.folder import compaction
from cah_dask.run.folder.existing import RunParts
from cah_dask.run.folder.job_folder import JOURNAL_FILE, JobFolder
from cah_dask.run.folder.journal import Commit, LastLines
from cah_dask.run.folder.listing import Listing
from cah_dask.run.folder.pool_times import read_pool_times
from cah_dask.run.folder.run_settings import (
    ARCHIVES_FILE,
    CONFIG_FILE,
    read_archives,
    read_config,
    require_same,
    write_settings,
)
from cah_dask.run.folder.run_total import RunTotal
from cah_dask.run.settings.config import Config
from cah_dask.run.settings.loading import Loaded
from cah_dask.run.stages import COMPACT, DOWNLOAD, EMBED, EXTRACT, RUN, SELECT, Stage
from cah_dask.run.unit import Unit, slug
from cah_dask.storage import open_part, read_receipt, sweep

logger = logging.getLogger(__name__)

RELEASE = "release"
LOST = "lost"
"""The note in the counts of a part that holds nothing because its archive was lost."""


@lru_cache(maxsize=1)
def _optouts(path: Path, n_bytes: int, changed: int) -> Exclusion:  # noqa: ARG001
    """Return who is in a file, which is read anew once its length or time is another."""
    return Exclusion(optouts=load_optouts(path)[0])


class RunFolder(JobFolder):
    """One run's directory; the only code that knows what lies where in it.

    Parameters
    ----------
    release
        Where the finished release goes; it exists only when it is whole. Default: into the folder.
    stages
        Those that leave parts here.
    """

    def __init__(
        self, path: Path, release: Path | None = None, stages: tuple[Stage, ...] = RUN
    ) -> None:
        super().__init__(path, stages)
        release = path / RELEASE if release is None else release.resolve()
        self.release = release.resolve() if release.is_symlink() else release

    @property
    def name(self) -> str:
        """What people call the run, wherever they stand: the name of its folder."""
        return self.path.resolve().name

    @property
    def unfinished_release(self) -> Path:
        """The release while it is written."""
        return self.release.with_name(f"{self.release.name}.partial")

    @property
    def old_release(self) -> Path:
        """The release before, for the moment in which a new one gets its name."""
        return self.release.with_name(f".{self.release.name}.replaced")

    @property
    def pause_file(self) -> Path:
        """Downloads stop within seconds while this file exists."""
        return self.path / "PAUSE"

    @property
    def progress_dir(self) -> Path:
        """How far the fetch lists at work are, a small file for each."""
        return self.path / "progress"

    def progress_path(self, unit: str) -> Path:
        """How far a fetch list at work is: see `images.list_progress`."""
        return self.progress_dir / f"{unit.replace('/', '-')}.json"

    @property
    def pool_times_file(self) -> Path:
        """For how long the run held its workers: see `folder.pool_times`."""
        return self.path / "logs" / "pools.json"

    @property
    def retry_file(self) -> Path:
        """While this file exists, a driver that has done all else tries again what it gave up."""
        return self.path / "RETRY"

    @property
    def optout_file(self) -> Path:
        """Hosts, one a line, that are not asked any more; read at the start of each list."""
        return self.path / "OPTOUT"

    @property
    def index_dir(self) -> Path:
        """Which records answer which urls, if pictures come from archives that the run indexes."""
        return self.path / "index"

    @property
    def lists_dir(self) -> Path:
        """Large lists of what may not be fetched or kept, as `blocklists.mapped` has them."""
        return self.path / "lists"

    def seen_path(self, bucket: int, wave: int) -> Path:
        """Keys of the rows that dedup kept in one bucket, of some waves up to this one.

        Sorted, 16 bytes each; see `candidates.seen`.
        """
        return self.path / "seen" / f"b{bucket:05d}" / f"w{wave:05d}.npy"

    def fetched_path(self, bucket: int, wave: int) -> Path:
        """Keys of the urls that the lists of one bucket fetch, likewise, 24 bytes each."""
        return self.seen_path(bucket, wave).with_suffix(".urls.npy")

    def robots_path(self, bucket: int) -> Path:
        """Robots.txt of the hosts of one bucket, a cache: see `images.manners.robots_cache`."""
        return self.path / "robots" / f"b{bucket:05d}.parquet"

    @contextlib.contextmanager
    def driving(
        self,
        loaded: Loaded,
        archives: Sequence[str],
        say: Callable[[str], None] = lambda _: None,
    ) -> Iterator[None]:
        """Be the one driver of this folder: check that it is ours, lock it, open the journal.

        `say` shows a line to a person who has to wait for the lock.

        Raises
        ------
        ConfigError
            If the folder belongs to another configuration, or cannot be written.
        RunError
            If another driver is at work here.
        """

        def begin() -> None:
            self._require_ours(loaded.config, archives)  # nobody else changes it from here on
            sweep(self.unfinished_release)
            write_settings(self.path, loaded, archives)

        try:
            self._require_ours(loaded.config, archives)
        except OSError as error:
            raise ConfigError(f"run folder {self.path} cannot be read: {error}") from error
        with self.held(say, begin):
            try:
                yield
            finally:
                if self.release.exists():
                    shutil.rmtree(self.old_release, ignore_errors=True)  # of one that was killed

    def scored(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns of all scored samples, list by list."""
        groups = set(compaction.groups(self.path))
        for path in sorted((self.path / EMBED.folder).glob("w*/*.parquet")):
            name = f"{path.parent.name}/{path.stem}"
            group = group_name_of(name) or name
            if (group in groups) != (name == group):
                continue  # left of a compaction that was cut off, or begun since
            with open_part(path) as part:
                for number in range(part.n_row_groups):
                    yield part.read([number], list(columns))

    def _require_ours(self, config: Config, archives: Sequence[str]) -> None:
        """Raise ConfigError unless the folder is new, or that of the same run."""
        if (self.path / CONFIG_FILE).exists():
            require_same(self.path, config, archives)
        elif (
            self.path.is_dir()
            and any(self.path.iterdir())
            and not self.is_only_locked(ARCHIVES_FILE)
        ):
            raise ConfigError(
                f"run folder {self.path} holds other files and no {CONFIG_FILE}; "
                "set run_dir to a new or empty folder"
            )

    def require_place_for_release(self, run: str) -> None:
        """Raise ConfigError if there is anything but a release of this run where it shall go.

        `run` is what `identity.run_id` says.
        """
        path = self.release
        if path.exists() and not (path.is_dir() and (read_layout(path) or not any(path.iterdir()))):
            raise ConfigError(
                f"{path} holds something else than a release; name a new folder, or move it away"
            )
        if path.resolve() == self.path.resolve() / RELEASE:
            return
        for place in (path, self.unfinished_release):
            layout = read_layout(place)
            if layout is not None and layout.run != run:
                raise ConfigError(
                    f"{place} holds a release of another run; name a new folder, or move it away"
                )

    @property
    def has_begun(self) -> bool:
        """Whether a run was started here."""
        return (self.path / CONFIG_FILE).is_file()

    @property
    def has_selected(self) -> bool:
        """Whether pairs of this run were ever selected: then it may be that all are scored."""
        return any((self.path / SELECT.folder).glob("*/*/*.parquet"))

    def extracted(self) -> Callable[[str], bool]:
        """Return what tells of an archive, by its name, whether it is extracted."""
        parts = (self.path / EXTRACT.folder).glob("w*/*.parquet")
        units = {f"{path.parent.name}/{path.stem}" for path in parts} - self.lost().keys()
        found = {unit.partition("/")[2] for unit in units}
        return lambda name: slug(name) in found

    def lost(self) -> dict[str, str]:
        """Return the archives whose part holds nothing as they were not to be had, by unit."""
        lost: dict[str, str] = {}
        for entry in self.entries(EXTRACT):
            if isinstance(entry, Commit) and entry.receipt.counts.notes.get(LOST):
                lost[entry.unit] = entry.receipt.inputs[0]
            else:
                lost.pop(entry.unit, None)
        return lost

    def has_opted_out(self, host: str) -> bool:
        """Tell whether a host, or a domain that it belongs to, is in `optout_file`."""
        try:
            found = self.optout_file.stat()
            known = _optouts(self.optout_file, found.st_size, found.st_mtime_ns)
            return known.excludes_host(host)
        except (OSError, InputError):  # there is none, or it cannot be read
            return False

    def odd_optouts(self) -> list[str]:
        """Say which lines of `optout_file` mean no host; they are ignored."""
        return load_optouts(self.optout_file)[1] if self.optout_file.exists() else []

    def config(self, overrides: Sequence[str] = ()) -> Config:
        """Return the configuration that the run was started with; see `read_config`."""
        return read_config(self.path, overrides)

    def archives(self) -> list[str]:
        """Return the names of the archives of the run; see `read_archives`."""
        return read_archives(self.path)

    def drop_images(self, unit: Unit) -> None:
        """Delete the image shard of an embedded fetch list; its outcomes stay."""
        part = self.path / Unit(DOWNLOAD, unit.wave, unit.bucket, unit.number).part
        if not part.exists():
            return  # a list of late texts fetched nothing
        for side in read_receipt(part).side:
            part.with_name(side.name).unlink(missing_ok=True)

    def summary(self, told: Callable[[Commit], None] = lambda _: None) -> Summary:
        """Add up the journal: what became of every row so far, stage by stage.

        `told` is given each commit that counts, in no order.
        """
        total = RunTotal(self.config(), self.stages)
        for commit in filter(total.counts, LastLines(self.journal_file).commits()):
            told(commit)
            total.add(commit)
        held = read_pool_times(self.pool_times_file)
        return total.summary(self.archives(), self.index_dir / JOURNAL_FILE, held)

    def lists(self, seed: int, most: int, host: str = "") -> list[str]:
        """Return the names of some fetch lists, as a seed draws them.

        First come those of the bucket of `host`, if one is given: no other has its urls, but any
        may have those of hosts below it.
        """
        bucket = host_bucket(host, self.config().dedup.buckets) if host else None
        near, others = Draw(seed, most), Draw(seed, most)
        for commit in LastLines(self.journal_file).commits():
            if commit.stage in {DOWNLOAD.name, EMBED.name}:  # late texts are only embedded
                (near if bucket_of(commit.unit) == bucket else others).add(commit.unit)
        return [*near.names, *others.names][:most]

    def existing(self, *, keep_images: bool = True) -> RunParts:
        """Return what is finished, by looking at the parts that exist."""
        compacted = self._compacted()
        return RunParts(self, self.unfinished_release, compacted, keep_images=keep_images)

    def move_aside(self, stage: Stage, unit: str) -> None:
        """Have a part made again; the group that it is compacted in is taken apart.

        `unit` may also be a group, whose file in the folder of the stage is damaged.
        """
        group = group_name_of(unit) if stage.is_compacted or stage == COMPACT else None
        if group and compaction.part_path(self.path, INDEX_FOLDER, group).exists():
            self._take_apart(group)
        if group != unit:
            super().move_aside(stage, unit)

    def _compacted(self) -> Listing:
        """Return which parts are compacted; a group of which a file is lost is taken apart."""
        stages = {stage.folder: stage.name for stage in self.stages}

        def names() -> Iterator[tuple[str, list[str]]]:
            for group in list(compaction.groups(self.path)):
                try:
                    found = compaction.parts(self.path, group)
                except DamageError as error:
                    logger.warning("%s; what is lost is made again", error)
                    self._take_apart(group)
                    continue
                yield from ((stages.get(folder, folder), units) for folder, units in found.items())

        return Listing(names())

    def _take_apart(self, group: str) -> None:
        """Give the parts of a group files of their own again; those that are lost are made again.

        The files of the group that are damaged are set aside.
        """
        lost = compaction.take_apart(self.path, group)
        super().move_aside(COMPACT, group)
        harmed = None if lost is None else {folder for folder, _ in lost}
        for folder in compaction.FOLDERS:
            if harmed is None or folder in harmed:
                self.put_away(f"{folder}/{group}.parquet")
            else:
                compaction.part_path(self.path, folder, group).unlink(missing_ok=True)
        for folder, unit in lost or ():
            for stage in self.stages:
                if stage.folder == folder:
                    super().set_aside(stage, unit)
