"""DataComp's metadata as rows of a release; `datacomp_look` looks at them before.

Files stay in the order of their paths, rows in that of each file. What a release says of a pair and
the metadata do not is found (the language of its text) or left empty (its page, its licence).
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.candidates.language import NO_LANGUAGE, Detector
from cah_dask.candidates.text import is_filename
from cah_dask.curate.pools.pool import Batch
from cah_dask.curate.pools.tables import TablePool
from cah_dask.curate.pools.uids import keys_of
from cah_dask.errors import InputError, RunError
from cah_dask.keys import from_digests
from cah_dask.pairs.vectors import packed
from cah_dask.release.layout import (
    FACES,
    Layout,
    PackOptions,
    ReleasedColumn,
    ReleasedEncoder,
    ReleasedModel,
)
from cah_dask.schema import MODALITIES, pairs, similarity_of, vector_of

MODELS = {"b32": "ViT-B-32 (OpenAI)", "l14": "ViT-L-14 (OpenAI)"}
"""Whose vectors and similarities DataComp publishes."""

_CACHED = 1 << 15


def open_metadata(folder: Path) -> TablePool:
    """Open a folder of metadata with their vectors.

    Raises
    ------
    InputError
        If it holds no parquet file, or the first one lacks a column, or its vectors.
    """
    pool = TablePool(folder, {})
    first = folder / pool.units[0]
    if not pool.vectors:
        raise InputError(f"{first.with_suffix('.npz')} is not there or holds no b32_img or l14_img")
    for name in encoders_of(pool):
        dims = [pool.vectors.get(f"{name}/{modality}") for modality in MODALITIES]
        if None in dims or len({*dims}) > 1:
            raise InputError(f"{first.with_suffix('.npz')}: {name}_img and {name}_txt do not pair")
    if missing := [name for name in needed_columns(pool) if name not in pool.columns]:
        raise InputError(f"{first} has no column {missing[0]}; it has {', '.join(pool.columns)}")
    return pool


def encoders_of(pool: TablePool) -> list[str]:
    """Return whose vectors lie beside metadata."""
    return list(dict.fromkeys(name.partition("/")[0] for name in pool.vectors))


def needed_columns(pool: TablePool) -> list[str]:
    """Return the columns that metadata must have."""
    return ["uid", "url", "text", *map(similarity_of, encoders_of(pool))]


def layout_of(pool: TablePool, sizes: PackOptions | None = None) -> Layout:
    """Return the layout of a release of the metadata, without its rows."""
    sizes = sizes or PackOptions()
    names = encoders_of(pool)
    return Layout(
        rows=0,
        encoders=tuple(
            ReleasedEncoder(
                name, pool.vectors[f"{name}/image"], ReleasedModel(MODELS[name], {}), {}
            )
            for name in names
        ),
        encoder=names[-1],
        config=pool.fingerprint[:16],
        rows_per_shard=sizes.rows_per_shard,
        rows_per_chunk=sizes.rows_per_chunk,
        slices_sha256="",
        columns=_brought(pool),
        may_repeat=True,
    )


def _brought(pool: TablePool) -> tuple[ReleasedColumn, ...]:
    """Return the columns that a release has of metadata only."""
    return (ReleasedColumn(FACES, str(_FACES_TYPE)),) if FACES in pool.columns else ()


def schema_of(pool: TablePool) -> pa.Schema:
    """Return the columns of a release of the metadata."""
    return pa.schema([*pairs(encoders_of(pool)), *(column.field for column in _brought(pool))])


_FACES_TYPE = pa.list_(pa.list_(pa.float64()))


def as_type(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column as a type; in a column of integers NaN is null, as pandas writes them.

    Raises
    ------
    pyarrow.ArrowException
        If a value or the whole column cannot be of that type.
    """
    if pa.types.is_integer(kind) and pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    return column.cast(kind)


