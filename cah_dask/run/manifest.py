"""The run folder: what a run was told, what it has finished, and who is driving it.

Parts are the truth: one that exists is done. The journal (`journal`) repeats their receipts.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from cah_dask.candidates.exclusion import load_optouts
from cah_dask.candidates.sources import public_names
from cah_dask.errors import ConfigError, DamageError, RunError
from cah_dask.release.layout import part_path, read_layout
from cah_dask.release.summary import StageSummary, Summary
from cah_dask.run import config as configuration
from cah_dask.run import lease
from cah_dask.run.config import Config, Loaded
from cah_dask.run.journal import Commit, Journal, Void, latest, read_journal
from cah_dask.run.plan import Unit
from cah_dask.run.stages import DOWNLOAD, EMBED, PACK, RUN, SELECT, Kind, Stage, following
from cah_dask.schema import Counts
from cah_dask.storage import (
    TEMPORARY,
    Receipt,
    SideFile,
    disk_errors,
    read_receipt,
    sweep,
    write_atomic,
)

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.yaml"
ARCHIVES_FILE = "archives.jsonl"
JOURNAL_FILE = "journal.jsonl"
LOCK_FILE = "driver.lock"
DAMAGED_FOLDER = "damaged"
"""Where parts go that are not what was written; nothing reads them again."""
RELEASE = "release"
SCRATCH_FOLDER = "scratch"
"""Where local workers keep what they need while they live."""


class RunFolder:
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
        self.path = path
        self.release = release or path / RELEASE
        self.stages = stages
        self._journal: Journal | None = None

    @property
    def unfinished_release(self) -> Path:
        """The release while it is written."""
        return self.release.with_name(f"{self.release.name}.partial")

    @property
    def old_release(self) -> Path:
        """The release before, for the moment in which a new one gets its name."""
        return self.release.with_name(f"{self.release.name}.old")

    @property
    def pause_file(self) -> Path:
        """Downloads stop within seconds while this file exists."""
        return self.path / "PAUSE"

    @property
    def optout_file(self) -> Path:
        """Hosts, one a line, that are not asked any more; read at the start of each list."""
        return self.path / "OPTOUT"

    @property
    def secrets(self) -> Path:
        """Certificate, key and token of who drives the run; for the eyes of this user only."""
        return self.path / "secrets" / str(os.getuid())

    @property
    def dashboard_file(self) -> Path:
        """How to open the dashboard of the driver at work; for the owner's eyes only."""
        return self.path / "dashboard.txt"

    @property
    def log_file(self) -> Path:
        """One line per finished task, and what a person should know."""
        return self.path / "logs" / "driver.log"

    def seen_path(self, bucket: int, wave: int) -> Path:
        """Keys of the rows that dedup kept in one bucket, of some waves up to this one.

        Sorted, 16 bytes each; see `candidates.seen`.
        """
        return self.path / "seen" / f"b{bucket:05d}" / f"w{wave:05d}.npy"

    def fetched_path(self, bucket: int, wave: int) -> Path:
        """Keys of the urls that the lists of one bucket fetch, likewise, 24 bytes each."""
        return self.seen_path(bucket, wave).with_suffix(".urls.npy")

    def robots_path(self, bucket: int) -> Path:
        """Robots.txt of the hosts of one bucket, a cache: see `images.robotsfile`."""
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
        try:
            self._require_same(loaded.config, archives)
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            (self.path / f"{LOCK_FILE}.flock").touch()
        except OSError as error:
            raise ConfigError(
                f"run folder {self.path} cannot be written ({error.strerror}); set run_dir"
            ) from error
        with lease.held(self.path / LOCK_FILE, say):
            self._require_same(loaded.config, archives)  # nobody else changes it from here on
            sweep(self.path)
            sweep(self.unfinished_release)
            with disk_errors(self.path):
                self._write_down(loaded, archives)
                self._journal = Journal(self.path / JOURNAL_FILE)
            try:
                yield
            finally:
                self._journal.close()
                self._journal = None
                self._tidy()

    def _write_down(self, loaded: Loaded, archives: Sequence[str]) -> None:
        """Keep what the run was told, and what this release of it is told."""
        path = self.path / CONFIG_FILE
        if not path.exists():
            lines = b"".join(msgspec.json.encode(name) + b"\n" for name in archives)
            write_atomic(self.path / ARCHIVES_FILE, lines)
        elif configuration.variants(self.config()) == configuration.variants(loaded.config):
            return
        write_atomic(path, configuration.render(loaded).encode())

    def _tidy(self) -> None:
        """Leave nothing behind that only a driver at work needs, be it of one that was killed."""
        shutil.rmtree(self.path / SCRATCH_FOLDER, ignore_errors=True)
        if self.release.exists():
            shutil.rmtree(self.old_release, ignore_errors=True)

    def _require_same(self, config: Config, archives: Sequence[str]) -> None:
        if not (self.path / CONFIG_FILE).exists():
            if self.path.is_dir() and any(self.path.iterdir()) and not self._is_only_locked():
                raise ConfigError(
                    f"run folder {self.path} holds other files and no {CONFIG_FILE}; "
                    "set run_dir to a new or empty folder"
                )
            return
        before = configuration.run_settings(self.config())
        now = configuration.run_settings(config)
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key):
                raise ConfigError(
                    f"run folder {self.path} was started with {key}: {before.get(key)!r}, now it "
                    f"is {now.get(key)!r}; restore it or set run_dir to a new folder"
                )
        if self.archives() != list(archives):
            raise ConfigError(
                f"the inputs of {self.path} were {len(self.archives())} archives and are now "
                f"{len(archives)} other ones; restore them or set run_dir to a new folder"
            )

    def _is_only_locked(self) -> bool:
        """Whether the folder holds nothing but what a driver makes before its config."""
        names = {path.name for path in self.path.iterdir()}
        before_config = {LOCK_FILE, f"{LOCK_FILE}.flock", "logs", ARCHIVES_FILE}
        return all(name in before_config or name.startswith(TEMPORARY) for name in names)

    def require_place_for_release(self) -> None:
        """Raise ConfigError if there is anything but a release where the release shall go."""
        path = self.release
        if path.exists() and not (path.is_dir() and (read_layout(path) or not any(path.iterdir()))):
            raise ConfigError(
                f"{path} holds something else than a release; name a new folder, or move it away"
            )

    def driver(self, wait_s: float = 0.0) -> str:
        """Say which process drives this run, or that none does; see `lease.state_of`."""
        return lease.state_of(self.path / LOCK_FILE, wait_s)

    def odd_optouts(self) -> list[str]:
        """Say which lines of `optout_file` mean no host; they are ignored."""
        return load_optouts(self.optout_file)[1] if self.optout_file.exists() else []

    def config(self) -> Config:
        """Return the configuration that the run was started with.

        Raises
        ------
        ConfigError
            If the folder is no run folder.
        """
        if not (self.path / CONFIG_FILE).is_file():
            raise ConfigError(f"{self.path} is not a run folder: it has no {CONFIG_FILE}")
        return configuration.load(self.path / CONFIG_FILE).config

    def archives(self) -> list[str]:
        """Return the archives of the run in canonical order.

        Raises
        ------
        DamageError
            If the list of them is lost or damaged.
        """
        path = self.path / ARCHIVES_FILE
        try:
            lines = path.read_bytes().split(b"\n")
            return [msgspec.json.decode(line, type=str) for line in lines if line]
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DamageError(
                path, f"{error}; restore it or set run_dir to a new folder"
            ) from error

    def record(self, commit: Commit) -> None:
        """Append one commit to the journal. Only the driver of the folder may."""
        if self._journal is None:
            raise RunError(f"{self.path} is not driven by this process")
        self._journal.record(commit)

    def commits(self) -> Iterator[Commit]:
        """Yield the commits of the journal that can be believed, oldest first."""
        entries = read_journal(self.path / JOURNAL_FILE)
        return (entry for entry in entries if isinstance(entry, Commit))

    def void(self, stage: str, unit: str) -> None:
        """Write down that a unit is to be done again."""
        if self._journal is None:
            raise RunError(f"{self.path} is not driven by this process")
        self._journal.record(Void(datetime.now(UTC), stage, unit))

    def maker_of(self, part: Path) -> tuple[Stage, str] | None:
        """Return stage and name of the unit that made a part, None if it is no part of the run."""
        if not part.is_relative_to(self.path.resolve()):
            return None
        folder, *rest = part.relative_to(self.path.resolve()).parts
        stage = next((stage for stage in self.stages if stage.folder == folder), None)
        return None if stage is None else (stage, "/".join(rest).removesuffix(".parquet"))

    def set_aside(self, stage: Stage, unit: str) -> None:
        """Move a damaged part out of the way, so that its unit is done again at the next start.

        With a part of a list go those made from it: images are fetched anew, and another GPU gives
        other vectors. The same archive or bucket gives the same part again.
        """
        self._move_aside(stage, unit)
        if stage.kind is not Kind.LIST:
            return
        bucket = unit.partition("-l")[0]
        for later in following(self.stages, stage.name):
            name = unit if later.kind is Kind.LIST else bucket
            folder = self.path / later.folder
            for part in (*folder.glob(f"{name}.parquet"), *folder.glob(f"*/{name}.parquet")):
                self._move_aside(later, part.relative_to(folder).as_posix()[: -len(".parquet")])

    def _move_aside(self, stage: Stage, unit: str) -> None:
        part = f"{stage.folder}/{unit}.parquet"
        target = self.path / DAMAGED_FOLDER / part
        target.parent.mkdir(parents=True, exist_ok=True)
        self.void(stage.name, unit)
        with contextlib.suppress(FileNotFoundError):
            (self.path / part).replace(target)

    def count_barren(self, *, has_committed: bool) -> int:
        """Note whether this attempt committed anything; return how many in a row did not."""
        path = self.path / "logs" / "barren"
        before = 0
        with contextlib.suppress(FileNotFoundError, ValueError):  # ValueError: damaged, a new count
            before = int(path.read_text())
        count = 0 if has_committed else before + 1
        write_atomic(path, str(count).encode())
        return count

    def drop_images(self, unit: Unit) -> None:
        """Delete the image shard of an embedded fetch list; its outcomes stay."""
        part = self.path / Unit(DOWNLOAD, unit.wave, unit.bucket, unit.number).part
        if not part.exists():
            return  # a list of late texts fetched nothing
        for side in read_receipt(part).side:
            part.with_name(side.name).unlink(missing_ok=True)

    def summary(self) -> Summary:
        """Add up the journal: what became of every row so far, stage by stage."""
        config = self.config()
        variants = configuration.variants(config)
        commits = {
            (stage, name): commit
            for (stage, name), commit in latest(self.path / JOURNAL_FILE).items()
            if stage not in variants or name.startswith(f"{variants[stage]}/")
        }
        stages = {stage.name: StageSummary(0, Counts(), 0.0, stage.rows) for stage in self.stages}
        for commit in commits.values():
            so_far = stages[commit.stage]
            stages[commit.stage] = msgspec.structs.replace(
                so_far,
                tasks=so_far.tasks + 1,
                counts=so_far.counts + commit.receipt.counts,
                seconds=so_far.seconds + commit.seconds,
            )
        names = public_names(self.archives())
        times = [commit.at for commit in commits.values()]
        return Summary(
            stages=stages,
            archives=list(names.values()),
            lost=[
                _called(names, commit.receipt.inputs[0], error)
                for _, commit in sorted(commits.items())
                for error in commit.receipt.errors
            ],
            started=min(times, default=None),
            finished=max(times, default=None),
            versions=next(iter(commits.values())).receipt.versions if commits else {},
            settings=configuration.published_settings(config),
            thresholds=config.select.thresholds,
            selected=[
                f"{SELECT.folder}/{name}.parquet"
                for stage, name in sorted(commits)
                if stage == SELECT.name
            ],
        )

    def existing(self) -> "Existing":
        """Return what is finished, by looking at the parts that exist."""
        return Existing(self)


