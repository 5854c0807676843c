"""What the jobs over vectors leave: a folder that appears whole, with a manifest of its making."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cah_dask.counts import Counts
from cah_dask.curate.filters.lists import NEAR_DUPLICATES
from cah_dask.curate.pools.uids import hex_of
from cah_dask.errors import ConfigError, InputError, RunError
from cah_dask.keys import no_keys
from cah_dask.run.clustering.centroid_tasks import ClusterOptions
from cah_dask.run.clustering.duplicate_clusters import NearDuplicateOptions
from cah_dask.run.clustering.duplicate_rows import keys_of
from cah_dask.run.clustering.jobs import ClusterJob, NearDuplicateJob
from cah_dask.run.clustering.rows import vectors_of
from cah_dask.run.task import versions
from cah_dask.storage import disk_errors, file_sha256, fsync, open_part, read_part

CENTROIDS_FILE = "centroids.npy"
DUPLICATES_FILE = "near-duplicates.parquet"
UIDS_FILE = NEAR_DUPLICATES
MANIFEST_FILE = "manifest.json"
_FILES = {CENTROIDS_FILE, DUPLICATES_FILE, UIDS_FILE, MANIFEST_FILE}
_NUMBERS = ("count", "objective")
_DUPLICATES = pa.schema([("uid", pa.string()), ("stays", pa.string()), ("cosine", pa.float32())])


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a result was made of; equal for equal results."""

    pool: str
    """The kind of the pool."""
    fingerprint: str
    """Of the pool."""
    counts: Counts
    """Rows of the pool, those that are taken or stay, and the others by reason."""
    sha256: dict[str, str]
    """Of the files beside it."""
    versions: dict[str, str]


class ClusterManifest(Manifest, frozen=True, kw_only=True):
    """What centroids were made of."""

    options: ClusterOptions
    objectives: list[float]
    """Before each iteration, the sum of the squared distances of rows to their centroids."""
    empty: int
    """Clusters without rows before the last iteration."""


class NearDuplicateManifest(Manifest, frozen=True, kw_only=True):
    """What near duplicates were found in."""

    options: NearDuplicateOptions


M = TypeVar("M", bound=Manifest)


def is_written(to: Path, fingerprint: str, options: object, kind: type[M]) -> bool:
    """Tell whether a folder holds the result of these options and this pool.

    Raises
    ------
    ConfigError
        If it holds anything else.
    """
    if not to.exists() or (to.is_dir() and not any(to.iterdir())):
        return False
    try:
        made: Any = msgspec.json.decode((to / MANIFEST_FILE).read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        made = None
    if made is not None and (made.fingerprint, made.options) == (fingerprint, options):
        found = {name: file_sha256(to / name) for name in made.sha256 if (to / name).is_file()}
        if found == made.sha256:
            return True
    raise ConfigError(f"{to} exists and is not of this pool and options; set --to to another path")


def write_centroids(job: ClusterJob, counts: Counts, to: Path) -> ClusterManifest:
    """Write the centroids of the last iteration, float32, and their manifest.

    Parameters
    ----------
    counts
        Of the rows of the pool.
    """
    options = job.options
    waves = [
        pa.concat_tables(read_part(part, columns=list(_NUMBERS)) for part in job.moves(wave))
        for wave in range(options.iterations)
    ]
    last = [read_part(part, columns=["vector"]) for part in job.moves(options.iterations - 1)]
    dim = job.pool.vectors[options.vectors]
    with _at_once(to) as folder:
        np.save(folder / CENTROIDS_FILE, np.concatenate([vectors_of(table, dim) for table in last]))
        made = ClusterManifest(
            pool=job.pool.kind,
            fingerprint=job.pool.fingerprint,
            options=options,
            counts=counts,
            objectives=[float(wave["objective"].to_numpy().sum()) for wave in waves],
            empty=int((waves[-1]["count"].to_numpy() == 0).sum()),
            sha256={CENTROIDS_FILE: file_sha256(folder / CENTROIDS_FILE)},
            versions=versions(),
        )
        _write_manifest(made, folder)
    return made


def write_near_duplicates(job: NearDuplicateJob, counts: Counts, to: Path) -> NearDuplicateManifest:
    """Write which rows go: a table with the rows that stay, and a subset file of their uids.

    Parameters
    ----------
    counts
        Of the rows of the pool.
    """
    gone = [no_keys()]
    with _at_once(to) as folder:
        with (
            open_part(job.result) as part,
            pq.ParquetWriter(folder / DUPLICATES_FILE, _DUPLICATES, compression="zstd") as writer,
        ):
            for group in range(part.n_row_groups):
                found = part.read([group])
                gone.append(keys_of(found["uid"]))
                columns = [hex_of(gone[-1]), hex_of(keys_of(found["stays"])), found["cosine"]]
                writer.write_table(pa.table(columns, schema=_DUPLICATES))
        np.save(folder / UIDS_FILE, np.concatenate(gone))
        made = NearDuplicateManifest(
            pool=job.pool.kind,
            fingerprint=job.pool.fingerprint,
            options=job.options,
            counts=counts,
            sha256={name: file_sha256(folder / name) for name in (DUPLICATES_FILE, UIDS_FILE)},
            versions=versions(),
        )
        _write_manifest(made, folder)
    return made


def _write_manifest(made: Manifest, folder: Path) -> None:
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(made)))


@contextlib.contextmanager
def _at_once(to: Path) -> Iterator[Path]:
    """Yield an empty folder beside `to`; on success it takes the place of `to`, which is empty."""
    to = to.resolve()
    folder = to.with_name(f"{to.name}.partial")
    with disk_errors(folder):
        if folder.exists():  # of an attempt that was cut off
            if not {path.name for path in folder.iterdir()} <= _FILES:
                raise RunError(f"{folder} is in the way and no result; move it elsewhere")
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        yield folder
        for path in (*folder.iterdir(), folder):
            fsync(path)
        folder.replace(to)
        fsync(to.parent)


def centroids_file(path: Path) -> Path:
    """Return the file of centroids that a path means: itself, or that of a folder.

    Raises
    ------
    InputError
        If it is not there.
    """
    file = path / CENTROIDS_FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file} is not there; `cah cluster` makes it")
    return file
