"""Rows drawn by their uids."""

import numpy as np

from cah_dask.curate.uid_hashes import is_drawn
from tests.curate.vectors.test_kmeans import drawn_uids


def test_a_sample_is_chosen_by_uid_and_smaller_ones_are_part_of_larger_ones():
    uids = drawn_uids(20_000)
    tenth, third = is_drawn(uids, 0.1, 0), is_drawn(uids, 0.3, 0)
    assert 1800 < tenth.sum() < 2200
    assert not (tenth & ~third).any()
    assert is_drawn(uids, 1.0, 0).all()
    order = np.random.default_rng(0).permutation(len(uids))
    assert np.array_equal(is_drawn(uids[order], 0.1, 0), tenth[order])
    assert 100 < (is_drawn(uids, 0.1, 1) & tenth).sum() < 300  # another seed, another sample
