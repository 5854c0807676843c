"""Every row of a release: is it what it claims to be, does it stand beside its own vectors.

`release.verify` compares bytes with receipts; here the rows are read as a user reads them, by
pyarrow and zarr.
"""

import contextlib
import itertools
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import zarr

from cah_dask.counts import Counts
from cah_dask.errors import DamageError
from cah_dask.keys import Keys, from_digests, no_keys, sort_order, starts_run, unique
from cah_dask.release.layout import (
    EMBEDDINGS,
    LAYOUT,
    Layout,
    part_path,
    vectors_path,
)
from cah_dask.release.manifest import Limit, read_manifest
from cah_dask.release.vectors import zarr_metadata
from cah_dask.schema import MODALITIES, PAIRS, UID_BYTES, similarity_of, uid
from cah_dask.storage import Part, open_part, require_same

UNIT_WITHIN = 5e-3
"""How far from 1 the norm of a vector in half precision may be."""
SIMILARITY_WITHIN = 2e-3
"""How far a similarity may be from that of the stored vectors: rounding moves it by 5e-5, and by
1.5e-3 where a model in bf16 made the vectors on one kind of processor and rows on another."""

_UID = re.compile(f"[0-9a-f]{{{2 * UID_BYTES}}}")

FAULTS_NAMED = 5
"""Rows of a part whose faults are named one by one; the others are counted."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found of one part."""

    uids: Keys
    """Of its rows, as far as they are uids, sorted."""
    counts: Counts
    """``seen`` is how many rows the layout promises, ``kept`` how many of them are right."""
    faults: tuple[str, ...]
    """One line each, file first."""


def stray_files(folder: Path, layout: Layout) -> list[str]:
    """Return what is wrong with the files of a release, as lines: strangers and lost ones."""
    metadata = (f"{EMBEDDINGS}/{name}" for name in zarr_metadata(layout))
    expected = {LAYOUT, *layout.documents, *metadata}
    for number in range(layout.shards):
        expected.add(str(part_path(folder, number).relative_to(folder)))
        if layout.rows:
            expected |= {
                vectors_path(name, modality, number) for name, modality, _ in layout.arrays
            }
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    return [f"{name}: it does not belong to the release" for name in sorted(there - expected)] + [
        f"{name}: it is not there" for name in sorted(expected - there)
    ]


def damaged_metadata(folder: Path, layout: Layout) -> list[str]:
    """Return which metadata of the arrays are not what the layout asks for, as lines."""
    return [
        f"{EMBEDDINGS}/{name}: it is not what {LAYOUT} asks for"
        for name, data in zarr_metadata(layout).items()
        if (path := folder / EMBEDDINGS / name).is_file() and path.read_bytes() != data
    ]


def check_part(folder: Path, number: int, layout: Layout) -> Checked:
    """Check one parquet part, its receipt, the shards beside it, and all rows of both.

    Raises
    ------
    RetryableError
        If a file cannot be read from here and now.
    """
    start = number * layout.rows_per_shard
    n_rows = min(layout.rows - start, layout.rows_per_shard)
    name = f"{part_path(folder, number).relative_to(folder)}"
    schema = layout.schema
    if not part_path(folder, number).exists():
        return _lost(n_rows, f"{name}: it is not there")
    faults: list[str] = []
    try:
        with open_part(part_path(folder, number)) as part:
            faults += _faults_of_receipt(name, part, number, layout, n_rows)
            faults += _faults_of_vectors(folder, part)
            if not part.metadata.schema.to_arrow_schema().equals(schema):
                return _lost(n_rows, f"{name}: its columns are not those of a release", *faults)
            tables = [part.read([group]) for group in range(part.metadata.num_row_groups)]
    except DamageError as error:
        return _lost(n_rows, str(error).replace(f"{folder}/", ""), *faults)
    table = pa.concat_tables([schema.empty_table(), *tables])
    manifest = read_manifest(folder)
    limits = [limit for limit in manifest.limits if limit.fits(layout)] if manifest else []
    wrong: Counter[str] = Counter()
    with _arrays(folder, number, layout) as arrays:
        for row, reason in _wrong_rows(arrays, table.slice(0, n_rows), start, layout, limits):
            wrong[reason] += 1
            if wrong.total() <= FAULTS_NAMED:
                faults.append(f"{name}: row {row}: {_MEANINGS[reason]}")
    if wrong.total() > FAULTS_NAMED:
        faults.append(f"{name}: {wrong.total() - FAULTS_NAMED:,} more rows are wrong")
    if missing := n_rows - min(n_rows, len(table)):
        wrong["missing"] = missing
    kept = n_rows - wrong.total()
    return Checked(_uids(table), Counts(n_rows, kept, dict(sorted(wrong.items()))), tuple(faults))


_MEANINGS = {
    "row_number": "the column `row` says another number",
    "uid": "its uid is not the md5 of its text and url",
    "encoder": "it names another encoder than the release",
    "not_finite": "a vector of it is not finite",
    "norm": "a vector of it is not of length 1",
    "similarity": "its similarity is not that of its vectors",
    "limit": "it is beyond a limit that the manifest names",
}


def _lost(n_rows: int, *faults: str) -> Checked:
    rejected = {"missing": n_rows} if n_rows else {}
    return Checked(_uids(PAIRS.empty_table()), Counts(n_rows, 0, rejected), faults)


