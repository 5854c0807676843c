"""Thresholds for an encoder that has none, from a run's own samples, without a label.

Two ways, which agree where both can be had: that as many pairs are kept as another encoder keeps at
its threshold, and that as few mismatched pairs would be kept. Mismatched are the vectors of the run
itself, each image with the texts of other samples.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.pairs.encoders.towers import Embeddings
from cah_dask.pairs.scores.numbers import Scores
from cah_dask.pairs.vectors import unpacked
from cah_dask.schema import Split, similarity_of, vector_of

SHIFTS = 10
"""Mismatched texts for each image."""

ENOUGH = 1_000
"""With fewer samples a threshold is shown and called uncertain: of 10,000 scores the kept share has
a standard deviation of 0.4 points (measured on drawn scores), of 1,000 about 1.3."""


class Calibrated(msgspec.Struct, frozen=True):
    """A threshold, and what it rests on."""

    group: str
    """Split, or split and language."""
    samples: int
    threshold: float
    kept: float
    """Share of the samples at or above it."""
    false_accepts: float
    """Share of mismatched pairs at or above it."""

    @property
    def is_certain(self) -> bool:
        """Whether there were `ENOUGH` samples."""
        return self.samples >= ENOUGH


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of one split or language, as one or two encoders see them; rows are samples."""

    scores: Scores
    """Similarities of the encoder that is calibrated."""
    images: Embeddings
    texts: Embeddings
    urls: npt.NDArray[np.object_]
    captions: npt.NDArray[np.object_]
    reference: Scores | None = None
    """Similarities of the encoder that is known."""

    def mismatched(self) -> Scores:
        """Return similarities of images with texts of other samples, `SHIFTS` for each image.

        A text of the same image, or the same text, is no mismatch. Samples are in the order of
        their uids, which has nothing to do with what they show.
        """
        found = [np.empty(0, np.float32)]
        for shift in range(1, min(SHIFTS, len(self.scores) - 1) + 1):
            is_other = (np.roll(self.urls, shift) != self.urls) & (
                np.roll(self.captions, shift) != self.captions
            )
            cosine = np.einsum("nd,nd->n", self.images, np.roll(self.texts, shift, axis=0))
            found.append(cosine[is_other].astype(np.float32))
        return np.concatenate(found)


def read_samples(
    tables: Iterable[pa.Table], encoder: str, reference: str | None, limit: int
) -> dict[str, Samples]:
    """Return samples of each split and of each language of it, the `limit` first uids of a split.

    Parameters
    ----------
    tables
        Scored samples with the columns of `columns_for`.
    """
    chosen: dict[str, pa.Table] = {}
    for table in tables:
        for split in pc.unique(table["split"]).to_pylist():
            mine = table.filter(pc.equal(table["split"], split))
            both = pa.concat_tables([chosen[split], mine]) if split in chosen else mine
            chosen[split] = both.take(pc.select_k_unstable(both, limit, [("uid", "ascending")]))
    found = {}
    for split, table in sorted(chosen.items()):
        found[split] = _samples(table, encoder, reference)
        for language in sorted(pc.unique(table["lang"]).to_pylist()):
            rows = table.filter(pc.equal(table["lang"], language))
            found[f"{split}/{language}"] = _samples(rows, encoder, reference)
    return found


def columns_for(encoder: str, reference: str | None) -> list[str]:
    """Return the columns of scored samples that `read_samples` needs."""
    names = ["uid", "url", "text", "split", "lang", similarity_of(encoder)]
    names += [vector_of(encoder, "image"), vector_of(encoder, "text")]
    return names + ([similarity_of(reference)] if reference else [])


def _samples(table: pa.Table, encoder: str, reference: str | None) -> Samples:
    return Samples(
        scores=table[similarity_of(encoder)].to_numpy(),
        images=_vectors(table[vector_of(encoder, "image")]),
        texts=_vectors(table[vector_of(encoder, "text")]),
        urls=np.array(table["url"].to_pylist(), object),
        captions=np.array(table["text"].to_pylist(), object),
        reference=table[similarity_of(reference)].to_numpy() if reference else None,
    )


def _vectors(column: pa.ChunkedArray) -> Embeddings:
    vectors: Embeddings = unpacked(column).astype(np.float32)
    return vectors


def by_keep_rate(
    samples: dict[str, Samples], thresholds: dict[Split, float]
) -> Iterator[Calibrated]:
    """Yield thresholds that keep the share that the reference keeps at its own.

    Parameters
    ----------
    thresholds
        Those of the reference, by split.
    """
    for group, found in samples.items():
        known = thresholds.get(_split(group))
        if known is None or found.reference is None:
            continue
        share = float(np.mean(found.reference >= np.float32(known)))
        yield _calibrated(group, found, _at_share(found.scores, share), found.mismatched())


def by_false_accepts(samples: dict[str, Samples], rate: float) -> Iterator[Calibrated]:
    """Yield thresholds that let through a share of the mismatched pairs.

    A group with so few samples that the share cannot be told is left out.
    """
    for group, found in samples.items():
        wrong = found.mismatched()
        if len(wrong) * rate >= 1:
            yield _calibrated(group, found, _at_share(wrong, rate), wrong)


def _calibrated(group: str, found: Samples, threshold: float, wrong: Scores) -> Calibrated:
    floor = np.float32(threshold)
    false_accepts = float(np.mean(wrong >= floor)) if len(wrong) else 0.0
    kept = float(np.mean(found.scores >= floor))
    return Calibrated(group, len(found.scores), threshold, kept, false_accepts)


def _at_share(scores: Scores, share: float) -> float:
    """Return the similarity at or above which a share of them lies, at most; ties are left out."""
    in_order = np.sort(scores)[::-1]
    n_kept = int(share * len(scores) + 1e-6)  # a share of counts is k / n, and may come out lower
    if n_kept == 0:
        return float(np.nextafter(in_order[0], np.float32(2)))
    if n_kept < len(scores) and in_order[n_kept] == in_order[n_kept - 1]:
        return float(np.nextafter(in_order[n_kept], np.float32(2)))
    return float(in_order[n_kept - 1])


def _split(group: str) -> Split:
    split: Split = group.partition("/")[0]  # type: ignore[assignment]  # groups begin with one
    return split
