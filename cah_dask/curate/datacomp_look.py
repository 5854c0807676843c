"""What is looked at in DataComp's metadata before any of it is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.counts import Counts
from cah_dask.curate.datacomp import MADE, as_type, encoders_of, needed_columns, schema_of
from cah_dask.curate.pools.pool import Batch, Mask, Vectors
from cah_dask.curate.pools.tables import TablePool
from cah_dask.curate.pools.uids import keys_of
from cah_dask.curate.uid_ranges import as_table
from cah_dask.errors import InputError
from cah_dask.release.check import SIMILARITY_WITHIN, UNIT_WITHIN
from cah_dask.schema import MODALITIES, SELECTED, similarity_of, uid
from cah_dask.words import counted

FOREIGN_UIDS = "foreign_uids"
"""The note that counts rows whose uid is not the md5 of text and url."""

REASONS = {
    "bad_uid": "a uid that is not 32 lower-case hex digits",
    "no_pair": "no text or no url",
    "bad_digest": "a sha256 that is not 64 hex digits, or an md5 that is not 32",
    "bad_value": "a value that its column cannot have in a release, such as a width of 0.5",
    "bad_similarity": "a similarity that is missing or NaN",
    "bad_vector": "a vector that is not finite or not of length 1",
    "other_vector": "a similarity that is not that of its vectors",
}
"""What is wrong with a row; the first of them counts."""

_UID = "^[0-9a-f]{32}$"
_DIGITS = {"sha256": 64, "md5": 32}
_ROWS_AT_ONCE = 1024  # whose vectors are float32: 6 MB for a pair of 768 dimensions


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
    schema = schema_of(pool)
    kinds = {name: schema.field(name).type for name in pool.columns if name in schema.names}
    kinds |= {similarity_of(name): pa.float32() for name in encoders_of(pool)}
    names = needed_columns(pool)
    names += [name for name in kinds if name not in MADE and name not in names]
    chosen: list[pa.Table] = []
    counts, first = Counts(), dict[str, int]()
    try:
        for read in pool.batches(number, names, list(pool.vectors)):
            batch, no_value = _typed(pool, read, kinds)
            with np.errstate(all="ignore"):  # whatever is no number is told
                reasons = _reasons(pool, batch) | {"bad_value": no_value}
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


def _typed(pool: TablePool, batch: Batch, kinds: Mapping[str, pa.DataType]) -> tuple[Batch, Mask]:
    """Return rows with columns of the types of a release, and which have a value that cannot be."""
    table, no_value = batch.table, np.zeros(len(batch), bool)
    for at, name in enumerate(table.column_names):
        column, kind = table[name], kinds[name]
        try:
            column = as_type(column, kind)
        except pa.ArrowInvalid:
            pieces = [_value(column.slice(row, 1), kind) for row in range(len(column))]
            no_value |= [each is None for each in pieces]
            nothing = pa.chunked_array([pa.nulls(1, kind)])
            chunks = [(nothing if each is None else each).chunk(0) for each in pieces]
            column = pa.chunked_array(chunks)
        except pa.ArrowException as error:
            raise InputError(
                f"{pool.path / batch.part}: column {name} is {column.type}, not {kind}"
            ) from error
        table = table.set_column(at, name, column)
    return Batch(batch.part, batch.rows, table, batch.vectors), no_value


def _value(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    try:
        return as_type(column, kind)
    except pa.ArrowInvalid:
        return None


def _reasons(pool: TablePool, batch: Batch) -> dict[str, Mask]:
    """Tell of each row what is wrong with it."""
    table = batch.table
    is_uid = pc.match_substring_regex(table["uid"], _UID).fill_null(False)  # noqa: FBT003  # pyarrow
    no_pair = pc.or_(table["text"].is_null(), table["url"].is_null())
    found = {reason: np.zeros(len(batch), bool) for reason in REASONS}
    found["bad_uid"] |= ~is_uid.to_numpy()
    found["no_pair"] |= no_pair.to_numpy()
    for name in _DIGITS.keys() & {*table.column_names}:
        is_digest = pc.match_substring_regex(table[name], f"^[0-9a-fA-F]{{{_DIGITS[name]}}}$")
        found["bad_digest"] |= ~is_digest.fill_null(True).to_numpy()  # noqa: FBT003  # pyarrow
    for encoder in encoders_of(pool):
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