def _faults_of_receipt(
    name: str, part: Part, number: int, layout: Layout, n_rows: int
) -> Iterator[str]:
    receipt, n_found = part.receipt, part.metadata.num_rows
    if (receipt.stage, receipt.unit) != ("pack", f"part-{number:05d}"):
        yield f"{name}: its receipt is that of {receipt.stage} {receipt.unit}"
    if receipt.config != layout.config:
        yield f"{name}: it belongs to a release with other settings"
    if not n_found == receipt.counts.kept == n_rows:
        yield (
            f"{name}: it has {n_found} rows, its receipt says {receipt.counts.kept}, the layout "
            f"{n_rows}"
        )


def _faults_of_vectors(folder: Path, part: Part) -> Iterator[str]:
    """Compare every byte of the shards beside a part with its receipt."""
    for side in part.receipt.side:
        try:
            require_same(folder / side.name, side)
        except DamageError as error:
            yield str(error).replace(f"{folder}/", "")


@contextlib.contextmanager
def _arrays(folder: Path, number: int, layout: Layout) -> Iterator[zarr.Group]:
    """Open the shards of one part beside the metadata that they should have."""
    with tempfile.TemporaryDirectory() as place:
        view = Path(place)
        for name, data in zarr_metadata(layout).items():
            (view / name).parent.mkdir(parents=True, exist_ok=True)
            (view / name).write_bytes(data)
        for encoder, modality, _ in layout.arrays:
            shard = Path(vectors_path(encoder, modality, number)).relative_to(EMBEDDINGS)
            (view / shard).symlink_to((folder / EMBEDDINGS / shard).resolve())
        yield zarr.open_group(view, mode="r")


def _wrong_rows(
    arrays: zarr.Group, table: pa.Table, start: int, layout: Layout, limits: Sequence[Limit]
) -> Iterator[tuple[int, str]]:
    """Yield each row that is not what it says, by its number, and the first reason."""
    for begin in range(0, len(table), layout.rows_per_chunk):
        rows = table.slice(begin, layout.rows_per_chunk)
        first = start + begin
        vectors = {
            name: [_vectors(arrays, f"{name}/{kind}", first, len(rows)) for kind in MODALITIES]
            for name in layout.encoder_names
        }
        every = list(itertools.chain.from_iterable(vectors.values()))
        similarities = {"similarity": vectors[layout.encoder]}
        if len(vectors) > 1:
            similarities |= {similarity_of(name): pair for name, pair in vectors.items()}
        numbers = np.arange(first, first + len(rows))
        none = np.zeros(len(rows), bool)
        is_wrong = {
            "row_number": rows["row"].to_numpy() != numbers,
            "uid": ~_has_own_uid(rows),
            "encoder": rows["encoder"].to_numpy() != layout.encoder,
            "not_finite": np.any([_is_not_finite(each) for each in every], axis=0),
            "norm": np.any([_is_no_unit(each) for each in every], axis=0),
            "similarity": np.any(
                [_is_far(rows[name].to_numpy(), *pair) for name, pair in similarities.items()],
                axis=0,
            ),
            "limit": np.any([none, *(limit.is_broken(rows) for limit in limits)], axis=0),
        }
        flags = np.stack(list(is_wrong.values()))
        for place in np.flatnonzero(flags.any(axis=0)):
            yield first + int(place), list(is_wrong)[int(flags[:, place].argmax())]


def _vectors(arrays: zarr.Group, name: str, first: int, n: int) -> npt.NDArray[np.float32]:
    """Return rows of an array as float32; NaN, which is not finite, where it cannot be read."""
    array = arrays[name]
    try:
        found = np.asarray(array[first : first + n], np.float32)  # type: ignore[index]  # an array
    except Exception:  # noqa: BLE001  # whatever zarr and its codecs say of a damaged shard
        found = np.empty((0, 0), np.float32)
    return found if len(found) == n else np.full((n, 1), np.nan, np.float32)


def _has_own_uid(rows: pa.Table) -> npt.NDArray[np.bool_]:
    texts, urls, uids = (rows[name].to_pylist() for name in ("text", "url", "uid"))
    return np.array(
        [uid(text, url).hex() == found for text, url, found in zip(texts, urls, uids, strict=True)],
        bool,
    )


def _is_not_finite(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    return np.asarray(~np.isfinite(vectors).all(axis=1), bool)


def _is_no_unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    is_no_unit: npt.NDArray[np.bool_] = ~(
        np.abs(np.linalg.norm(vectors, axis=1) - 1) <= UNIT_WITHIN
    )
    return is_no_unit


def _is_far(
    similarity: npt.NDArray[np.float32],
    images: npt.NDArray[np.float32],
    texts: npt.NDArray[np.float32],
) -> npt.NDArray[np.bool_]:
    if images.shape != texts.shape:  # one of them could not be read
        return np.ones(len(similarity), bool)
    cosine = np.einsum("nd,nd->n", images, texts)
    cosine /= np.linalg.norm(images, axis=1) * np.linalg.norm(texts, axis=1)
    is_far: npt.NDArray[np.bool_] = ~(np.abs(cosine - similarity) <= SIMILARITY_WITHIN)
    return is_far


def _uids(table: pa.Table) -> Keys:
    known = filter(_UID.fullmatch, table["uid"].to_pylist())
    keys = from_digests(bytes.fromhex("".join(known)))
    return keys[sort_order(keys)]


def repeated(uids: Sequence[Keys]) -> tuple[int, list[str]]:
    """Return how many rows repeat the uid of another one, and some of these uids, hex.

    Parameters
    ----------
    uids
        Of several parts.
    """
    keys = np.concatenate([no_keys(), *uids])
    keys = keys[sort_order(keys)]
    again = keys[~starts_run(keys)]
    return len(again), [f"{a:016x}{b:016x}" for a, b in unique(again)[:FAULTS_NAMED].tolist()]