class MetadataRows:
    """Rows of metadata, by the columns of `schema.scored` (`release.rows.Rows`)."""

    def __init__(self, folder: Path) -> None:
        self._pool = open_metadata(folder)
        self._schema = schema_of(self._pool)
        self._numbers = {unit: number for number, unit in enumerate(self._pool.units)}
        self._describe = lru_cache(_CACHED)(_Describer())

    def take(self, part: str, selected: pa.Table, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns of the selected rows of a file, which ascend, some at a time.

        Raises
        ------
        RunError
            If it is not the file that the rows were selected from, or cannot be read.
        """
        path = self._pool.path / part
        arrays = {vector_of(*_split(name)): name for name in self._pool.vectors}
        vectors = [arrays[name] for name in columns if name in arrays]
        theirs = [name for name in self._pool.columns if name in {"uid", "text", *columns}]
        chosen = selected["row"].to_numpy()
        stop = 0
        try:
            for batch in self._pool.batches(self._numbers[part], theirs, vectors):
                start = stop
                stop = int(np.searchsorted(chosen, batch.rows[-1] + 1))
                if start < stop:
                    mask = np.isin(batch.rows, chosen[start:stop])
                    piece = selected.slice(start, stop - start)
                    yield self._made(batch.where(mask), piece, columns)
                if stop == len(chosen):
                    return
        except InputError as error:
            raise RunError(str(error)) from error
        raise _other_file(path)

    def _made(self, batch: Batch, selected: pa.Table, columns: Sequence[str]) -> pa.Table:
        """Return columns of rows, with those that a release has and the metadata do not."""
        keys = from_digests(b"".join(selected["uid"].to_pylist()))
        if (keys_of(batch.table["uid"], batch.part) != keys).any():
            raise _other_file(self._pool.path / batch.part)
        made: dict[str, Any] = {
            "uid": selected["uid"],
            "page_url": pa.repeat("", len(batch)),
            "archive": pa.repeat(batch.part, len(batch)),
            "record_offset": pa.array(batch.rows),
            "link_index": pa.repeat(0, len(batch)),
        }
        made |= {vector_of(*_split(name)): packed(each) for name, each in batch.vectors.items()}
        if {*_Description._fields} & {*columns}:
            found = [self._describe(text) for text in batch.table["text"].to_pylist()]
            cells = zip(*found, strict=True)
            made |= dict(zip(_Description._fields, map(pa.array, map(list, cells)), strict=True))
        return pa.table({name: self._column(name, made, batch) for name in columns})

    def _column(self, name: str, made: Mapping[str, Any], batch: Batch) -> pa.Array:
        at = self._schema.get_field_index(name)
        kind = None if at < 0 or name == "uid" else self._schema.types[at]
        found = made.get(name)
        if found is None and name in batch.table.column_names:
            found = batch.table[name]
        if found is None:
            return pa.nulls(len(batch), kind)
        return found if kind is None else as_type(found, kind)


class _Description(NamedTuple):
    """What is found of a text, by the columns of a release."""

    split: str
    lang: str
    lang_confidence: float
    lang_is_reliable: bool
    text_is_filename: bool


_PLACE = {"row", "encoder", "similarity", "page_url", "archive", "record_offset", "link_index"}
MADE = {*_PLACE, *_Description._fields}
"""Columns of a release that are not taken from metadata, even if these have such a name."""


class _Describer:
    """Describes a text as extraction does; the name of a file has no language."""

    def __init__(self) -> None:
        self._detector = Detector()

    def __call__(self, text: str) -> _Description:
        names_file = is_filename(text)
        language = NO_LANGUAGE if names_file else self._detector.classify(text)
        return _Description(*language, names_file)


def _split(array: str) -> tuple[str, Any]:
    encoder, _, modality = array.partition("/")
    return encoder, modality


def _other_file(path: Path) -> RunError:
    return RunError(f"{path} has changed since it was looked at; run the command again")
