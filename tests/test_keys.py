import hashlib
import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.keys import (
    KEY,
    among,
    contains,
    from_digests,
    holds,
    no_keys,
    of_texts,
    sort_order,
    unique,
)

# Few different halves, so that keys agree in one half and differ in the other.
HALVES = st.sampled_from([0, 1, 2, 2**63, 2**64 - 1])
KEYS = st.lists(st.tuples(HALVES, HALVES), max_size=40)


def keys(pairs):
    return np.array(pairs, KEY)


def test_keys_are_the_two_halves_of_the_hex_digits_as_in_datacomp_subsets():
    digest = hashlib.md5(b"text" + b"url").digest()
    [key] = from_digests(digest).tolist()
    assert key == (int(digest.hex()[:16], 16), int(digest.hex()[16:], 16))
    assert of_texts(["texturl"]).tolist() == [key]


@given(KEYS)
def test_keys_sort_like_pairs_and_equal_ones_keep_their_order(pairs):
    order = sort_order(keys(pairs)).tolist()
    assert order == sorted(range(len(pairs)), key=lambda i: pairs[i])
    assert unique(keys(pairs)).tolist() == sorted(set(pairs))


@given(KEYS, KEYS)
def test_membership_is_that_of_a_set(known, asked):
    found = contains(unique(keys(known)), keys(asked)).tolist()
    assert among(unique(keys(known)), keys(asked)).tolist() == found
    assert found == [pair in set(known) for pair in asked]
    digests = [high.to_bytes(8) + low.to_bytes(8) for high, low in asked]
    assert [holds(unique(keys(known)), digest) for digest in digests] == found


def test_to_look_up_one_key_copies_none_of_a_long_list():
    known = np.zeros(1_000_000, KEY)
    known["f1"] = np.arange(1_000_000)
    tracemalloc.start()
    try:
        assert holds(known, (123_456).to_bytes(16))
        assert not holds(known, (1_000_000).to_bytes(16))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_no_keys_contain_nothing():
    for tell in (contains, among):
        assert not tell(no_keys(), keys([(1, 2)])).any()
        assert not len(tell(keys([(1, 2)]), no_keys()))
