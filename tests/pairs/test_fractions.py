"""The share of a pool that is kept is exact, ties and all, and nobody sorts the pool."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cah_dask.errors import RunError
from cah_dask.pairs.embed import HISTOGRAM_BINS
from cah_dask.pairs.fractions import NONE_KEPT, top_fractions
from cah_dask.schema import Split

FRACTIONS = [0.001, 0.1, 0.29, 0.3, 0.5, 0.999]


def threshold_of(values: np.ndarray, fraction: float) -> float:
    counts, _ = np.histogram(values, bins=HISTOGRAM_BINS, range=(-1, 1))
    histogram = {index: int(count) for index, count in enumerate(counts) if count}
    pieces: list[dict[Split, np.ndarray]] = [
        {"en": piece, "multi": -piece} for piece in np.array_split(values, 3)
    ]
    found = top_fractions({"en": histogram}, {"en": fraction}, lambda: pieces)
    return found["en"]


def by_sorting(values: np.ndarray, fraction: float) -> float:
    return float(np.sort(values)[::-1][int(len(values) * fraction)])


@given(
    arrays.arrays(np.float32, st.integers(1, 300), elements=st.floats(-1, 1, width=32)),
    st.floats(0.001, 0.999),
)
def test_it_is_the_threshold_of_a_whole_sort(values: np.ndarray, fraction: float):
    assert threshold_of(values, fraction) == by_sorting(values, fraction)


@given(
    arrays.arrays(np.int8, st.integers(1, 300), elements=st.integers(-50, 50)),
    st.sampled_from(FRACTIONS),
)
def test_similarities_at_the_edges_of_bins_are_no_exception(steps: np.ndarray, fraction: float):
    values = (steps / 50).astype(np.float32)
    assert threshold_of(values, fraction) == by_sorting(values, fraction)


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_all_ties_of_the_last_one_are_kept(fraction: float):
    values = np.random.default_rng(0).normal(0.2, 0.1, 20_000).astype(np.float16)
    values = values.clip(-1, 1).astype(np.float32)
    threshold = threshold_of(values, fraction)
    n_kept = int((values >= np.float32(threshold)).sum())
    assert n_kept > 20_000 * fraction
    above = values[values > np.float32(threshold)]
    assert len(above) <= 20_000 * fraction


def test_each_split_has_a_threshold_of_its_own_in_one_pass():
    values = np.linspace(-1, 1, 101, dtype=np.float32)
    counts, _ = np.histogram(values, bins=HISTOGRAM_BINS, range=(-1, 1))
    histogram = {index: int(count) for index, count in enumerate(counts) if count}
    passes = []

    def scores():
        passes.append(1)
        yield {"en": values, "multi": values}

    bins: dict[Split, dict[int, int]] = {"en": histogram, "multi": histogram}
    found = top_fractions(bins, {"en": 0.1, "multi": 0.7}, scores)
    assert found == {"en": by_sorting(values, 0.1), "multi": by_sorting(values, 0.7)}
    assert len(passes) == 1


def test_a_split_without_samples_keeps_none():
    assert top_fractions({}, {"en": 0.5}, list) == {"en": NONE_KEPT}


def test_similarities_that_are_not_those_counted_are_no_threshold():
    with pytest.raises(RunError, match="scored/ holds other en samples"):
        top_fractions({"en": {60: 10}}, {"en": 0.5}, lambda: [{"en": np.zeros(2, np.float32)}])
