"""One fetch list through the encoder: samples and images in, scored samples out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.errors import RunError, ShardError
from cah_dask.images.shards import ShardReader
from cah_dask.pairs.models import Embeddings, Encoder
from cah_dask.schema import SPLITS, Counts, Reject, Status, scored

HISTOGRAM_BINS = 100
"""Bins over [-1, 1] in which each task counts its similarities: 0.02 wide."""

_UNIT_WITHIN = 1e-2  # a vector in half precision is off by 1e-3 at the most


ImageVectors: TypeAlias = Callable[[pa.Table], Embeddings]
"""Gives the image vector of each row of outcomes that are ok; rows may repeat."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """The scored samples of one fetch list (schema `schema.scored`) and what became of the rest."""

    table: pa.Table
    counts: Counts


def similarity(images: Embeddings, texts: Embeddings) -> npt.NDArray[np.float32]:
    """Return the cosine of each row pair.

    Parameters
    ----------
    images, texts
        ``(n, dim)`` float32, rows L2-normalised (`models.Encoder` promises this).

    Returns
    -------
    ndarray
        ``(n,)`` float32 in [-1, 1].

    Raises
    ------
    ShardError
        If the two have different shapes.
    """
    if images.shape != texts.shape:
        raise ShardError(
            f"{images.shape} image vectors do not pair with {texts.shape} text vectors"
        )
    cosine: npt.NDArray[np.float32] = np.einsum("nd,nd->n", images, texts)
    return cosine.clip(-1, 1)


def from_shard(shard: ShardReader, encoder: Encoder, batch_size: int) -> ImageVectors:
    """Embed the images of a shard, each one once however many texts it has."""

    def vectors(outcomes: pa.Table) -> Embeddings:
        rows, position = np.unique(outcomes["image_row"].to_numpy(), return_inverse=True)
        batches = _batches(rows.tolist(), batch_size)
        encoded = [encoder.encode_images(shard.read(batch)) for batch in batches]
        return _stack(encoded, encoder.dim)[position]

    return vectors


def from_scored(scored: pa.Table, dim: int) -> ImageVectors:
    """Take vectors from scored samples (columns url, image_embedding) with the same images.

    They were rounded to float16, which moves a similarity by at most 5e-5.
    """
    known = np.frombuffer(b"".join(scored["image_embedding"].to_pylist()), "<f2").reshape(-1, dim)

    def vectors(outcomes: pa.Table) -> Embeddings:
        row = pc.index_in(outcomes["url"], scored["url"]).to_numpy()
        found: Embeddings = known[row].astype(np.float32)
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        return found

    return vectors


def with_vectors(outcomes: pa.Table, scored: pa.Table) -> pa.Table:
    """Return outcomes in which images without a vector in `scored` have the status NO_VECTOR."""
    has_none = pc.invert(pc.is_in(outcomes["url"], scored["url"].combine_chunks()))
    is_lost = pc.and_(pc.equal(outcomes["status"], Status.OK.value), has_none)
    status = pc.if_else(is_lost, Reject.NO_VECTOR.value, outcomes["status"])
    at = outcomes.column_names.index("status")
    return outcomes.set_column(at, outcomes.schema.field(at), status)


def embed_list(
    samples: pa.Table,
    outcomes: pa.Table,
    images: ImageVectors,
    encoder: Encoder,
    *,
    batch_size: int,
) -> Embedded:
    """Embed every sample that has an image; which of them agree is for `pairs.select` to say.

    Parameters
    ----------
    samples
        One list (`schema.SAMPLES`).
    outcomes
        What the download made of its urls (`schema.OUTCOMES`), each url once.
    images
        `from_shard` for a list that was fetched, `from_scored` for late texts of earlier images
        (with outcomes `with_vectors`).

    Returns
    -------
    Embedded
        One row per sample with an image and two vectors, in the order of `samples`.

    Raises
    ------
    RunError
        If the model gives no vectors for half of them.
    """
    outcome = outcomes.take(pc.index_in(samples["url"], outcomes["url"]))
    has_image = pc.equal(outcome["status"], Status.OK.value)
    lost = outcome["status"].filter(pc.invert(has_image))
    rows, outcome = samples.filter(has_image), outcome.filter(has_image)

    texts = _stack(
        [encoder.encode_texts(batch) for batch in _batches(rows["text"].to_pylist(), batch_size)],
        encoder.dim,
    )
    vectors = images(outcome)
    is_sound = _is_unit(vectors) & _is_unit(texts)
    _require_most(is_sound, encoder)
    rows, outcome = rows.filter(pa.array(is_sound)), outcome.filter(pa.array(is_sound))
    vectors, texts = vectors[is_sound], texts[is_sound]
    cosine = similarity(vectors, texts)
    table = _table(rows, outcome, cosine, vectors, texts)
    counts = _counts(len(samples), table, lost, n_without=int((~is_sound).sum()))
    return Embedded(table, counts)


def _is_unit(vectors: Embeddings) -> npt.NDArray[np.bool_]:
    """Tell of each row whether it is a unit vector: one of NaN, infinity or zeros is none."""
    is_unit: npt.NDArray[np.bool_] = np.abs(np.linalg.norm(vectors, axis=1) - 1) < _UNIT_WITHIN
    return is_unit


def _require_most(is_sound: npt.NDArray[np.bool_], encoder: Encoder) -> None:
    """Raise RunError if a model fails for so many samples that it is the model's fault."""
    n_without = int((~is_sound).sum())
    if n_without > 1 and 2 * n_without >= len(is_sound):
        raise RunError(
            f"model {encoder.name} gave no vector (NaN, infinite or zero) for {n_without} of "
            f"{len(is_sound)} samples of a list; try embed.precision fp32, and check its weights"
        )


