"""DataComp's metadata as rows of a release: what is looked at first, and how rows are made.

Files stay in the order of their paths, rows in that of each file. What a release says of a pair and
the metadata do not is found (the language of its text) or left empty (its page, its licence).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.candidates.language import NO_LANGUAGE, Detector
from cah_dask.candidates.text import is_filename
from cah_dask.curate.pools.pool import Batch, Mask, Vectors
from cah_dask.curate.pools.tables import TablePool
from cah_dask.curate.pools.uids import keys_of
from cah_dask.curate.uid_ranges import as_table
from cah_dask.errors import InputError, RunError
from cah_dask.keys import from_digests
from cah_dask.pairs.vectors import packed
from cah_dask.release.check import SIMILARITY_WITHIN, UNIT_WITHIN
from cah_dask.release.layout import (
    FACES,
    Layout,
    PackOptions,
    ReleasedColumn,
    ReleasedEncoder,
    ReleasedModel,
)
from cah_dask.schema import MODALITIES, SELECTED, Counts, pairs, similarity_of, uid, vector_of
from cah_dask.words import counted

MODELS = {"b32": "ViT-B-32 (OpenAI)", "l14": "ViT-L-14 (OpenAI)"}
"""Whose vectors and similarities DataComp publishes."""

FOREIGN_UIDS = "foreign_uids"
"""The note that counts rows whose uid is not the md5 of text and url."""

REASONS = {
    "bad_uid": "a uid that is not 32 lower-case hex digits",
    "no_pair": "no text or no url",
    "bad_similarity": "a similarity that is missing or NaN",
    "bad_vector": "a vector that is not finite or not of length 1",
    "other_vector": "a similarity that is not that of its vectors",
}
"""What is wrong with a row; the first of them counts."""

_UID = "^[0-9a-f]{32}$"
_CACHED = 1 << 15
_ROWS_AT_ONCE = 1024  # whose vectors are float32: 6 MB for a pair of 768 dimensions


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
    for name in _encoders(pool):
        dims = [pool.vectors.get(f"{name}/{modality}") for modality in MODALITIES]
        if None in dims or len({*dims}) > 1:
            raise InputError(f"{first.with_suffix('.npz')}: {name}_img and {name}_txt do not pair")
    if missing := [name for name in _needed(pool) if name not in pool.columns]:
        raise InputError(f"{first} has no column {missing[0]}; it has {', '.join(pool.columns)}")
    return pool


def _encoders(pool: TablePool) -> list[str]:
    return list(dict.fromkeys(name.partition("/")[0] for name in pool.vectors))


def _needed(pool: TablePool) -> list[str]:
    return ["uid", "url", "text", *map(similarity_of, _encoders(pool))]


def layout_of(pool: TablePool, sizes: PackOptions | None = None) -> Layout:
    """Return the layout of a release of the metadata, without its rows."""
    sizes = sizes or PackOptions()
    names = _encoders(pool)
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


def _schema_of(pool: TablePool) -> pa.Schema:
    """Return the columns of a release of the metadata."""
    return pa.schema([*pairs(_encoders(pool)), *(column.field for column in _brought(pool))])


_FACES_TYPE = pa.list_(pa.list_(pa.float64()))


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found of one file."""

    chosen: Sequence[pa.Table]
    """Its sound rows, `schema.SELECTED`."""
    counts: Counts
    faults: tuple[str, ...]
    """One line each, file first: why it cannot be read, or what is wrong with rows."""
    is_readable: bool = True


def look(pool: TablePool, number: int) -> Looked:
    """Look at all rows of a file and at all bytes of its vectors."""
    chosen: list[pa.Table] = []
    counts, first = Counts(), dict[str, int]()
    try:
        for batch in pool.batches(number, _needed(pool), list(pool.vectors)):
            with np.errstate(all="ignore"):  # whatever is no number is told
                reasons = _reasons(pool, batch)
            wrong = np.any(list(reasons.values()), axis=0)
            sound = batch.where(~wrong)
            if len(sound):
                chosen.append(_selected(sound))
            taken = np.zeros(len(batch), bool)
            for reason, mask in reasons.items():
                if len(rows := np.flatnonzero(mask & ~taken)):
                    first.setdefault(reason, int(batch.rows[rows[0]]))
                    counts += Counts(len(rows), 0, {reason: len(rows)})
                taken |= mask
            counts += Counts(len(sound), len(sound), {}, {FOREIGN_UIDS: _n_foreign(sound)})
    except InputError as error:
        return Looked([], Counts(), (str(error),), is_readable=False)
    name = pool.path / pool.units[number]
    faults = tuple(
        f"{name}: {counted(counts.rejected[reason], 'row')} with {REASONS[reason]}, the first is "
        f"row {row}"
        for reason, row in first.items()
    )
    return Looked(chosen, counts, faults)


def _reasons(pool: TablePool, batch: Batch) -> dict[str, Mask]:
    """Tell of each row what is wrong with it."""
    table = batch.table
    is_uid = pc.match_substring_regex(table["uid"], _UID).fill_null(False)  # noqa: FBT003  # pyarrow
    no_pair = pc.or_(table["text"].is_null(), table["url"].is_null())
    found = {reason: np.zeros(len(batch), bool) for reason in REASONS}
    found["bad_uid"] |= ~is_uid.to_numpy()
    found["no_pair"] |= no_pair.to_numpy()
    for encoder in _encoders(pool):
        similarity = table[similarity_of(encoder)].to_numpy().astype(np.float32)
        pair = [_of_length(pool, batch, f"{encoder}/{modality}") for modality in MODALITIES]
        found["bad_similarity"] |= np.isnan(similarity)
        for start in range(0, len(batch), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            images, texts = (each[rows].astype("<f2").astype(np.float32) for each in pair)
            norms = np.stack([np.linalg.norm(each, axis=1) for each in (images, texts)])
            found["bad_vector"][rows] |= ~(np.abs(norms - 1) <= UNIT_WITHIN).all(axis=0)
            cosine = np.einsum("nd,nd->n", images, texts) / norms.prod(axis=0)
            is_near = np.abs(cosine - similarity[rows]) <= SIMILARITY_WITHIN
            found["other_vector"][rows] |= ~is_near
    return found


def _of_length(pool: TablePool, batch: Batch, name: str) -> Vectors:
    vectors = batch.vectors[name]
    if vectors.shape[1] != pool.vectors[name]:
        raise InputError(
            f"{pool.path / batch.part}: {name} has vectors of length {vectors.shape[1]}, those of "
            f"{pool.units[0]} have {pool.vectors[name]}"
        )
    return vectors


def _n_foreign(batch: Batch) -> int:
    cells = (batch.table[name].to_pylist() for name in ("text", "url", "uid"))
    return sum(uid(text, url).hex() != own for text, url, own in zip(*cells, strict=True))


def _selected(batch: Batch) -> pa.Table:
    keys = keys_of(batch.table["uid"], batch.part)
    columns = [pa.repeat(batch.part, len(batch)), pa.array(batch.rows, pa.int32())]
    return pa.table([*columns, as_table(keys)["uid"]], schema=SELECTED)


class MetadataRows:
    """Rows of metadata, by the columns of `schema.scored` (`release.rows.Rows`)."""

    def __init__(self, folder: Path) -> None:
        self._pool = open_metadata(folder)
        self._schema = _schema_of(self._pool)
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
        return found if kind is None else found.cast(kind)


class _Description(NamedTuple):
    """What is found of a text, by the columns of a release."""

    split: str
    lang: str
    lang_confidence: float
    lang_is_reliable: bool
    text_is_filename: bool


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
