"""The share of a pool that is kept is exact, ties and all, and nobody sorts the pool."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cah_dask.errors import RunError
from cah_dask.pairs.embed import HISTOGRAM_BINS
from cah_dask.pairs.fractions import NONE_KEPT, top_fraction

FRACTIONS = [0.001, 0.1, 0.29, 0.3, 0.5, 0.999]


def threshold_of(values: np.ndarray, fraction: float) -> float:
    counts, _ = np.histogram(values, bins=HISTOGRAM_BINS, range=(-1, 1))
    histogram = {index: int(count) for index, count in enumerate(counts) if count}
    return top_fraction(histogram, fraction, lambda: np.array_split(values, 3))


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


def test_a_split_without_samples_keeps_none():
    assert top_fraction({}, 0.5, list) == NONE_KEPT


def test_similarities_that_are_not_those_counted_are_no_threshold():
    with pytest.raises(RunError, match="scored/ holds others"):
        top_fraction({60: 10}, 0.5, lambda: [np.zeros(2, np.float32)])
