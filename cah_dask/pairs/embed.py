"""One fetch list through the encoder: samples and images in, scored samples out."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.counts import Counts, Reject, Status
from cah_dask.errors import RunError, ShardError
from cah_dask.images.published import with_changed
from cah_dask.images.shards import ShardReader
from cah_dask.pairs.encoders.towers import Embeddings, Encoder
from cah_dask.pairs.prefetch import Preprocessor, preprocessed
from cah_dask.pairs.scores.numbers import Scores
from cah_dask.pairs.scores.scorers import NO_SCORERS, Scorers
from cah_dask.pairs.vectors import normalised, packed, unpacked
from cah_dask.schema import MODALITIES, SPLITS, Split, score_of, scored, similarity_of, vector_of

HISTOGRAM_BINS = 100
"""Bins over [-1, 1] in which each task counts its similarities: 0.02 wide."""

LONG_TEXTS = "long_texts"
"""The note, by encoder and split, of texts that a text tower cut to its context length."""

_NO_SCORES = np.empty(0, np.float32)
_UNIT_WITHIN = 1e-2  # a vector in half precision is off by 1e-3 at the most


OfImages: TypeAlias = dict[str, npt.NDArray[np.float32]]
"""Image vectors ``(n, dim)`` and scores ``(n,)`` by their column in `schema.scored`."""

ImageVectors: TypeAlias = Callable[[pa.Table], OfImages]
"""Gives what is known of the image of each row of outcomes that are ok; rows may repeat."""


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
        ``(n, dim)`` float32, rows L2-normalised (`encoders.towers` promise this).

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


def from_shard(
    shard: ShardReader,
    encoders: Sequence[Encoder],
    batch_size: int,
    scorers: Scorers = NO_SCORERS,
    *,
    threads: int = 1,
    waited: Callable[[float], None] = lambda _: None,
) -> ImageVectors:
    """Embed and score the images of a shard, each one once however many texts it has.

    Parameters
    ----------
    threads
        Threads that decode ahead of the models.
    waited
        Is told the seconds for which the models had to wait for pictures.
    """

    def vectors(outcomes: pa.Table) -> OfImages:
        rows, position = np.unique(outcomes["image_row"].to_numpy(), return_inverse=True)
        encoded: dict[str, list[Embeddings]] = {encoder.name: [] for encoder in encoders}
        scored: dict[str, list[Scores]] = {name: [] for name in scorers.pictures}
        pictures = (shard.read(batch) for batch in _batches(rows.tolist(), batch_size))
        takers: list[Preprocessor] = [encoder.image for encoder in encoders]
        takers += scorers.pictures.values()
        with contextlib.closing(preprocessed(pictures, takers, threads, waited)) as batches:
            for batch in batches:
                for encoder, pixels in zip(encoders, batch, strict=False):
                    encoded[encoder.name].append(encoder.image.encode_images(pixels))
                for (name, scorer), pixels in zip(
                    scorers.pictures.items(), batch[len(encoders) :], strict=True
                ):
                    scored[name].append(scorer.score(pixels))
        found = {each.name: _stack(encoded[each.name], each.dim) for each in encoders}
        scores = {name: np.concatenate([_NO_SCORES, *scored[name]]) for name in scored}
        made = {vector_of(name, "image"): vectors for name, vectors in found.items()}
        made |= {score_of(name): each for name, each in scorers.with_prompts(scores, found).items()}
        return {name: each[position] for name, each in made.items()}

    return vectors


def image_columns(encoders: Sequence[Encoder], scores: Sequence[str] = ()) -> list[str]:
    """Return the columns of scored samples that tell of an image."""
    vectors = [vector_of(encoder.name, "image") for encoder in encoders]
    return [*vectors, *map(score_of, scores)]


def from_scored(
    scored: pa.Table, encoders: Sequence[Encoder], scores: Sequence[str] = ()
) -> ImageVectors:
    """Take vectors and scores from scored samples (`url`, `image_columns`) with the same images.

    Vectors were rounded to float16, which moves a similarity by at most 5e-5.
    """

    def vectors(outcomes: pa.Table) -> OfImages:
        rows = scored.take(pc.index_in(outcomes["url"], scored["url"]))
        made = {name: normalised(unpacked(rows[name])) for name in image_columns(encoders)}
        return made | {score_of(name): rows[score_of(name)].to_numpy() for name in scores}

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
    encoders: Sequence[Encoder],
    scores: Sequence[str] = (),
    *,
    models_done: Callable[[], None] = lambda: None,
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
    scores
        Names of the scores that `images` gives, too.
    models_done
        Is called when no model is needed any more.

    Returns
    -------
    Embedded
        One row per sample with an image and all vectors, in the order of `samples`.

    Raises
    ------
    RunError
        If a model gives no vectors for half of them.
    """
    outcome = outcomes.take(pc.index_in(samples["url"], outcomes["url"]))
    outcome = with_changed(outcome, samples)
    has_image = pc.equal(outcome["status"], Status.OK.value)
    lost = outcome["status"].filter(pc.invert(has_image))
    rows, outcome = samples.filter(has_image), outcome.filter(has_image)

    made = images(outcome)
    found = [_texts(encoder, rows) for encoder in encoders]
    models_done()
    notes: dict[str, int] = {}
    is_sound = np.ones(len(rows), bool)
    for encoder, (texts, n_cut) in zip(encoders, found, strict=True):
        notes |= {f"{LONG_TEXTS}/{encoder.name}/{split}": n for split, n in n_cut.items() if n}
        has_vectors = _is_unit(made[vector_of(encoder.name, "image")]) & _is_unit(texts)
        _require_most(has_vectors, encoder)
        is_sound &= has_vectors
        made[vector_of(encoder.name, "text")] = texts
    rows, outcome = rows.filter(pa.array(is_sound)), outcome.filter(pa.array(is_sound))
    made = {name: each[is_sound] for name, each in made.items()}
    table = _table(rows, outcome, made, encoders, scores)
    notes |= _histograms(table, encoders)
    counts = _counts(len(samples), table, lost, n_without=int((~is_sound).sum()), notes=notes)
    return Embedded(table, counts)


