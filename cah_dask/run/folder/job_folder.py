"""The folder of a job: its lock, its journal, its log, and the parts of its stages.

Parts are the truth: one that exists is done. The journal (`journal`) repeats their receipts.
"""

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cah_dask.errors import ConfigError, DamageError, RunError
from cah_dask.groups import group_name_of
from cah_dask.run.folder import lock
from cah_dask.run.folder.journal import Commit, Journal, LastLines, Void, read_journal
from cah_dask.run.folder.listing import Listing, files_under
from cah_dask.run.stages import Kind, Stage, following
from cah_dask.run.task import Done
from cah_dask.run.unit import Unit
from cah_dask.storage import TEMPORARY, Receipt, disk_errors, read_receipt, sweep, write_atomic

logger = logging.getLogger(__name__)

JOURNAL_FILE = "journal.jsonl"
LOCK_FILE = "driver.lock"
DAMAGED_FOLDER = "damaged"
"""Where parts go that are not what was written; nothing reads them again."""
SCRATCH_FOLDER = "scratch"
"""Where local workers keep what they need while they live."""


class JobFolder:
    """One job's directory.

    Parameters
    ----------
    stages
        Those that leave parts here.
    """

    def __init__(self, path: Path, stages: tuple[Stage, ...]) -> None:
        self.path = path
        self.stages = stages
        self._journal: Journal | None = None

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

    @property
    def journal_file(self) -> Path:
        """The receipts of all parts, a line each."""
        return self.path / JOURNAL_FILE

    @property
    def failures_file(self) -> Path:
        """Every failed attempt at a unit."""
        return self.path / "logs" / "failures.jsonl"

    @contextlib.contextmanager
    def held(
        self,
        say: Callable[[str], None] = lambda _: None,
        begin: Callable[[], None] = lambda: None,
        *,
        option: str = "run_dir",
    ) -> Iterator[None]:
        """Be the one driver of this folder: lock it and open the journal.

        Parameters
        ----------
        say
            Shows a line to a person who has to wait for the lock.
        begin
            Called as soon as the folder is locked.
        option
            What says where the folder is, for the message.

        Raises
        ------
        ConfigError
            If it cannot be written.
        RunError
            If another driver is at work here.
        """
        try:
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            (self.path / f"{LOCK_FILE}.flock").touch()
        except OSError as error:
            raise ConfigError(
                f"run folder {self.path} cannot be written ({error.strerror}); set {option}"
            ) from error
        with lock.held(self.path / LOCK_FILE, say):
            sweep(self.path)
            with disk_errors(self.path):
                begin()
                self._journal = Journal(self.journal_file)
            try:
                yield
            finally:
                self._journal.close()
                self._journal = None
                # of a driver that was killed, too
                shutil.rmtree(self.path / SCRATCH_FOLDER, ignore_errors=True)

    def is_only_locked(self, *also: str) -> bool:
        """Tell whether there is nothing but what a driver makes first, and the files of `also`."""
        names = {path.name for path in self.path.iterdir()}
        first = {LOCK_FILE, f"{LOCK_FILE}.flock", "logs", *also}
        return all(name in first or name.startswith(TEMPORARY) for name in names)

    @property
    def driver(self) -> str:
        """Which process drives this run, or that none does; see `lock.state_of`."""
        return lock.state_of(self.path / LOCK_FILE)

    def has_driver(self, wait_s: float = 0.0) -> bool:
        """Tell whether a process drives this run; see `lock.is_held`."""
        return lock.is_held(self.path / LOCK_FILE, wait_s)

    @property
    def driver_elsewhere(self) -> str:
        """Who on another machine drives this run or was killed there, "" if nobody."""
        lease = lock.read_lease(self.path / LOCK_FILE)
        return "" if lease is None or lease.is_here else lease.who

    @property
    def _open_journal(self) -> Journal:
        if self._journal is None:
            raise RunError(f"{self.path} is not driven by this process")
        return self._journal

    def record(self, commit: Commit) -> None:
        """Append one commit to the journal. Only the driver of the folder may."""
        self._open_journal.record(commit)

    def commit(self, unit: Unit, done: Done) -> Commit:
        """Write down that a unit is done; return what was written."""
        entry = Commit(
            at=datetime.now(UTC),
            stage=unit.stage.name,
            unit=unit.name,
            worker=done.worker,
            seconds=round(done.seconds, 3),
            receipt=done.receipt,
            peak_mb=done.peak_mb,
        )
        self.record(entry)
        counts = done.receipt.counts
        logger.info(
            "task=%s stage=%s worker=%s seen=%d kept=%d seconds=%.2f peak_mb=%d",
            unit.name, unit.stage, done.worker, counts.seen, counts.kept, done.seconds,
            done.peak_mb,
        )  # fmt: skip
        return entry

    def commits(self) -> Iterator[Commit]:
        """Yield the commits of the journal that can be believed, oldest first."""
        return (entry for entry in self.all_entries() if isinstance(entry, Commit))

    def all_entries(self) -> Iterator[Commit | Void]:
        """Yield what the journal says, oldest first."""
        return read_journal(self.journal_file)

    def entries(self, stage: Stage) -> Iterator[Commit | Void]:
        """Yield what the journal says of one stage, oldest first."""
        return read_journal(self.journal_file, stage.name)

    def void(self, stage: str, unit: str) -> None:
        """Write down that a unit is to be done again; that is on the disk before its part goes."""
        self._open_journal.record(Void(datetime.now(UTC), stage, unit))
        self._open_journal.sync()

    def void_lost(self, lines: LastLines, listing: Listing) -> None:
        """Void the lines whose part is gone, before it is made again."""
        journal = self._open_journal
        listed = {stage.name for stage in self.stages if stage.folder}
        is_lost = listing.lacks(lines.keys)
        for stage, unit in lines.units(journal, is_lost):
            if stage in listed:
                journal.record(Void(datetime.now(UTC), stage, unit))
        if is_lost.any():
            journal.sync()

    def receipt_of(self, unit: Unit, lines: LastLines) -> Receipt | None:
        """Return what the last line of a unit says, once; None if there is none to be believed."""
        commit = lines.pop(self._open_journal, unit.stage.name, unit.name)
        return None if commit is None else commit.receipt

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
        other vectors. The same archive or bucket gives the same part again. Lists of late texts
        that took their images from this one stay as they are.
        """
        self.move_aside(stage, unit)
        for later, name in self.made_from(stage, unit, self.variants()):
            if (self.path / later.folder / f"{name}.parquet").exists():
                self.move_aside(later, name)

    def made_from(
        self, stage: Stage, unit: str, variants: Mapping[str, Sequence[str]]
    ) -> Iterator[tuple[Stage, str]]:
        """Yield stage and name of each part that may have been made from the part of a list."""
        if stage.kind is not Kind.LIST:
            return
        names = {
            Kind.LIST: unit,
            Kind.BUCKET: unit.partition("-l")[0],
            Kind.GROUP: group_name_of(unit) or unit,
        }
        for later in following(self.stages, stage.name):
            if later.folder:  # those of pack are for the release to judge
                name = names[later.kind]
                yield later, name
                yield from ((later, f"{variant}/{name}") for variant in variants[later.name])

    def variants(self) -> dict[str, list[str]]:
        """Return the variants that there are parts of, by stage; see `Unit.variant`."""
        return {
            stage.name: [
                path.name
                for path in (self.path / stage.folder).glob("*/")
                if not re.fullmatch(r"w\d+", path.name)
            ]
            for stage in self.stages
            if stage.folder
        }

    def move_aside(self, stage: Stage, unit: str) -> None:
        """Move one part to `DAMAGED_FOLDER`, and have its unit done again."""
        self.void(stage.name, unit)
        self.put_away(f"{stage.folder}/{unit}.parquet")

    def put_away(self, part: str) -> None:
        """Move a file, if it is there, to `DAMAGED_FOLDER`."""
        target = self.path / DAMAGED_FOLDER / part
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (self.path / part).replace(target)

    def forget(self) -> None:
        """Delete it, once all is done, and the folder that it lies in if nothing else does."""
        shutil.rmtree(self.path)
        with contextlib.suppress(OSError):  # another job may be at work beside it
            self.path.parent.rmdir()

    def forget_others(self) -> None:
        """Delete the folders of other jobs beside it, but those at which a driver is at work."""
        for folder in [path.parent for path in self.path.parent.glob(f"*/{LOCK_FILE}.flock")]:
            if folder != self.path:
                with contextlib.suppress(RunError), lock.held(folder / LOCK_FILE):
                    shutil.rmtree(folder, ignore_errors=True)
                with contextlib.suppress(OSError):  # a beat came meanwhile
                    folder.rmdir()

    def count_barren(self, *, has_committed: bool) -> int:
        """Note whether this attempt committed anything; return how many in a row did not."""
        path = self.path / "logs" / "barren"
        before = 0
        with contextlib.suppress(FileNotFoundError, ValueError):  # ValueError: damaged, a new count
            before = int(path.read_text())
        count = 0 if has_committed else before + 1
        write_atomic(path, str(count).encode())
        return count


class Existing:
    """Receipts of the parts that exist: from the journal where it has them, else from the parts.

    A part that a killed driver did not live to write down is added to the journal. A line without
    its part is voided before anything is done, and that is on the disk: so a line is never older
    than the part, however the driver dies that has the part made again.
    """

    def __init__(self, folder: JobFolder) -> None:
        self.folder = folder
        self.listing = self._look()
        self._lines = LastLines(folder.journal_file)
        self._gone: set[tuple[str, str]] = set()  # since the listing
        self._variants = folder.variants()
        folder.void_lost(self._lines, self.listing)

    def __call__(self, unit: Unit) -> Receipt | None:
        """Return the receipt of a unit that is done, else None.

        With a part of a list that is gone go those made from it, as `JobFolder.set_aside` says.
        """
        if not self.has(unit):
            for later, name in self._made_from(unit):
                if self._is_there(later, name):
                    self.folder.move_aside(later, name)
                    self._gone.add((later.name, name))
            return None
        known = self.known(unit)
        if known is not None:
            return known
        receipt = self._read(unit)
        if receipt is not None:
            self.folder.commit(unit, Done(receipt, receipt.seconds or 0.0, ""))
        return receipt

    def _look(self) -> Listing:
        """List what there is of all stages."""
        return Listing(
            (stage.name, files_under(self.folder.path / stage.folder))
            for stage in self.folder.stages
            if stage.folder
        )

    def has(self, unit: Unit) -> bool:
        """Tell whether the unit's part is there."""
        return self._is_there(unit.stage, unit.name)

    def _made_from(self, unit: Unit) -> Iterator[tuple[Stage, str]]:
        return self.folder.made_from(unit.stage, unit.name, self._variants)

    def _is_there(self, stage: Stage, name: str) -> bool:
        return self.listing.has(stage.name, name) and (stage.name, name) not in self._gone

    def path_of(self, unit: Unit) -> Path:
        """Return where the unit's part is, if it is there."""
        return self.folder.path / unit.part

    def known(self, unit: Unit) -> Receipt | None:
        """Return what the journal says of a unit; None if it is not to be believed."""
        return self.folder.receipt_of(unit, self._lines)

    def drop(self, unit: Unit) -> None:
        """Have a damaged part made again."""
        made_from = ((stage.name, name) for stage, name in self._made_from(unit))
        self._gone |= {(unit.stage.name, unit.name), *made_from}
        self.folder.set_aside(unit.stage, unit.name)

    def drop_all(self, stage: Stage) -> None:
        """Have all parts of a stage made again."""
        shutil.rmtree(self.folder.path / stage.folder, ignore_errors=True)
        self.listing.forget(stage.name)
        self.folder.void_lost(self._lines, self.listing)

    def _read(self, unit: Unit) -> Receipt | None:
        """Read the receipt of a part; a damaged one is made again."""
        try:
            return read_receipt(self.path_of(unit))
        except DamageError as error:
            logger.warning("%s; it is made again", error)
        self.drop(unit)
        return None
