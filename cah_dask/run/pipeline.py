"""The job of `cah run`: from archives to a published release."""

import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import msgspec
import pyarrow.compute as pc

from cah_dask.errors import DamageError
from cah_dask.images.manners.turns import Turns
from cah_dask.pairs.fractions import top_fractions
from cah_dask.pairs.scores.numbers import Scores
from cah_dask.pairs.select import SelectOptions
from cah_dask.release.summary import similarity_histogram
from cah_dask.run.cluster.lending import lend_hosts
from cah_dask.run.cluster.machine import DaskMachine
from cah_dask.run.crawl_work import Crawl
from cah_dask.run.driver import Driver
from cah_dask.run.folder.lost import late_waves
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.folder.run_settings import settle
from cah_dask.run.indexing.job import IndexJob
from cah_dask.run.jobs import carry_out
from cah_dask.run.plan import Plan
from cah_dask.run.pools import pools
from cah_dask.run.publish import Publisher
from cah_dask.run.session import Session, View
from cah_dask.run.settings.config import Config
from cah_dask.run.settings.identity import variants
from cah_dask.run.settings.pinned_lists import map_lists
from cah_dask.run.signals import Signals
from cah_dask.run.stages import COMPACT, DEDUP, DOWNLOAD, PACK, SELECT, Stage
from cah_dask.run.watch.figures import NOT_DRIVEN, PUBLISHED
from cah_dask.run.watch.live import Watch
from cah_dask.run.watch.view import facts
from cah_dask.schema import Split, similarity_of
from cah_dask.storage import disk_errors


class Ending(Enum):
    """How an attempt to carry a run to its end came out."""

    PUBLISHED = "published"
    SCORED = "scored"
    """Only the thresholds of the release are still to be found."""
    STOPPED = "stopped"
    OUT_OF_TIME = "out of time"
    INCOMPLETE = "incomplete"


def ending_of(kind: signal.Signals) -> Ending:
    """Return how a run ends that a signal stopped."""
    return Ending.OUT_OF_TIME if kind is signal.SIGUSR2 else Ending.STOPPED


def run(  # noqa: PLR0913  # each is a fact of the run
    config: Config,
    folder: RunFolder,
    view: View,
    signals: Signals,
    places: Mapping[str, str],
    require_for: Callable[[Collection[Stage]], None] = lambda _: None,
    *,
    sources: Mapping[str, str] = MappingProxyType({}),
) -> Ending:
    """Carry the run to its end, or as far as it gets; `folder` must be driven by this process.

    Parameters
    ----------
    places
        Where each archive lies that is not extracted yet, by its name.
    require_for
        Told before any task which stages are left; raises ConfigError for what they lack.
    sources
        Where archives and CDX files lie that pictures come from, by their names, if the run makes
        an index of them.

    Raises
    ------
    RunError
        When a person must look: the disk is full, the run folder is damaged.
    Stopped
        When a signal came before the first task or after the last one.
    """

    def attempts(late: Sequence[Sequence[str]]) -> _Attempts:
        def attempt(config: Config, stages: tuple[Stage, ...]) -> Ending:
            made = _Attempt(config, folder, view, signals, places, late, stages, sources)
            return made.carry_out(require_for)

        return attempt

    folder.retry_file.unlink(missing_ok=True)  # this start tries all again anyway
    while True:
        late = late_waves(folder)  # once for all stages, as it takes away parts and adds a wave
        ending = _carry_out(config, folder, view, attempts(late))
        if ending is not Ending.INCOMPLETE or not folder.retry_file.exists():
            return ending
        folder.retry_file.unlink()
        view.say("what was given up is tried again, as `cah retry` asked for")


_Attempts: TypeAlias = Callable[[Config, tuple[Stage, ...]], Ending]
"""Carries some stages of a run to their end, or as far as it gets."""


def _carry_out(config: Config, folder: RunFolder, view: View, attempt: _Attempts) -> Ending:
    """Carry all stages of a run to their end; where shares are to be kept, first those before."""
    stages = tuple(stage for stage in folder.stages if config.compact or stage != COMPACT)
    if config.select.top_fraction:
        scoring = tuple(stage for stage in stages if stage not in (SELECT, COMPACT, PACK))
        ending = attempt(config, scoring)
        if ending is not Ending.SCORED:
            return ending
        select = _with_thresholds(config.select, folder, view)
        config = msgspec.structs.replace(config, select=select)
        settle(folder.path, select)
    return attempt(config, stages)


def _with_thresholds(select: SelectOptions, folder: RunFolder, view: View) -> SelectOptions:
    """Find the thresholds that keep the shares that were asked for."""
    similarity = similarity_of(select.encoder or "")  # preflight names it
    bins = similarity_histogram(folder.summary())

    def scores() -> Iterator[dict[Split, Scores]]:
        for table in folder.scored(["split", similarity]):
            yield {
                split: table.filter(pc.equal(table["split"], split))[similarity].to_numpy()
                for split in select.top_fraction
            }

    try:
        found = top_fractions(bins, select.top_fraction, scores)
    except DamageError as error:
        _set_aside(folder, error.path)
        raise
    for split, fraction in select.top_fraction.items():
        view.say(
            f"the top {fraction:g} of {sum(bins.get(split, {}).values()):,} {split} samples have a "
            f"similarity of at least {found[split]:.6f}"
        )
    return msgspec.structs.replace(select, thresholds={**select.thresholds, **found})