def _texts(encoder: Encoder, rows: pa.Table) -> tuple[Embeddings, dict[Split, int]]:
    """Embed the text of each row by the tower of its split, equal texts once.

    Returns the vectors, and how many texts of each split were cut.
    """
    vectors = np.empty((len(rows), encoder.dim), np.float32)
    n_cut: dict[Split, int] = {}
    splits = rows["split"].to_numpy(zero_copy_only=False)
    for split in SPLITS:
        places = np.flatnonzero(splits == split)
        if not len(places):
            continue
        texts = rows["text"].take(places).to_pylist()
        unique = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        found = encoder.texts[split].encode_texts(list(unique))
        position = [unique[text] for text in texts]
        vectors[places] = found.vectors[position]
        n_cut[split] = found.n_cut
    return vectors, n_cut


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
    found: Mapping[str, npt.NDArray[np.float32]],
    encoders: Sequence[Encoder],
    scores: Sequence[str],
) -> pa.Table:
    schema = scored({encoder.name: encoder.dim for encoder in encoders}, scores)
    made = {score_of(name): pa.array(found[score_of(name)]) for name in scores}
    for encoder in encoders:
        pair = [vector_of(encoder.name, modality) for modality in MODALITIES]
        made |= {name: packed(found[name]) for name in pair}
        made[similarity_of(encoder.name)] = pa.array(similarity(*(found[name] for name in pair)))
    columns = [
        made[name] if name in made else (rows if name in rows.column_names else outcome)[name]
        for name in schema.names
    ]
    return pa.table(columns, schema=schema)


def _counts(
    seen: int, table: pa.Table, lost: pa.ChunkedArray, *, n_without: int, notes: dict[str, int]
) -> Counts:
    rejected = {item["values"]: item["counts"] for item in pc.value_counts(lost).to_pylist()}
    if n_without:
        rejected[Reject.NO_VECTOR.value] = n_without + rejected.get(Reject.NO_VECTOR.value, 0)
    return Counts(seen, len(table), dict(sorted(rejected.items())), notes)


def _histograms(table: pa.Table, encoders: Sequence[Encoder]) -> dict[str, int]:
    notes: dict[str, int] = {}
    for split in SPLITS:
        part = table.filter(pc.equal(table["split"], split))
        for encoder in encoders:
            cosine = part[similarity_of(encoder.name)].to_numpy()
            bins, _ = np.histogram(cosine, bins=HISTOGRAM_BINS, range=(-1, 1))
            notes |= {
                f"similarity/{encoder.name}/{split}/{index:02d}": int(count)
                for index, count in enumerate(bins)
                if count
            }
    return notes
