"""Finding out what kind of pool a path is."""

from collections.abc import Mapping
from pathlib import Path

from cah_dask.curate.pools.pool import Pool
from cah_dask.curate.pools.releases import ReleasePool
from cah_dask.curate.pools.runs import SCORED, RunPool
from cah_dask.curate.pools.tables import TablePool
from cah_dask.errors import ConfigError, InputError
from cah_dask.release.layout import LAYOUT


def open_pool(path: Path, columns: Mapping[str, str] | None = None) -> Pool:
    """Open a run folder, a release, a folder of DataComp's metadata, or parquet files.

    Parameters
    ----------
    columns
        Of parquet files: what columns are called in them, by our names.

    Raises
    ------
    InputError
        If it is none of these.
    ConfigError
        If it has no such columns.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist")
    kind = (
        RunPool if (path / SCORED).is_dir() else ReleasePool if (path / LAYOUT).exists() else None
    )
    if kind is None:
        return TablePool(path, columns or {})
    if columns:
        raise ConfigError(f"{path} is a {kind.kind}: its columns have one name only")
    return kind(path)
