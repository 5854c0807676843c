"""What became of every row of a run, added up from the commits in its journal."""

from datetime import datetime
from pathlib import Path

import msgspec

from cah_dask.release.draw import SEED, Draw
from cah_dask.release.pool_time import PoolTimes
from cah_dask.release.summary import StageTotal, Summary
from cah_dask.release.timeline import TimelineSum
from cah_dask.run.folder.faults import Faults
from cah_dask.run.folder.journal import Commit
from cah_dask.run.pools import pools
from cah_dask.run.settings import identity
from cah_dask.run.settings.config import Config
from cah_dask.run.stages import DOWNLOAD, EMBED, SELECT, Stage

_LISTS_DRAWN = 96
"""Lists that a summary names; a report shows samples of 24 that have any."""


class RunTotal:
    """A `Summary` that commits are still added to, in any order.

    Parameters
    ----------
    config
        That of the run, with the settings of its release.
    stages
        Those that leave parts in the run folder.
    """

    def __init__(self, config: Config, stages: tuple[Stage, ...]) -> None:
        self._config = config
        self._variants = identity.variants(config)
        self._pools = {
            stage.name: pool.name
            for pool in pools(config.pools, config.slurm.launch, stages)
            for stage in pool.stages
        }
        self._totals = {stage.name: StageTotal(stage.rows) for stage in stages}
        self._faults = Faults()
        self._selected: list[str] = []
        self._lists = Draw(SEED, _LISTS_DRAWN)
        self._timeline = TimelineSum()
        self._started: datetime | None = None
        self._finished: datetime | None = None
        self._versions: dict[str, str] = {}

    def counts(self, commit: Commit) -> bool:
        """Tell whether a commit counts: one for another release of the run does not."""
        return identity.is_of(self._variants, commit.stage, commit.unit)

    def add(self, commit: Commit) -> None:
        """Add a commit that counts."""
        stage, name, receipt = commit.stage, commit.unit, commit.receipt
        pool = commit.pool or self._pools[stage]
        self._totals[stage].add(receipt, commit.seconds, pool, commit.peak_mb)
        self._faults.add(commit)
        self._timeline.add(stage, commit.at, commit.seconds)
        if stage in {DOWNLOAD.name, EMBED.name}:  # lists of late texts are only embedded
            self._lists.add(name)
        if stage == SELECT.name:
            self._selected.append(f"{SELECT.folder}/{name}.parquet")
        self._started = min(self._started or commit.at, commit.at)
        self._finished = max(self._finished or commit.at, commit.at)
        self._versions = self._versions or receipt.versions

    def summary(self, archives: list[str], index: Path, held: PoolTimes | None) -> Summary:
        """Return all of it so far.

        Parameters
        ----------
        archives
            Names of those of the run, in canonical order.
        index
            Journal of the index of the run; it need not exist.
        held
            For how long the run held its workers, if that is known.
        """
        config = self._config
        stages = {stage: total.summary for stage, total in self._totals.items()}
        return Summary(
            stages=stages,
            archives=archives,
            lost=self._faults.lines(index),
            cut=self._faults.cut,
            started=self._started,
            finished=self._finished,
            versions=self._versions,
            settings=identity.published_settings(config),
            encoder=config.select.encoder or "",  # preflight names it
            thresholds=config.select.thresholds,
            rules=msgspec.to_builtins(config.select.drop),
            keeps_images=config.keep_images,
            selected=sorted(self._selected),
            lists=self._lists.names,
            timeline=self._timeline.total,
            pools=self._pools
            | {
                name: max(stage.pools, key=stage.pools.__getitem__)
                for name, stage in stages.items()
                if stage.pools
            },
            held=held,
            options=config.report,
        )
