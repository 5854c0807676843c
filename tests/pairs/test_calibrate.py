"""Thresholds without labels: as many kept as a known encoder keeps, as few mismatches as stated."""

import numpy as np
import pyarrow as pa
import pytest

from cah_dask.pairs.calibrate import (
    ENOUGH,
    Samples,
    by_false_accepts,
    by_keep_rate,
    columns_for,
    read_samples,
)
from cah_dask.schema import Split

DIM, N = 16, 4000


def space(scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of images and texts whose pairs agree, the more the larger `scale` is."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(N, DIM)).astype(np.float32)
    texts = scale * images + rng.normal(size=(N, DIM)).astype(np.float32)
    return tuple(each / np.linalg.norm(each, axis=1, keepdims=True) for each in (images, texts))


def samples(scale: float, reference: np.ndarray | None = None) -> Samples:
    images, texts = space(scale)
    numbers = np.array([f"u{n}" for n in range(N)], object)
    scores = np.einsum("nd,nd->n", images, texts)
    return Samples(scores, images, texts, numbers, numbers, reference)


def test_as_many_pairs_are_kept_as_by_the_reference():
    reference = np.einsum("nd,nd->n", *space(2.0))
    known: dict[Split, float] = {"en": 0.9}
    (found,) = by_keep_rate({"en": samples(0.5, reference)}, known)
    assert found.kept == pytest.approx(float(np.mean(reference >= np.float32(0.9))), abs=1 / N)
    assert found.threshold < 0.9
    assert (found.samples, found.is_certain) == (N, True)


def test_a_split_whose_reference_has_no_threshold_is_left_out():
    reference = np.zeros(N, np.float32)
    assert not list(by_keep_rate({"multi": samples(1.0, reference)}, {"en": 0.3}))


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1])
def test_mismatched_pairs_are_kept_at_the_stated_rate(rate: float):
    mine = samples(1.0)
    (found,) = by_false_accepts({"en": mine}, rate)
    wrong = np.einsum("nd,nd->n", mine.images, np.roll(mine.texts, 500, axis=0))
    assert float(np.mean(wrong >= found.threshold)) == pytest.approx(
        rate, abs=3 * (rate / N) ** 0.5
    )
    assert found.false_accepts == pytest.approx(rate, abs=1e-4)


def test_both_ways_agree_if_the_reference_keeps_as_few_mismatches():
    known = samples(2.0)
    (reference,) = by_false_accepts({"en": known}, 0.001)
    other = samples(2.0, known.scores)
    (kept,) = by_keep_rate({"en": other}, {"en": reference.threshold})
    (accepted,) = by_false_accepts({"en": other}, 0.001)
    assert kept.threshold == pytest.approx(accepted.threshold, abs=1e-3)


def test_texts_of_the_same_picture_are_no_mismatches():
    mine = samples(1.0)
    same = Samples(mine.scores, mine.images, mine.texts, np.array(["u"] * N, object), mine.captions)
    assert len(same.mismatched()) == 0
    same = Samples(mine.scores, mine.images, mine.texts, mine.urls, np.array(["t"] * N, object))
    assert len(same.mismatched()) == 0


def test_a_split_with_too_few_samples_for_the_rate_is_left_out():
    many = samples(1.0)
    few = Samples(
        many.scores[:3], many.images[:3], many.texts[:3], many.urls[:3], many.captions[:3]
    )
    found = list(by_false_accepts({"en": many, "nolang": few}, 0.001))
    assert [each.group for each in found] == ["en"]


def test_no_more_than_the_share_is_kept():
    (found,) = by_false_accepts({"en": samples(1.0)}, 1.5 / (10 * N))
    assert found.false_accepts == 1 / (10 * N)


def table(n: int, split: str, lang: str, first: int = 0) -> pa.Table:
    rng = np.random.default_rng(first)
    vectors = [rng.normal(size=4).astype("<f2").tobytes() for _ in range(n)]
    columns = {
        "uid": pa.array([(7919 * (first + k) % 65_537).to_bytes(16, "big") for k in range(n)]),
        "url": pa.array([f"u{first + k}" for k in range(n)]),
        "text": pa.array([f"t{first + k}" for k in range(n)]),
        "split": pa.repeat(split, n),
        "lang": pa.repeat(lang, n),
        "similarity_b": pa.array(rng.random(n), pa.float32()),
        "image/b": pa.array(vectors, pa.binary(8)),
        "text/b": pa.array(vectors, pa.binary(8)),
        "similarity_a": pa.array(rng.random(n), pa.float32()),
    }
    return pa.table(columns)


def test_the_samples_are_those_with_the_lowest_uids_however_they_come():
    tables = [table(40, "en", "en"), table(30, "multi", "de", 40), table(30, "multi", "fr", 70)]
    assert tables[0].column_names == columns_for("b", "a")
    found = read_samples(tables, "b", "a", 25)
    again = read_samples(reversed(tables), "b", "a", 25)
    assert list(found) == ["en", "en/en", "multi", "multi/de", "multi/fr"]
    for group, mine in found.items():
        assert sorted(mine.urls) == sorted(again[group].urls)
    assert len(found["en"].scores) == len(found["multi"].scores) == 25
    uids = sorted(tables[0]["uid"].to_pylist())[:25]
    expected = [tables[0]["url"][tables[0]["uid"].to_pylist().index(uid)].as_py() for uid in uids]
    assert sorted(found["en"].urls) == sorted(expected)


def test_a_threshold_of_few_samples_is_called_uncertain():
    mine = samples(1.0)
    n = ENOUGH - 1
    few = Samples(
        mine.scores[:n], mine.images[:n], mine.texts[:n], mine.urls[:n], mine.captions[:n]
    )
    (found,) = by_false_accepts({"en": few}, 0.01)
    assert not found.is_certain