def _set_aside(folder: RunFolder, part: Path) -> None:
    """Have a damaged part made again by the next start."""
    maker = folder.maker_of(part.resolve())
    if maker is not None:
        folder.set_aside(*maker)


class _Attempt:
    """One attempt to carry some stages of a run to their end."""

    def __init__(  # noqa: PLR0913, PLR0917  # each is a fact of the run
        self,
        config: Config,
        folder: RunFolder,
        view: View,
        signals: Signals,
        places: Mapping[str, str],
        late: Sequence[Sequence[str]],
        stages: tuple[Stage, ...],
        sources: Mapping[str, str],
    ) -> None:
        self._config = config
        self._folder = folder
        self._view = view
        self._signals = signals
        self._places = places
        self._sources = sources
        self._plan = Plan(
            folder.archives(),
            archives_per_wave=config.archives_per_wave,
            buckets=config.dedup.buckets,
            committed=folder.existing(keep_images=config.keep_images),
            staged_limit=config.staged_gb * 1e9,
            late=late,
            stages=stages,
            variants=variants(config),
        )
        self._publisher = Publisher(config, folder, self._plan)
        self._watch = Watch(facts(config, folder), self._plan)

    def carry_out(self, require_for: Callable[[Collection[Stage]], None]) -> Ending:
        """Do what is left of the stages, and publish if a release is among it."""
        state = NOT_DRIVEN
        try:
            ending = self._carry_out(require_for)
            if ending is Ending.PUBLISHED:
                state = PUBLISHED
            return ending
        finally:
            self._watch.end(state)

    def _carry_out(self, require_for: Callable[[Collection[Stage]], None]) -> Ending:
        plan, publisher, view = self._plan, self._publisher, self._view
        if publisher.is_published():
            return Ending.PUBLISHED
        if not plan.is_done(plan.stages):
            require_for(plan.left())
        if plan.left()[0] == SELECT:
            view.say("everything is scored: only a selection is to be made, without web or model")
        with disk_errors(self._folder.path):
            if PACK in plan.stages or not plan.is_done(plan.stages):
                ending = self._work()
                if ending is not None:
                    return ending
            if publisher.too_many_lost:
                view.warn(publisher.too_many_lost)
            if plan.failed or publisher.too_many_lost:
                return Ending.INCOMPLETE
            if PACK not in plan.stages:
                return Ending.SCORED
            if publisher.has_begun:
                publisher.publish()
        return Ending.PUBLISHED

    def _work(self) -> Ending | None:
        """Have the pools that still have work do it; say how that ended if not all is done."""
        config, folder, plan = self._config, self._folder, self._plan
        left = set(plan.left())
        if left & {DEDUP, DOWNLOAD}:
            map_lists(config, folder.lists_dir)
        if DOWNLOAD in left and self._sources:
            ending = self._index()
            if ending is not None:
                return ending
        found = pools(config.pools, config.slurm.launch, plan.stages)
        needed = [pool for pool in found if left & set(pool.stages)]
        watch = self._watch
        watch.remember()

        @contextlib.asynccontextmanager
        async def around(driver: Driver, machine: DaskMachine) -> AsyncIterator[None]:
            lend_hosts(machine.scheduler, Turns(config.dedup.buckets))
            watch.begin(driver, machine, needed, folder.pool_times_file)
            async with machine.shows(watch):
                try:
                    yield
                finally:
                    watch.last_look()
                    self._view.look(partial(watch.figures, with_pairs=False), at_once=True)

        session = Session(
            folder,
            needed,
            config.slurm,
            max_attempts=config.max_attempts,
            around=around,
            performance=Path(config.performance_report) if config.performance_report else None,
        )
        crawl = Crawl(config, folder, plan, self._publisher, self._view, self._places, watch)
        stopped_by = session.carry_out(plan, crawl, self._view, self._signals)
        return None if stopped_by is None else ending_of(stopped_by)

    def _index(self) -> Ending | None:
        """Index the archives that pictures come from; say how that ended if it is not done."""
        config = self._config
        job = IndexJob(self._sources, self._folder.index_dir, config.dedup.buckets)
        if job.is_complete:
            job.renew()
            return None
        self._view.say("pictures come from archives: these are indexed first")
        with job.folder.held(self._view.say):
            ended = carry_out(job, (config.pools, config.slurm), self._view, self._signals)
        for error in ended.errors:
            self._view.warn(error)
        if ended.stopped_by is not None:
            return ending_of(ended.stopped_by)
        return None if ended.is_complete else Ending.INCOMPLETE
