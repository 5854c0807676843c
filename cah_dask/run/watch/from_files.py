"""The figures of a run from its folder alone, be the run alive, over, or a copy."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from cah_dask.counts import Counts, CountsSum
from cah_dask.groups import group_name_of
from cah_dask.release.layout import PAIRS_FOLDER, Layout, read_layout
from cah_dask.run.folder.faults import Faults
from cah_dask.run.folder.job_folder import JOURNAL_FILE
from cah_dask.run.folder.journal import Commit, LastLines, Void
from cah_dask.run.folder.lost import LATE_FILE, read_late_waves
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.folder.run_settings import ARCHIVES_FILE, CONFIG_FILE
from cah_dask.run.stages import COMPACT, DEDUP, DOWNLOAD, EMBED, EXTRACT, PACK, SELECT
from cah_dask.run.watch.figures import (
    AT_WORK,
    NOT_DRIVEN,
    PACKED,
    PAUSED,
    PUBLISHED,
    Figures,
    ListsFigures,
)
from cah_dask.run.watch.history import History
from cah_dask.run.watch.lists import lists_at_work
from cah_dask.run.watch.view import Beside, Facts, Tasks, facts, figures


class _Added:
    """The commits of a run, added up."""

    def __init__(self, known: Facts) -> None:
        self._facts = known
        self.history = History(known.stages)
        self._done: Counter[str] = Counter()
        self._counts = {stage.name: CountsSum() for stage in known.stages}
        self._groups: set[str] = set()
        self._staged: dict[str, int] = {}
        self._packed: dict[str, Counts] = {}
        self.faults = Faults()

    def add(self, commit: Commit) -> None:
        stage, unit, counts = commit.stage, commit.unit, commit.receipt.counts
        if stage not in self._counts or not self._facts.is_about(stage, unit):
            return
        self.history.add(commit)
        self.faults.add(commit)
        if stage == PACK.name:  # of a release that is made anew the last line counts
            self._packed[unit.rpartition("/")[2]] = counts
            return
        self._done[stage] += 1
        self._counts[stage].add(counts)
        if stage == DEDUP.name and counts.notes["lists"] + counts.notes["late_lists"]:
            self._groups.add(group_name_of(unit) or unit)
        if stage == DOWNLOAD.name:
            self._staged[unit] = sum(side.n_bytes for side in commit.receipt.side)
        if stage == EMBED.name:
            self._staged.pop(unit, None)

    @property
    def staged(self) -> int:
        return sum(self._staged.values())

    @property
    def deduped(self) -> Counts:
        return self._counts[DEDUP.name].total

    def tasks(self, n_archives: int, n_waves: int, *, is_driven: bool) -> Tasks:
        """Return what is known to be done and to do, `is_driven` by a driver at work."""
        n_shards, packed = self._shards(is_driven=is_driven)
        done = {**self._done, PACK.name: len(packed)}
        counts = {name: each.total for name, each in self._counts.items()}
        counts[PACK.name] = sum(packed.values(), Counts())
        notes = self.deduped.notes
        lists, late = notes.get("lists", 0), notes.get("late_lists", 0)
        known = {
            EXTRACT.name: n_archives,
            DEDUP.name: n_waves * self._facts.buckets,
            DOWNLOAD.name: lists,
            EMBED.name: lists + late,
            SELECT.name: len(self._groups),
            COMPACT.name: len(self._groups),
            PACK.name: n_shards,
        }
        return Tasks(known=known, done=done, counts=counts)

    def is_packed(self, tasks: Tasks) -> bool:
        """Tell whether all is done, and all that was selected is in shards, wherever they lie.

        No release waits for compaction, which a driver may have been told to leave.
        """
        kept = {name: each.kept for name, each in tasks.counts.items()}
        needed = kept.keys() - {COMPACT.name}
        is_done = all(tasks.done.get(name, 0) == tasks.known[name] for name in needed)
        return is_done and tasks.done[PACK.name] > 0 and kept[PACK.name] == kept[SELECT.name]

    def _shards(self, *, is_driven: bool) -> tuple[int, dict[str, Counts]]:
        """Return how many shards the release has, and those that are there with their rows.

        Without a release these are those of one that went elsewhere; a driver at work has yet to
        begin it.
        """
        folder, packed = self._facts.folder, self._packed
        for release in (folder.unfinished_release, folder.release):
            layout = _layout(release, self._facts.variants[PACK.name])
            if layout is not None:
                there = {path.stem for path in (release / PAIRS_FOLDER).glob("*.parquet")}
                return layout.shards, {name: packed[name] for name in packed if name in there}
        return (0, {}) if is_driven else (len(packed), packed)


class FromFiles:
    """The figures of a run as its files tell them; only what is new is read again.

    Raises
    ------
    ConfigError
        If the folder is no run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._begin()

    def _begin(self) -> None:
        self._beside = self._look_beside()
        config = self._folder.config()
        self._facts = facts(config, self._folder)
        self._added = _Added(self._facts)
        self._lines = LastLines(self._folder.path / JOURNAL_FILE)
        self._add(self._lines.commits())
        archives, late = len(self._folder.archives()), read_late_waves(self._folder)
        self._n_archives = archives + sum(map(len, late))
        self._n_waves = -(-archives // config.archives_per_wave) + len(late)

    def _look_beside(self) -> list[tuple[int, int]]:
        """Return when the files were last changed that say what the run is to do."""
        files = (self._folder.path / name for name in (CONFIG_FILE, ARCHIVES_FILE, LATE_FILE))
        found = [path.stat() for path in files if path.exists()]
        return [(each.st_mtime_ns, each.st_ino) for each in found]

    def _add(self, entries: Iterable[Commit | Void]) -> None:
        for entry in entries:
            if isinstance(entry, Commit):
                self._added.add(entry)

    def figures(self, *, wait_s: float = 0.0) -> Figures:
        """Return the figures.

        Parameters
        ----------
        wait_s
            Seconds that may pass until a driver on another machine shows that it lives.
        """
        later = self._lines.later()
        is_void = any(isinstance(each, Void) for each in later)
        if is_void or self._look_beside() != self._beside:
            self._begin()  # something is to be done again, or something else
        else:
            self._add(later)
        added, is_driven = self._added, self._folder.has_driver(wait_s)
        tasks = added.tasks(self._n_archives, self._n_waves, is_driven=is_driven)
        is_packed = added.is_packed(tasks)
        beside = Beside(
            state=state_of(self._folder, self._settings, is_driven=is_driven, is_packed=is_packed),
            staged=added.staged,
            at_work=lists_at_work(self._folder) if is_driven else ListsFigures(),
        )
        return figures(self._facts, tasks, added.history, beside, datetime.now(UTC))

    @property
    def _settings(self) -> str:
        """What tells releases of the settings that the run has now from others."""
        return self._facts.variants[PACK.name]

    def release(self, figures: Figures) -> list[str]:
        """Say where the release in the folder is, if there is one, and if `figures` are of more."""
        release = self._folder.release
        if not release.exists():
            return []
        layout = read_layout(release)
        if layout is None:
            what = " (damaged: its layout cannot be read)"
        elif layout.config != self._settings:
            what = " (older: made with other settings of select or pack than what is told above)"
        else:
            what = "" if figures.state == PUBLISHED else " (older: made before what is told above)"
        return [f"release: {release}{what}"]

    @property
    def deduped(self) -> Counts:
        """What dedup told when the last figures were made."""
        return self._added.deduped

    def faults(self) -> list[str]:
        """Return what could not be read of the inputs, and why, as of then."""
        return self._added.faults.lines(self._folder.index_dir / JOURNAL_FILE)


def state_of(folder: RunFolder, settings: str, *, is_driven: bool, is_packed: bool) -> str:
    """Return the state of a run.

    Parameters
    ----------
    settings
        What `identity.config_hash` says of those that the run has now.
    is_driven
        Whether a driver is at work.
    is_packed
        Whether all is done, and all that was selected is in shards.
    """
    if is_driven:
        return PAUSED if folder.pause_file.exists() else AT_WORK
    if not is_packed or _layout(folder.unfinished_release, settings) is not None:
        return NOT_DRIVEN
    if _layout(folder.release, settings) is not None:
        return PUBLISHED
    return NOT_DRIVEN if folder.unfinished_release.exists() else PACKED


def _layout(release: Path, settings: str) -> Layout | None:
    """Return the layout of a release, None if there is none of these settings."""
    layout = read_layout(release)
    return layout if layout is not None and layout.config == settings else None
