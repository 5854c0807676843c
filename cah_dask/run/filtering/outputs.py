"""What a filter leaves: a subset file or a table of uids, and a manifest: how it came to be."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cah_dask.counts import Counts
from cah_dask.curate.pools.uids import hex_of
from cah_dask.errors import ConfigError, RunError
from cah_dask.keys import KEY, Keys
from cah_dask.run.filtering.job import FilterJob, sorted_uids
from cah_dask.run.filtering.rule import asked_of, rule_of
from cah_dask.run.task import versions
from cah_dask.storage import file_sha256, staged, write_atomic

MANIFEST_SUFFIX = ".manifest.json"


class Manifest(msgspec.Struct, frozen=True):
    """What a subset was made of, and how."""

    pool: str
    """The kind of the pool."""
    fingerprint: str
    """Of the pool."""
    rule: dict[str, Any]
    """See `rule.rule_of`."""
    counts: Counts
    """Rows of the pool, those kept, and the others by the rule that rejected them."""
    sha256: str
    """Of the file beside it."""
    versions: dict[str, str]


def manifest_path(to: Path) -> Path:
    """Return where the manifest of a file is."""
    return to.with_name(f"{to.name}{MANIFEST_SUFFIX}")


def write_uids(job: FilterJob, counts: Counts, to: Path) -> Manifest:
    """Write the uids of kept rows in ascending order, and a manifest; the file itself comes last.

    Parameters
    ----------
    to
        ``.npy``: DataComp's subset file, two little-endian uint64 a row; ``.parquet``: a column of
        32 hex digits. A uid is there as often as the pool has it.
    """
    with staged(to) as path:
        _WRITERS[to.suffix](path, sorted_uids(job), counts.kept)
        made = Manifest(
            pool=job.pool.kind,
            fingerprint=job.pool.fingerprint,
            rule=rule_of(job),
            counts=counts,
            sha256=file_sha256(path),
            versions=versions(),
        )
        write_atomic(manifest_path(to), msgspec.json.format(msgspec.json.encode(made)))
    return made


def _write_npy(path: Path, ranges: Iterator[Keys], rows: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(KEY), "fortran_order": False, "shape": (rows,)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(cast("BinaryIO", file), header)
        n_written = 0
        for keys in ranges:
            file.write(keys.tobytes())
            n_written += len(keys)
    if n_written != rows:
        raise RunError(f"{rows:,} rows are kept, but {n_written:,} uids are sorted; run it again")


def _write_parquet(path: Path, ranges: Iterator[Keys], _: int) -> None:
    schema = pa.schema([pa.field("uid", pa.string(), nullable=False)])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for keys in ranges:
            for start in range(0, len(keys), _GROUP_ROWS):
                uids = hex_of(keys[start : start + _GROUP_ROWS])
                writer.write_table(pa.table([uids], schema=schema))


_GROUP_ROWS = 1 << 18
_WRITERS: Mapping[str, Callable[[Path, Iterator[Keys], int], None]] = {
    ".npy": _write_npy,
    ".parquet": _write_parquet,
}
SUFFIXES = tuple(_WRITERS)
"""Ends of names of files that `write_uids` writes."""


def is_written(to: Path, job: FilterJob) -> bool:
    """Tell whether a file is there that this filter made of this pool.

    Raises
    ------
    ConfigError
        If another file is there.
    """
    if not to.exists():
        return False
    try:
        made = msgspec.json.decode(manifest_path(to).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError):
        made = None
    if made is not None:
        rule = {key: value for key, value in made.rule.items() if key != "thresholds"}
        is_same = (made.fingerprint, rule) == (job.pool.fingerprint, asked_of(job))
        if is_same and made.sha256 == file_sha256(to):
            return True
    raise ConfigError(f"{to} exists and is not of this pool and filter; set --to to another path")
