"""Rules: what they drop, under which reason, and how they meet the similarity."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.errors import ConfigError
from cah_dask.pairs.scores.judge import Judge
from cah_dask.pairs.scores.options import Limit, Rules
from cah_dask.pairs.scores.rules import apply_rules, require_known
from cah_dask.pairs.select import select_list


def dropped(rules: Rules, **scores: list[float]) -> tuple[list[bool], dict[str, int]]:
    arrays = {name: np.array(values, np.float32) for name, values in scores.items()}
    is_kept, counts = apply_rules(rules, arrays, len(next(iter(arrays.values()))))
    return is_kept.tolist(), counts


def test_a_limit_is_compared_in_float32_and_is_itself_allowed():
    at = float(np.float32(0.7))
    above = float(np.nextafter(np.float32(0.7), np.float32(1)))
    below = float(np.nextafter(np.float32(0.7), np.float32(0)))
    values = [below, at, above]
    assert dropped({"r": {"s": Limit(above=0.7)}}, s=values)[0] == [True, True, False]
    assert dropped({"r": {"s": Limit(below=0.7)}}, s=values)[0] == [False, True, True]
    both = {"r": {"s": Limit(below=0.7, above=0.7)}}
    assert dropped(both, s=values)[0] == [False, True, False]


def test_a_rule_drops_only_what_all_its_limits_are_about():
    rules: Rules = {"young": {"nsfw": Limit(above=0.95), "words": Limit(above=0)}}
    kept, counts = dropped(rules, nsfw=[0.99, 0.99, 0.1, 0.1], words=[1, 0, 2, 0])
    assert kept == [False, True, True, True]
    assert counts == {"rule_young": 1}


def test_a_score_that_is_no_number_is_dropped_by_each_rule_about_it():
    for limit in (Limit(above=0.7), Limit(below=0.1)):
        assert dropped({"r": {"s": limit}}, s=[math.nan, 0.5])[0] == [False, True]


def test_a_row_is_counted_once_for_the_first_rule_by_name():
    rules: Rules = {"b": {"s": Limit(above=0.5)}, "a": {"s": Limit(above=0.8)}}
    assert dropped(rules, s=[0.9, 0.6, 0.1])[1] == {"rule_a": 1, "rule_b": 1}
    assert list(dropped(rules, s=[0.9])[1]) == ["rule_a"]


LIMITS = st.builds(
    Limit, above=st.none() | st.floats(0, 1, width=32), below=st.none() | st.floats(0, 1, width=32)
)


@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)), max_size=20),
    st.floats(0, 1, width=32),
    st.dictionaries(st.sampled_from("abc"), LIMITS, max_size=3),
)
def test_rows_balance_and_what_is_below_the_threshold_is_counted_as_that_only(
    rows, threshold, limits
):
    table = pa.table(
        {
            "uid": pa.array([number.to_bytes(16, "big") for number in range(len(rows))]),
            "split": pa.array(["en"] * len(rows), pa.string()),
            "similarity_clip": pa.array([similarity for similarity, _ in rows], pa.float32()),
            "score_s": pa.array([score for _, score in rows], pa.float32()),
        }
    )
    judge = Judge(rules={name: {"s": limit} for name, limit in limits.items()})
    selected, counts = select_list("part", table, "clip", {"en": threshold}, judge)
    counts.require_balance("select")
    n_below = sum(similarity < threshold for similarity, _ in rows)
    assert counts.rejected.get("below_threshold", 0) == n_below

    def is_dropped(score: float) -> bool:
        return any(
            (limit.above is not None and score > limit.above)
            or (limit.below is not None and score < limit.below)
            for limit in limits.values()
        )

    expected = [
        number
        for number, (similarity, score) in enumerate(rows)
        if similarity >= threshold and not is_dropped(score)
    ]
    assert selected["row"].to_pylist() == expected
    assert set(counts.rejected) <= {"below_threshold", *(f"rule_{name}" for name in limits)}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"r": {"nsfv": Limit(above=0.7)}}, r"select.drop.r is about the score nsfv; known: nsfw"),
        ({"r": {"nsfw": Limit()}}, r"select.drop.r.nsfw needs above or below"),
    ],
)
def test_a_rule_about_nothing_is_refused(rules: Rules, message: str):
    with pytest.raises(ConfigError, match=message):
        require_known(rules, ["nsfw"])
    with pytest.raises(ConfigError, match="this run has no scores"):
        require_known({"r": {"nsfw": Limit(above=0.7)}}, [])
