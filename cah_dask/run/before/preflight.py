"""What must be true before a run writes its first byte."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from cah_dask.candidates.extract import check_input
from cah_dask.candidates.sources import list_archives
from cah_dask.errors import ConfigError
from cah_dask.images.options import check_options
from cah_dask.pairs import select
from cah_dask.pairs.models import resolve
from cah_dask.run.before.slurm_limits import check_with_slurm
from cah_dask.run.pools import check_pools, pools
from cah_dask.run.settings import loading
from cah_dask.run.settings.config import Config
from cah_dask.run.settings.loading import Loaded
from cah_dask.run.settings.pinned_lists import pin_lists


class Prepared(msgspec.Struct, frozen=True):
    """A configuration that can be run: its model and lists pinned, its inputs found."""

    loaded: Loaded
    archives: list[str]

    @property
    def config(self) -> Config:
        """The complete configuration."""
        return self.loaded.config


def prepare(path: Path, overrides: Sequence[str] = (), *, asks_slurm: bool = True) -> Prepared:
    """Load a configuration and check everything that can be checked without running.

    Parameters
    ----------
    asks_slurm
        Whether Slurm, where the pools need it, is asked if it would take their jobs.

    Raises
    ------
    ConfigError
        For the first thing that is wrong, in one line.
    """
    loaded = loading.load(path, overrides)
    config = loaded.config
    if config.pack.rows_per_shard % config.pack.rows_per_chunk:
        raise ConfigError(
            f"pack.rows_per_shard ({config.pack.rows_per_shard}) must be a multiple of "
            f"pack.rows_per_chunk ({config.pack.rows_per_chunk})"
        )
    check_options(config.download)
    check_pools(config)
    _require_consent(loaded)
    config = pin_lists(config)
    archives = list_archives(config.inputs)
    for archive in archives:
        check_input(archive, config.extract)
    config = msgspec.structs.replace(
        config,
        embed=resolve(config.embed),
        select=select.complete(config.select, config.embed.model, config.extract.splits),
    )
    if asks_slurm:
        check_with_slurm(config)
    return Prepared(msgspec.structs.replace(loaded, config=config), archives)


def _require_consent(loaded: Loaded) -> None:
    """Refuse to crawl from a site that has not been asked; on a machine of your own, ask yourself.

    A site is where Slurm starts workers or has started this process, or what a site file describes.
    """
    config = loaded.config
    is_site = (
        config.site is not None
        or any(pool.job is not None for pool in pools(config.pools, config.slurm.launch))
        or "SLURM_JOB_ID" in os.environ
    )
    if config.download.crawl == "forbidden":
        raise ConfigError(
            f"crawling the web is forbidden here ({loaded.origins['download.crawl']}); "
            "run where it is allowed"
        )
    if config.download.crawl == "ask" and is_site:
        raise ConfigError(
            "download.crawl is 'ask': this run would crawl the web from a shared site; ask those "
            "who run it, and once they agree say so with download.crawl=allowed"
        )
