"""The archives that a run takes its pictures from: whether they, or an index, are there."""

from pathlib import Path

import msgspec

from cah_dask.errors import ConfigError, InputError
from cah_dask.images.archived.index import n_lacking, read_about
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.indexing.job import id_of, sources_of
from cah_dask.run.settings.config import Config


def with_index(config: Config, folder: RunFolder) -> tuple[Config, dict[str, str]]:
    """Find the archives that pictures come from, or their index, and pin which they are.

    Returns
    -------
    config, sources
        With ``download.index_id``; where each archive or CDX file lies that is to be indexed, by
        its name. A run that was begun may be without them: see `require_index`.

    Raises
    ------
    InputError
        If an archive is missing or holds no pictures, or if there is no index.
    """
    download = config.download
    if download.source == "web":
        return config, {}
    sources: dict[str, str] = {}
    if download.index:
        index_id = _id_of_index(Path(download.index))
    else:
        before = folder.config().download.index_id if folder.has_begun else ""
        try:
            sources = sources_of(download.archives or config.inputs)
            index_id = id_of(sources)
        except InputError:
            if not before:
                raise
            index_id = before
    if download.index_id not in ("", index_id):
        raise ConfigError(
            f"download.index_id is {download.index_id}, but that of these archives is {index_id}; "
            "restore them, or leave it out"
        )
    download = msgspec.structs.replace(download, index_id=index_id)
    return msgspec.structs.replace(config, download=download), sources


def _id_of_index(path: Path) -> str:
    about = read_about(path)
    if about is None:
        raise InputError(f"download.index: {path} is no index; `cah index` makes one")
    if n := n_lacking(path, about):
        raise InputError(
            f"download.index: {path} lacks {n} of {about.buckets} parts; run its `cah index` again"
        )
    return about.id


def require_index(config: Config, sources: dict[str, str]) -> None:
    """Raise InputError if a begun run that still downloads lacks its archives, unless indexed."""
    if config.download.source == "web" or config.download.index or sources:
        return
    folder = RunFolder(Path(config.run_dir)).index_dir
    about = read_about(folder)
    if about is None or n_lacking(folder, about):
        sources_of(config.download.archives or config.inputs)