def _called(names: Mapping[str, str], archive: str, error: str) -> str:
    """Say what was lost of an archive, by the name that it has in what is published."""
    name = names.get(archive, archive)
    return f"{name}: {error.replace(archive, name).removeprefix(f'{name}: ')}"


class Existing:
    """Receipts of the parts that exist: from the journal where it has them, else from the parts.

    A part that a killed driver did not live to write down is added to the journal.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        start = len(f"{folder.path}/")
        self._names = {
            str(path)[start:]
            for top in {stage.folder for stage in folder.stages} - {""}
            for path in (folder.path / top).glob("**/w*/*")
        }
        self._receipts = {
            key: commit.receipt for key, commit in latest(folder.path / JOURNAL_FILE).items()
        }
        self._shards: dict[str, set[str]] = {}
        for name in self._names:
            if name.endswith(".h5"):
                self._shards.setdefault(name.rpartition("-")[0], set()).add(name)

    def __call__(self, unit: Unit) -> Receipt | None:
        """Return the receipt of a unit that is done, else None."""
        path = self._path(unit)
        if path is None:
            self._drop_orphans(unit, ())
            return None
        known = self._receipts.pop((unit.stage.name, unit.name), None)
        receipt = known if unit.stage != PACK else None  # an older release had such a part, too
        if receipt is None:
            receipt = self._read(unit, path)
            if receipt is None:
                return None
        if receipt != known:
            self._folder.record(
                Commit(
                    at=datetime.now(UTC),
                    stage=unit.stage.name,
                    unit=unit.name,
                    worker="",
                    seconds=receipt.seconds or 0.0,
                    receipt=receipt,
                )
            )
        if unit.stage == DOWNLOAD and self._lacks_images(unit, receipt):
            self._folder.void(unit.stage.name, unit.name)
            path.unlink()
            self._drop_orphans(unit, ())
            return None
        self._drop_orphans(unit, receipt.side)
        return receipt

    def _read(self, unit: Unit, path: Path) -> Receipt | None:
        """Read the receipt of a part; a damaged one is set aside and made again."""
        try:
            return read_receipt(path)
        except DamageError as error:
            logger.warning("%s; it is made again", error)
        if unit.stage == PACK:
            path.unlink()
        else:
            self._folder.set_aside(unit.stage, unit.name)
        return None

    def _drop_orphans(self, unit: Unit, side: Sequence[SideFile]) -> None:
        """Delete image shards of attempts that died before their part was published."""
        if unit.stage != DOWNLOAD:
            return
        folder, _, stem = unit.part.removesuffix(".parquet").rpartition("/")
        wanted = {f"{folder}/{file.name}" for file in side}
        for name in self._shards.pop(f"{folder}/{stem}", set()) - wanted:
            (self._folder.path / name).unlink(missing_ok=True)

    def _path(self, unit: Unit) -> Path | None:
        """Return where the unit's part is, or None where it is not."""
        if unit.stage == PACK:
            path = part_path(self._folder.unfinished_release, unit.number)
            return path if path.exists() else None
        return self._folder.path / unit.part if unit.part in self._names else None

    def _lacks_images(self, unit: Unit, receipt: Receipt) -> bool:
        """Whether images that are still to be embedded are gone: the list is downloaded again."""
        folder = unit.part.rpartition("/")[0]
        embedded = Unit(EMBED, unit.wave, unit.bucket, unit.number).part in self._names
        return not embedded and any(
            f"{folder}/{side.name}" not in self._names for side in receipt.side
        )
