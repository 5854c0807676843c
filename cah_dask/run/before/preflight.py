"""What must be true before a run writes its first byte."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from cah_dask.archives.sources import list_archives, located, public_names
from cah_dask.candidates.extract import check_input
from cah_dask.errors import ConfigError, InputError
from cah_dask.images.options import check_options
from cah_dask.pairs import catalogue, select
from cah_dask.pairs.options import EmbedOptions
from cah_dask.pairs.resolve import is_as_pinned, resolve, with_names_of
from cah_dask.pairs.scores.checks import complete_scores
from cah_dask.run.before.picture_archives import require_index, with_index
from cah_dask.run.before.slurm_limits import check_with_slurm
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.pools import check_pools, pools
from cah_dask.run.settings import loading
from cah_dask.run.settings.config import Config
from cah_dask.run.settings.loading import Loaded
from cah_dask.run.settings.pinned_lists import pin_lists
from cah_dask.run.stages import DOWNLOAD, EMBED, Stage
from cah_dask.words import counted


class Prepared(msgspec.Struct, frozen=True):
    """A configuration that can be run: its model and lists pinned, its inputs found."""

    loaded: Loaded
    archives: dict[str, str]
    """Where each archive of the run lies, by its name; those that are extracted may be gone."""
    sources: dict[str, str] = {}
    """Where each archive or CDX file lies, by its name, that the run is to index for its pictures.
    Empty if it has an index, or does not need one."""
    model_fault: str = ""
    """Why no embedding can be made here. A run whose pairs are scored may not need any."""
    warnings: tuple[str, ...] = ()
    """What a person may want to know before it runs."""

    @property
    def config(self) -> Config:
        """The complete configuration."""
        return self.loaded.config

    def require_for(self, stages: Collection[Stage]) -> None:
        """Raise ConfigError unless there is what the stages need that are left of a begun run."""
        if DOWNLOAD in stages:
            _require_consent(self.loaded)
            require_index(self.config, self.sources)
        if EMBED in stages and self.model_fault:
            raise ConfigError(self.model_fault)


def prepare(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    asks_slurm: bool = True,
    may_select_only: bool = False,
) -> Prepared:
    """Load a configuration and check everything that can be checked without running.

    Parameters
    ----------
    asks_slurm
        Whether Slurm, where the pools need it, is asked if it would take their jobs.
    may_select_only
        Whether a run that has selected before is let pass without consent to crawl and without its
        model; `Prepared.require_for` looks at them once it is known what is left to do.

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
    _check_performance_report(config)
    folder = RunFolder(Path(config.run_dir))
    may_select_only = may_select_only and folder.has_selected
    if not may_select_only:
        _require_consent(loaded)
    config = pin_lists(config)
    config, sources = with_index(config, folder)
    archives = _archives(config, folder)
    preset = catalogue.of(config.embed)
    embed, fault = _models(config.embed, folder)
    if fault and not may_select_only:
        raise ConfigError(fault)
    licence, is_commercial = catalogue.licence(embed, preset)
    embed = msgspec.structs.replace(embed, licence=licence)
    chosen = select.complete(config.select, embed, preset, config.extract.splits)
    chosen = complete_scores(chosen, embed)
    config = msgspec.structs.replace(config, embed=embed, select=chosen)
    warnings = () if is_commercial else (f"the licence of the models is {licence}",)
    if asks_slurm:
        check_with_slurm(config)
    loaded = msgspec.structs.replace(loaded, config=config)
    return Prepared(loaded, archives, sources, fault, warnings)


def _check_performance_report(config: Config) -> None:
    path = config.performance_report
    if path is not None and not os.access(Path(path).resolve().parent, os.W_OK | os.X_OK):
        raise ConfigError(f"performance_report: {path} lies in no folder that can be written")


def _archives(config: Config, folder: RunFolder) -> dict[str, str]:
    """Find the archives of a run: of one that was begun, those that it was begun with."""
    if not folder.has_begun:
        places = {name: place for place, name in public_names(list_archives(config.inputs)).items()}
        for place in places.values():
            check_input(place, config.extract)
        return places
    names, is_extracted = folder.archives(), folder.extracted()
    try:
        found = list_archives(config.inputs)
    except InputError:
        if not all(map(is_extracted, names)):
            raise
        found = []
    places, strangers = located(found, names)
    gone = [name for name in names if name not in places and not is_extracted(name)]
    if strangers or gone:
        odd = f"{strangers[0]} is new" if strangers else f"{gone[0]} is not there"
        raise ConfigError(
            f"the inputs of {folder.path} were {counted(len(names), 'archive')} and are now others "
            f"({odd}); restore them or set run_dir to a new folder"
        )
    for name, place in places.items():
        if not is_extracted(name):
            check_input(place, config.extract)
    return {name: places.get(name, "") for name in names}


def _models(options: EmbedOptions, folder: RunFolder) -> tuple[EmbedOptions, str]:
    """Pin the models; those of a run that was begun are called as before.

    Returns
    -------
    tuple
        The pinned options, and why a model cannot be used here though the run was begun with it.

    Raises
    ------
    ConfigError
        If a model cannot be used, or if it or its licence are called otherwise than before.
    """
    before = folder.config().embed if folder.has_begun else None
    if before is not None and options.licence not in ("", before.licence):
        raise _renamed("embed.licence", before.licence, options.licence)
    try:
        found = resolve(options)
    except ConfigError as error:
        if before is None or not is_as_pinned(options, before):
            raise
        return msgspec.structs.replace(before, device=options.device), str(error)
    if before is None or (options.encoders and list(options.encoders) != list(before.encoders)):
        return found, ""
    kept = with_names_of(found, before)
    for model, name in options.names.items():
        if (known := kept.names.get(model, name)) != name:
            raise _renamed(f"embed.names of {model}", known, name)
    return kept, ""


def _renamed(what: str, before: str, now: str) -> ConfigError:
    return ConfigError(
        f"{what} was {before!r} when this run was begun and is now {now!r}; leave it out, restore "
        "it, or set run_dir to a new folder"
    )


def _require_consent(loaded: Loaded) -> None:
    """Refuse to crawl from a site that has not been asked; on a machine of your own, ask yourself.

    A site is where Slurm starts workers or has started this process, or what a site file describes.
    """
    config = loaded.config
    if config.download.source != "web":
        return
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
