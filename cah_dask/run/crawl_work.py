"""A crawl as its driver sees it: what a worker is told of a unit, what follows from the answer."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from cah_dask.run.folder.job_folder import JobFolder
from cah_dask.run.folder.lost import write_lost
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.indexing.tasks import INDEX
from cah_dask.run.pace import Named
from cah_dask.run.plan import Plan
from cah_dask.run.pools import pools
from cah_dask.run.publish import Publisher
from cah_dask.run.session import FolderWork, View
from cah_dask.run.settings.config import Config
from cah_dask.run.settings.identity import config_hash, run_hash
from cah_dask.run.stages import DEDUP, DOWNLOAD, EMBED, EXTRACT, PACK
from cah_dask.run.task import Done
from cah_dask.run.tasks.candidates import without_place
from cah_dask.run.tasks.crawl_task import CrawlTask
from cah_dask.run.unit import Unit
from cah_dask.run.watch.live import Watch


def lists_at_once(config: Config) -> int:
    """Return how many fetch lists may be in flight at most: each has a share of the budgets."""
    buckets = config.dedup.buckets  # one list of each
    for pool in pools(config.pools, config.slurm.launch):
        if DOWNLOAD in pool.stages:
            jobs = min(pool.max_jobs, config.slurm.max_jobs)
            return min(buckets, pool.workers if pool.job is None else jobs * pool.processes)
    return buckets


class Crawl(FolderWork):
    """A crawl as its driver sees it (`driver.Work`)."""

    folder: RunFolder

    def __init__(  # noqa: PLR0913, PLR0917  # each is a fact of the run
        self,
        config: Config,
        folder: RunFolder,
        plan: Plan,
        publisher: Publisher,
        view: View,
        places: Mapping[str, str],
        watch: Watch,
    ) -> None:
        super().__init__(folder)
        self._watch = watch
        self._config = config
        self._run_hash = run_hash(config)
        self._release_hash = config_hash(config)
        self._plan = plan
        self._publisher = publisher
        self._view = view
        self._places = places
        self._named = Named(config.download.hosts)
        self._is_paused = False

    def owns(self, path: str) -> bool:
        """Tell whether a file is one that the run can make again."""
        return super().owns(path) or self._is_of_index(path)

    def set_aside(self, path: str) -> None:
        """Have the next start make a damaged file again."""
        if self._is_of_index(path):
            index = self.folder.index_dir
            JobFolder(index, INDEX).put_away(str(Path(path).relative_to(index.resolve())))
        else:
            super().set_aside(path)

    def _is_of_index(self, path: str) -> bool:
        return JobFolder(self.folder.index_dir, INDEX).maker_of(Path(path)) is not None

    def task(self, unit: Unit, *, is_last_attempt: bool) -> CrawlTask:
        """Return what a worker is told about a unit."""
        inputs: tuple[str, ...] = ()
        if unit.stage == DEDUP:
            inputs = tuple(extract.part for extract in self._plan.wave(unit.wave))
        return CrawlTask(
            run_dir=str(self.folder.path.resolve()),
            unit=unit,
            config=self._config,
            config_hash=self._release_hash if unit.variant else self._run_hash,
            place=self._places.get(unit.archive, ""),
            inputs=inputs,
            late_waves=tuple(self._plan.late_waves(unit.wave)) if unit.stage == DEDUP else (),
            release=str(self.folder.unfinished_release.resolve()),
            slices=self._publisher.slices(unit) if unit.stage == PACK else (),
            lists_at_once=lists_at_once(self._config),
            is_last_attempt=is_last_attempt,
        )

    def done(self, unit: Unit, done: Done) -> None:
        """Write down that a unit is done, and see what that makes possible."""
        commit = self.folder.commit(unit, done)
        self._watch.add(commit)
        self._plan.complete(unit, done.receipt)
        for error in done.receipt.errors:
            self._view.warn(f"{unit.archive or unit.name}: {error}")
        if unit.stage == DEDUP:
            for line in self._named.news(done.receipt.counts):
                self._view.say(line)
        if unit.stage == EMBED and not self._config.keep_images:
            self.folder.drop_images(unit)

    def given_up(self, unit: Unit, reason: str, attempts: int) -> None:
        """Let the run go on without a unit; an archive is taken up again by the next start."""
        if unit.stage == EXTRACT:
            reason = without_place(reason, self._places.get(unit.archive, ""), unit.archive)
            receipt = write_lost(self.folder, unit, self._run_hash, reason)
            self.done(unit, Done(receipt, 0.0, ""))
            return
        self._plan.fail(unit, reason)
        self._view.warn(f"{unit.stage} {unit.name} is given up after {attempts} attempts: {reason}")

    def look(self) -> None:
        """Show how far it is; say when downloads are paused: the tasks see to that themselves."""
        self._watch.look()
        self._view.look(partial(self._watch.figures, with_pairs=False))
        asks_hosts = self._config.download.source == "web"
        is_paused = asks_hosts and self.folder.pause_file.exists()
        if is_paused and not self._is_paused:
            self._view.warn(f"downloads are paused: remove {self.folder.pause_file} to go on")
        if self._is_paused and not is_paused:
            self._view.warn("downloads go on")
        self._is_paused = is_paused

    def more(self) -> bool:
        """Begin the release once everything else is done."""
        publisher = self._publisher
        if publisher.has_begun or not publisher.may_begin() or publisher.is_published():
            return False
        self._publisher.create()
        return True
