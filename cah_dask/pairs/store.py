"""The published pairs: parquet parts and Zarr shards whose rows are the same, in the same order.

Row i of the Zarr arrays is row i of the parquet parts read one after the other. The final number
of rows is fixed before anything is written, and one task owns one whole Zarr shard and the parquet
part with the same rows: concurrent writers inside one shard, or appends, lose rows silently.
"""

import contextlib
import hashlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import pyarrow as pa
import zarr
from zarr.abc.buffer import Buffer
from zarr.buffer import cpu
from zarr.codecs import Crc32cCodec
from zarr.errors import ZarrUserWarning
from zarr.storage import MemoryStore

from cah_dask.errors import RunError
from cah_dask.schema import PAIRS, Counts, scored
from cah_dask.storage import (
    Receipt,
    SideFile,
    read_part,
    side_file,
    staged,
    write_atomic,
    write_part,
)

PAIRS_FOLDER = "pairs"
EMBEDDINGS = "embeddings.zarr"
MODALITIES = ("image", "text")
LAYOUT = "layout.json"
_CHUNKS_PER_ROW_GROUP = 16


class PackOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sizes of the published files."""

    rows_per_shard: Annotated[int, msgspec.Meta(ge=1)] = 262_144
    """Rows of one Zarr shard and of the parquet part beside it; 268 MB at 512 dimensions."""
    rows_per_chunk: Annotated[int, msgspec.Meta(ge=1)] = 4096
    """Rows of one Zarr chunk, the smallest piece a reader fetches; divides `rows_per_shard`."""


class Slice(msgspec.Struct, frozen=True):
    """Kept rows ``start`` to ``stop`` of one scored part."""

    part: str
    start: int
    stop: int


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a release will hold, known before its first byte is written.

    ``slices_sha256`` fingerprints which rows of which parts it is made of, ``config`` the settings
    behind them, so that two releases with equal layouts hold equal pairs.
    """

    rows: int
    dim: int
    encoder: str
    weights_sha256: str
    config: str
    rows_per_shard: int
    rows_per_chunk: int
    slices_sha256: str

    @property
    def shards(self) -> int:
        """Number of Zarr shards and of parquet parts; an empty release has one empty part."""
        return max(1, -(-self.rows // self.rows_per_shard))


def deal(kept: Iterable[tuple[str, int]], rows_per_shard: int) -> list[list[Slice]]:
    """Deal the kept rows of all scored parts, in order, to shards of `rows_per_shard` rows.

    Parameters
    ----------
    kept
        Path of each scored part, relative to the run folder, and how many of its rows are kept,
        in canonical order.

    Returns
    -------
    list
        What each shard is made of; one empty shard when nothing is kept.
    """
    shards: list[list[Slice]] = [[]]
    room = rows_per_shard
    for part, rows in kept:
        start = 0
        while start < rows:
            if room == 0:
                shards.append([])
                room = rows_per_shard
            stop = min(rows, start + room)
            shards[-1].append(Slice(part, start, stop))
            room -= stop - start
            start = stop
    return shards


def fingerprint(shards: Sequence[Sequence[Slice]]) -> str:
    """Return the SHA-256 of a dealing, hex."""
    return hashlib.sha256(msgspec.json.encode(shards)).hexdigest()


def create_release(folder: Path, layout: Layout) -> None:
    """Create an empty release: both arrays at their final shape, and the layout beside them.

    What is there already of the same release stays.
    """
    for name, data in zarr_metadata(layout).items():
        write_atomic(folder / EMBEDDINGS / name, data)
    write_atomic(folder / LAYOUT, msgspec.json.format(msgspec.json.encode(layout)))


def zarr_metadata(layout: Layout) -> dict[str, bytes]:
    """Return the metadata files of the arrays by their names.

    They are made in memory: zarr itself can only write them where there are hard links.
    """
    files: dict[str, Buffer] = {}
    store = MemoryStore(files)
    root = zarr.create_group(
        store,
        zarr_format=3,
        attributes={
            "model": layout.encoder,
            "weights_sha256": layout.weights_sha256,
            "normalisation": "l2",
            "row_order": "row i of the arrays is row i of pairs/part-*.parquet, in order",
        },
    )
    for modality in MODALITIES:
        root.create_array(
            modality,
            shape=(layout.rows, layout.dim),
            dtype="float16",
            chunks=(layout.rows_per_chunk, layout.dim),
            shards=(layout.rows_per_shard, layout.dim),
            # zstd saves 6 to 8 % of such vectors for 2 to 3 times the time
            compressors=[Crc32cCodec()],
            chunk_key_encoding={"name": "default", "separator": "."},
            fill_value=float("nan"),  # a lost shard must never look like vectors
            dimension_names=("row", "dim"),
        )
    with warnings.catch_warnings():  # no part of the specification, but xarray asks for it
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(store)
    return {name: data.to_bytes() for name, data in files.items()}


def read_layout(folder: Path) -> Layout | None:
    """Return the layout of the release in `folder`, or None where there is none that is whole."""
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode((folder / LAYOUT).read_bytes(), type=Layout)
    return None


def part_path(folder: Path, number: int) -> Path:
    """Return the path of one parquet part of the release in `folder`."""
    return folder / PAIRS_FOLDER / f"part-{number:05d}.parquet"


def pack_shard(run_dir: Path, folder: Path, number: int, parts: Sequence[Slice]) -> Receipt:
    """Write Zarr shard `number` of both arrays, then the parquet part with the same rows.

    Parameters
    ----------
    run_dir
        Folder that the paths of `parts` are relative to.
    folder
        The release, as `create_release` made it.

    Returns
    -------
    Receipt
        Its side files are the Zarr shards with size and checksum. It holds no time: a release does
        not depend on how fast it was made.
    """
    layout = read_layout(folder)
    if layout is None:
        raise RunError(f"{folder} holds no release layout; run the same command again")
    rows = _kept_rows(run_dir, parts, layout.dim)
    start = number * layout.rows_per_shard
    side = tuple(
        _write_vectors(folder, modality, number, rows[f"{modality}_embedding"], layout)
        for modality in MODALITIES
        if len(rows)
    )
    receipt = Receipt(
        stage="pack",
        unit=f"part-{number:05d}",
        config=layout.config,
        counts=Counts(len(rows), len(rows)),
        inputs=tuple(part.part for part in parts),
        side=side,
    )
    groups = _row_groups(_pairs_table(rows, start, layout.encoder), layout.rows_per_chunk)
    return write_part(part_path(folder, number), PAIRS, groups, receipt)


def _kept_rows(run_dir: Path, parts: Sequence[Slice], dim: int) -> pa.Table:
    tables = [scored(dim).empty_table()]
    for part in parts:
        table = read_part(run_dir / part.part)
        table = table.filter(table["is_kept"])
        if len(table) < part.stop:
            raise RunError(f"{part.part} keeps {len(table)} rows, its receipt says {part.stop}")
        tables.append(table.slice(part.start, part.stop - part.start))
    return pa.concat_tables(tables)


def _write_vectors(
    folder: Path, modality: str, number: int, column: pa.ChunkedArray, layout: Layout
) -> SideFile:
    """Write one shard of an array, whole or not at all.

    It is made in memory, in an array that holds nothing else: zarr would read an old shard before
    it replaces it, and leave its own temporary file when it is killed.
    """
    start = number * layout.rows_per_shard
    vectors = np.frombuffer(b"".join(column.to_pylist()), "<f2").reshape(len(column), layout.dim)
    array = zarr_metadata(layout)[f"{modality}/zarr.json"]
    files: dict[str, Buffer] = {"zarr.json": cpu.Buffer.from_bytes(array)}
    zarr.open_array(MemoryStore(files), mode="r+")[start : start + len(column)] = vectors
    name = f"c.{number}.0"
    path = folder / EMBEDDINGS / modality / name
    with staged(path) as unfinished:
        unfinished.write_bytes(files[name].as_numpy_array().data)
    return side_file(path, f"{EMBEDDINGS}/{modality}/{name}")


def _pairs_table(rows: pa.Table, start: int, encoder: str) -> pa.Table:
    made = {
        "row": pa.array(np.arange(start, start + len(rows))),
        "uid": pa.array([value.hex() for value in rows["uid"].to_pylist()], pa.string()),
        "encoder": pa.repeat(encoder, len(rows)),
    }
    columns = [made[name] if name in made else rows[name] for name in PAIRS.names]
    return pa.table(columns, schema=PAIRS)


def _row_groups(table: pa.Table, rows_per_chunk: int) -> Iterator[pa.Table]:
    """Cut at multiples of the Zarr chunk, so that a row group and its vectors are read together."""
    step = rows_per_chunk * _CHUNKS_PER_ROW_GROUP
    return (table.slice(start, step) for start in range(0, len(table), step))