def _stack(batches: list[Embeddings], dim: int) -> Embeddings:
    return np.concatenate([np.empty((0, dim), np.float32), *batches])


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _table(
    rows: pa.Table,
    outcome: pa.Table,
    cosine: npt.NDArray[np.float32],
    images: Embeddings,
    texts: Embeddings,
) -> pa.Table:
    schema = scored(images.shape[1])
    made = {
        "similarity": pa.array(cosine),
        "image_embedding": _packed(images),
        "text_embedding": _packed(texts),
    }
    columns = [
        made[name] if name in made else (rows if name in rows.column_names else outcome)[name]
        for name in schema.names
    ]
    return pa.table(columns, schema=schema)


def _packed(vectors: Embeddings) -> pa.Array:
    """Store vectors as float16: half the bytes, and it moves a similarity by at most 5e-5."""
    width = 2 * vectors.shape[1]
    data = pa.py_buffer(np.ascontiguousarray(vectors, dtype="<f2"))
    return pa.Array.from_buffers(pa.binary(width), len(vectors), [None, data])


def _counts(seen: int, table: pa.Table, lost: pa.ChunkedArray, *, n_without: int) -> Counts:
    rejected = {item["values"]: item["counts"] for item in pc.value_counts(lost).to_pylist()}
    if n_without:
        rejected[Reject.NO_VECTOR.value] = n_without + rejected.get(Reject.NO_VECTOR.value, 0)
    return Counts(seen, len(table), dict(sorted(rejected.items())), _histogram(table))


def _histogram(table: pa.Table) -> dict[str, int]:
    notes: dict[str, int] = {}
    for split in SPLITS:
        part = table.filter(pc.equal(table["split"], split))
        cosine = part["similarity"].to_numpy()
        bins, _ = np.histogram(cosine, bins=HISTOGRAM_BINS, range=(-1, 1))
        notes |= {
            f"similarity/{split}/{index:02d}": int(count)
            for index, count in enumerate(bins)
            if count
        }
    return notes
