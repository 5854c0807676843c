"""What becomes of items at the model: every one has an outcome, whatever the model does."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import cast

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.classify.arrays import packed
from cah_dask.classify.histogram import bins_of, lower_end
from cah_dask.classify.hooks import Model, arrays_of
from cah_dask.classify.loading import keep_of, model_of, require_callable
from cah_dask.classify.options import ClassifyOptions, HookOptions, KeepOptions
from cah_dask.classify.proof import Proof
from cah_dask.classify.rows import READ
from cah_dask.classify.scoring import BrokenModelError, Scoring, with_arrays
from cah_dask.errors import AlarmError, ConfigError, RunError
from cah_dask.pairs.vectors import unpacked

NOTING = "tests.classify.models:Noting"
BREAKING = "tests.classify.models:Breaking"
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


def scored(*texts: str, proof: Proof | None = None, **options) -> tuple[pa.Table, Scoring]:
    chosen = ClassifyOptions(**{"model": LENGTHS, "keep": LONG, "batch_size": 2, **options})
    model = model_of(chosen, device="cpu", threads=1)
    scoring = Scoring(model, keep_of(chosen), chosen, "a.warc.gz", proof=proof)
    groups = with_arrays([table(*texts)], chosen.batch_size)
    return pa.concat_tables(scoring.groups(groups)), scoring


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


@pytest.mark.parametrize(
    ("notes", "said"),
    [
        ({"cut": 1.5}, "gives 1.5 as the note 'cut'; notes are whole numbers"),
        ({"cut": float("nan")}, "gives nan as the note 'cut'"),
        ({"cut": -1}, "gives -1 as the note"),
        ({"cut": 1 << 63}, "gives 9223372036854775808 as the note"),
        ({"cut": "1"}, "gives '1' as the note"),
        ({3: 1}, "gives 1 as the note 3"),
        ({"": 1}, "gives 1 as the note ''"),
        ({"\ud800": 1}, r"gives 1 as the note '\\ud800'"),
        (None, "gives notes of type NoneType; a dict is needed"),
    ],
)
def test_notes_that_a_receipt_cannot_hold_are_one_line(notes, said: str):
    with pytest.raises(RunError, match=f"tests.classify.models:Noting {said}"):
        scored("abc", model=HookOptions(use=NOTING, arguments={"notes": notes}))


@pytest.mark.parametrize("count", [2, np.int64(2), np.uint8(2)])
def test_notes_are_counted_whatever_their_whole_numbers_are(count):
    notes = scored(
        "abc", "abcd", "abcde", model=HookOptions(use=NOTING, arguments={"notes": {"cut": count}})
    )[1].notes
    assert notes["model/cut"] == 4
    assert msgspec.json.encode(dict(notes))


def test_an_item_is_tried_again_as_it_was():
    found, _ = scored("abc", "bad", "aaaaa", model="tests.classify.models:InPlace", batch_size=3)
    assert found["score_length"].to_pylist() == [ord("a"), ord("a")]


@pytest.mark.parametrize("fails", ["raises", "not finite"])
@pytest.mark.parametrize("after", [1, 2, 5, 39])
@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_a_model_that_breaks_loses_no_item(after: int, fails: str, batch_size: int):
    model = HookOptions(use=BREAKING, arguments={"after": after, "fails": fails})
    texts = [f"text {number}" for number in range(40 * batch_size)]
    with pytest.raises(BrokenModelError, match=r"fails for what it scored before, since .* at \d"):
        scored(*texts, model=model, batch_size=batch_size)


def test_a_model_that_is_broken_from_the_start_is_told_from_bad_items(tmp_path):
    proof = Proof(tmp_path / "sound")
    with pytest.raises(AlarmError):
        scored(*["bad"] * 16, proof=proof)
    scored("abc", proof=proof)
    assert scored(*["bad"] * 40, proof=Proof(tmp_path / "sound"))[1].rejected == {"model_error": 40}
    model = HookOptions(use=BREAKING, arguments={"after": 0, "fails": "raises"})
    with pytest.raises(BrokenModelError):
        scored("abc", model=model, proof=Proof(tmp_path / "sound"))


@pytest.mark.parametrize("raises", [SystemExit, KeyboardInterrupt, BaseException])
@pytest.mark.parametrize("use", ["model", "keep"])
def test_a_hook_that_ends_its_process_politely_costs_the_item(use: str, raises: type):
    def ending(*_):
        raise raises("bye")

    chosen = ClassifyOptions(model=LENGTHS, batch_size=2)
    model = model_of(chosen, device="cpu", threads=1)
    ends = use == "model"
    keep = keep_of(chosen) if ends else ending
    model = cast("Model", _Calling(ending)) if ends else model
    scoring = Scoring(model, keep, chosen, "a.warc.gz")
    with ThreadPoolExecutor() as others:  # as on a worker: the main thread has Ctrl-C
        assert others.submit(list, scoring.groups(with_arrays([table("a", "b")], 2))).result()
    assert scoring.rejected == {f"{use}_error": 2}
    with pytest.raises(KeyboardInterrupt) if raises is KeyboardInterrupt else nullcontext():
        list(scoring.groups(with_arrays([table("a", "b")], 2)))


class _Calling:
    names = ("length",)
    dim = 0

    def __init__(self, does) -> None:
        self.does = does

    def __call__(self, batch):
        return self.does(batch)


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 10))
def test_batches_do_not_depend_on_groups(lengths: list[int], batch_size: int):
    whole = table(*(f"text {number}" for number in range(sum(lengths))))
    stops = np.cumsum(lengths).tolist()
    groups = [whole.slice(stop - n, n) for n, stop in zip(lengths, stops, strict=True)]
    made = list(with_arrays(groups, batch_size))
    assert all(len(rows) == len(arrays) > 0 for rows, arrays in made)
    assert all(len(rows) % batch_size == 0 for rows, _ in made[:-1])
    found = pa.concat_tables([rows for rows, _ in made] or [whole])
    assert found.equals(whole)
    texts = [bytes(each["text"]) for _, arrays in made for each in arrays]
    assert texts == whole["payload"].to_pylist()


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
