"""What becomes of items at the model: every one has an outcome, whatever the model does."""

import numpy as np
import pyarrow as pa
import pytest

from cah_dask.classify.arrays import packed
from cah_dask.classify.histogram import bins_of, lower_end
from cah_dask.classify.hooks import arrays_of
from cah_dask.classify.loading import keep_of, model_of, require_callable
from cah_dask.classify.options import ClassifyOptions, HookOptions, KeepOptions
from cah_dask.classify.rows import READ
from cah_dask.classify.scoring import Scoring, with_arrays
from cah_dask.errors import ConfigError, RunError
from cah_dask.pairs.vectors import unpacked

LENGTHS = "tests.classify.models:Lengths"
LONG = KeepOptions(score="length", at_least=4)


def table(*texts: str) -> pa.Table:
    rows = [
        {
            "url": f"https://a.example/{number}", "date": "", "offset": number, "digest": "",
            "mime": "text/plain", "status": 200, "arrays": packed(arrays_of(text)),
            "payload": text.encode(),
        }
        for number, text in enumerate(texts)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=READ)


def scored(*texts: str, **options) -> tuple[pa.Table, Scoring]:
    chosen = ClassifyOptions(**{"model": LENGTHS, "keep": LONG, "batch_size": 2, **options})
    model = model_of(chosen, device="cpu", threads=1)
    scoring = Scoring(model, keep_of(chosen), chosen, "a.warc.gz")
    return pa.concat_tables(scoring.groups(with_arrays([table(*texts)]))), scoring


def test_each_item_has_an_outcome_and_bad_ones_cost_no_other():
    found, scoring = scored("abc", "abcde", "bad", "aaaaa", "nan", "abcabc")
    assert found["offset"].to_pylist() == [0, 1, 3, 5]
    assert found["kept"].to_pylist() == [False, True, True, True]
    assert found["score_length"].to_pylist() == [3, 5, 5, 6]
    assert scoring.rejected == {"below": 1, "model_error": 1, "bad_score": 1}
    assert scoring.messages == [
        f"record at 2: {LENGTHS}: ValueError: a bad text",
        f"record at 4: {LENGTHS} gives what is not finite",
    ]  # fmt: skip
    kept = found.filter(found["kept"])
    assert unpacked(kept["vector"]).tolist() == [[1, 1, 1], [5, 0, 0], [2, 2, 2]]
    assert scoring.notes["rows"] == 3


@pytest.mark.parametrize(
    ("options", "rows", "payloads", "vectors"),
    [
        ({"payload": "kept"}, 1, [None, b"abcde"], [False, True]),
        ({"payload": "all"}, 1, [None, b"abcde"], [False, True]),
        ({"payload": "all", "rejected": True}, 2, [b"abc", b"abcde"], [True, True]),
        ({"payload": "kept", "rejected": True}, 2, [None, b"abcde"], [True, True]),
    ],
)
def test_what_is_put_out_has_vectors_and_payloads_as_asked(options, rows, payloads, vectors):
    found, scoring = scored("abc", "abcde", **options)
    assert scoring.notes["rows"] == rows
    assert found["payload"].to_pylist() == payloads
    assert [vector is not None for vector in found["vector"].to_pylist()] == vectors


def test_vectors_that_are_not_wanted_are_not_there():
    found, _ = scored("abc", vectors=False)
    assert "vector" not in found.column_names


def test_a_hook_decides_and_what_it_raises_costs_the_record():
    keep = KeepOptions(use="tests.classify.models:long_enough", arguments={"least": 5})
    found, scoring = scored("abcdefg", "abcde", "a", keep=keep)
    assert found["kept"].to_pylist() == [True, False]
    assert scoring.rejected == {"keep_error": 1, "below": 1}


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        ("none", "gives NoneType; Scored is needed"),
        (
            "integers",
            r"gives scores of type int32 and shape \(2, 2\) for 2 items; float32",
        ),
        ("flat", r"gives scores of type float32 and shape \(2,\) for 2 items"),
        ("no vectors", r"gives vectors of type object and shape \(\) for 2 items"),
    ],
)
def test_nonsense_of_a_model_is_one_line(gives: str, message: str):
    model = HookOptions(use="tests.classify.models:Wrong", arguments={"gives": gives})
    with pytest.raises(RunError, match=message):
        scored("abc", "abcde", model=model)


def test_nonsense_of_keep_is_one_line():
    with pytest.raises(RunError, match=r"keep gives str for \{'length': 3.0"):
        scored("abc", keep="tests.classify.models:nonsense")


def test_a_model_that_fails_for_all_items_is_one_line():
    assert scored(*["bad"] * 15)[1].rejected == {"model_error": 15}
    with pytest.raises(RunError, match=r"each of the first 16 items of a.warc.gz fails: .*: a bad"):
        scored(*["bad"] * 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"read": "tests.classify.models:gone"}, "gone cannot be imported"),
        ({"read": "no name"}, "read: 'no name' is not of the form module:name"),
        ({"read": "tests.classify.bad_hooks:no_arguments"}, r"\(\) cannot be called with a record"),
        ({"model": "tests.classify.models:text"}, "model: tests.classify.models:text is no class"),
        ({"model": "tests.classify.models:Wrong"}, "cannot be built by device, threads: missing a"),
        (
            {"keep": "tests.classify.models:long_enough"},
            "be called with the scores: missing",
        ),
        ({"prepare": "tests.classify.models:LENGTH"}, "LENGTH cannot be imported"),
        *(
            ({key: "tests.classify.models:NoCall"}, f"{key}: .*:NoCall has no __call__, so an ins")
            for key in ("read", "prepare", "model", "keep")
        ),
    ],
)
def test_hooks_that_cannot_be_called_are_one_line_before_anything_is_done(options, message):
    with pytest.raises(ConfigError, match=message):
        require_callable(ClassifyOptions(**options))


@pytest.mark.parametrize(
    "names", [{"length", "vowels"}, {"length": 1}, iter(["length"]), "length", 5, [1], ["a", "a"]]
)
def test_names_of_scores_are_a_list_or_a_tuple(names):
    model = HookOptions(use="tests.classify.models:Named", arguments={"names": names})
    with pytest.raises(ConfigError, match="a list or tuple of those of its scores is needed"):
        scored("abc", model=model)


def test_a_rule_of_a_score_that_the_model_has_not_is_one_line():
    with pytest.raises(ConfigError, match=r"keep.score is 'x', but the scores of .* length"):
        scored("abc", keep=KeepOptions(score="x", at_least=1))


def test_histograms_of_any_size():
    scores = np.array([0, 0.019, 0.021, 0.999, 1, 1.2, 1e30, -0.001, -0.021, -5], np.float32)
    bins = bins_of(scores)
    for score, number in zip(scores.tolist(), bins.tolist(), strict=True):
        assert lower_end(number) <= score * (1 + 1e-6 * np.sign(score)), score
        assert score <= lower_end(number + 1) * (1 + 1e-6), score
    assert len(set(bins.tolist())) == len(scores) - 1, "0 and 0.019 lie in one"
