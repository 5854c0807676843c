"""What a release will hold, known before its first byte is written: sizes, and which rows go where.

Row i of the Zarr arrays is row i of the parquet parts read one after the other. The final number
of rows is fixed first, and one task owns one whole Zarr shard and the parquet part with the same
rows: concurrent writers inside one shard, or appends, lose rows silently.
"""

import contextlib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import pyarrow as pa

from cah_dask.errors import InputError
from cah_dask.schema import MODALITIES, Modality, Split, pairs

PAIRS_FOLDER = "pairs"
EMBEDDINGS = "embeddings.zarr"
LAYOUT = "layout.json"
CARD = "README.md"
REPORT = "report.html"
MANIFEST = "manifest.json"
"""What a derived release was made of, and how."""


class PackOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sizes of the published files."""

    rows_per_shard: Annotated[int, msgspec.Meta(ge=1)] = 262_144
    """Rows of one Zarr shard and of the parquet part beside it; 268 MB at 512 dimensions."""
    rows_per_chunk: Annotated[int, msgspec.Meta(ge=1)] = 4096
    """Rows of one Zarr chunk, the smallest piece a reader fetches; divides `rows_per_shard`."""


class Slice(msgspec.Struct, frozen=True):
    """Rows ``start`` to ``stop`` of one selected part."""

    part: str
    start: int
    stop: int


class ReleasedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model as a release names it."""

    name: str
    checksums: dict[str, str]
    """SHA-256 of its files, hex, by name."""


class ReleasedEncoder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An encoder whose vectors a release holds."""

    name: str
    dim: int
    image: ReleasedModel
    texts: dict[Split, ReleasedModel]
    """By split, where it is another model than that of the images."""


class ReleasedScore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A score that a release has a column of."""

    name: str
    what: str
    """What it says, in words, without a path of ours."""
    sha256: str
    """Of the file that decides it, hex."""


COLUMN_TYPES: Mapping[str, pa.DataType] = {
    str(kind): kind
    for kind in (
        *(pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16()),
        *(pa.uint32(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.string()),
        *(pa.large_string(), pa.date32(), pa.timestamp("ms"), pa.timestamp("us")),
        pa.list_(pa.list_(pa.float64())),
    )
}
"""Types that a joined column may have, by their names."""

FACES = "face_bboxes"
"""A column of imported metadata: of each face the corners of its box, relative to the image."""


class ReleasedColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column that was joined to a release; null where nothing was known of a pair."""

    name: str
    type: str
    """One of `COLUMN_TYPES`."""

    @property
    def field(self) -> pa.Field:
        """It in a schema."""
        return pa.field(self.name, COLUMN_TYPES[self.type])


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a release will hold, known before its first byte is written.

    ``slices_sha256`` fingerprints which rows of which parts it is made of, ``config`` the settings
    behind them, so that two releases with equal layouts hold equal pairs.
    """

    rows: int
    encoders: tuple[ReleasedEncoder, ...]
    encoder: str
    """Name of the one that decided what is kept."""
    config: str
    rows_per_shard: int
    rows_per_chunk: int
    slices_sha256: str
    scores: tuple[ReleasedScore, ...] = ()
    run: str = ""
    """What tells its run from others; all releases of a run have it in common, but for derived
    ones, which no run may replace."""
    columns: tuple[ReleasedColumn, ...] = ()
    """Those that were joined or imported."""
    may_repeat: bool = False
    """Whether uids may be there more than once, as in metadata that were imported."""
    manifest: str = ""
    """SHA-256 of `MANIFEST`, hex, of a release that was derived; empty for that of a run."""

    @property
    def shards(self) -> int:
        """Number of Zarr shards and of parquet parts; an empty release has one empty part."""
        return max(1, -(-self.rows // self.rows_per_shard))

    @property
    def encoder_names(self) -> list[str]:
        """Names of all encoders, in their order."""
        return [encoder.name for encoder in self.encoders]

    @property
    def schema(self) -> pa.Schema:
        """Columns of the parquet parts."""
        found = pairs(self.encoder_names, [score.name for score in self.scores])
        return pa.schema([*found, *(column.field for column in self.columns)])

    @property
    def fingerprint(self) -> str:
        """SHA-256, hex: releases that have it in common hold equal pairs."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()

    @property
    def documents(self) -> frozenset[str]:
        """Files for people that it has beside pairs and vectors."""
        return frozenset({CARD, MANIFEST if self.manifest else REPORT})

    @property
    def arrays(self) -> list[tuple[str, Modality, int]]:
        """Encoder, modality and length of a vector of each array."""
        return [
            (each.name, modality, each.dim) for each in self.encoders for modality in MODALITIES
        ]


def deal(kept: Iterable[tuple[str, int]], rows_per_shard: int) -> list[list[Slice]]:
    """Deal the rows of all selected parts, in order, to shards of `rows_per_shard` rows.

    Parameters
    ----------
    kept
        Path of each selected part, relative to the run folder, and how many rows it has, in
        canonical order.

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


def rows_of(shards: Iterable[Iterable[Slice]]) -> int:
    """Return how many rows a dealing has."""
    return sum(part.stop - part.start for parts in shards for part in parts)


def fingerprint(shards: Sequence[Sequence[Slice]], selection: int = 0) -> str:
    """Return the SHA-256 of a dealing, hex; `selection` tells the rows of its parts from others."""
    return hashlib.sha256(msgspec.json.encode([shards, selection])).hexdigest()


def read_layout(folder: Path) -> Layout | None:
    """Return the layout of the release in `folder`, or None where there is none that is whole."""
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode((folder / LAYOUT).read_bytes(), type=Layout)
    return None


def layout_of_release(folder: Path) -> Layout:
    """Return the layout of the release in `folder`.

    Raises
    ------
    InputError
        If there is none that can be read.
    """
    layout = read_layout(folder)
    if layout is None:
        raise InputError(f"{folder} is no release: it has no {LAYOUT} that can be read")
    return layout


def vectors_path(encoder: str, modality: Modality, number: int) -> str:
    """Return the path of one shard of an array, relative to the release."""
    return f"{EMBEDDINGS}/{encoder}/{modality}/c.{number}.0"


def part_path(folder: Path, number: int) -> Path:
    """Return the path of one parquet part of the release in `folder`."""
    return folder / PAIRS_FOLDER / f"part-{number:05d}.parquet"
