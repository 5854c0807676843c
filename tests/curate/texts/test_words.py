"""Words and characters, as Python and fastText count them."""

import re
import sys

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cah_dask.curate.texts.words import count_characters, count_words

BLANKS = "".join(chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace())
TEXTS = st.lists(
    st.none() | st.text(max_size=20) | st.text(st.sampled_from(BLANKS + "\0\u200bab\u20acü犬🙂")),
    max_size=8,
)
FASTTEXT_COUNTS = {  # by fasttext.tokenize of fasttext 0.9.2
    "": 0,
    "a b": 2,
    " a ": 1,
    "a\nb": 3,
    "abcde\n": 2,
    "\n": 1,
    "\n\n": 2,
    "a\0b\tc\vd\fe\rf": 6,
    "one\u00a0two": 1,
    "one\u3000two": 1,
    "\x1c a": 2,
    "\x85": 1,
    "a</s>b": 1,
}


def fasttext_tokens(text: str) -> list[str]:
    """What `fasttext.tokenize` returns, said plainly."""
    return re.findall(r"\n|[^\0\t\n\v\f\r ]+", text)


def test_python_has_29_blanks():
    assert len(BLANKS) == 29


def test_every_character_is_a_blank_or_none_as_for_python():
    surrogates = range(0xD800, 0xE000)
    texts = [f"a{chr(code)}b" for code in range(sys.maxunicode + 1) if code not in surrogates]
    counts = count_words(pa.array(texts))
    assert counts.tolist() == [len(text.split()) for text in texts]


@given(TEXTS)
@example(["\u3000", "\u3000x", "x\u3000"])
@example(["\u00a0", None, "", "\u2003\u2003a"])
@example(["a", "b", " ", "c"])
def test_unicode_words_are_those_of_split(texts):
    expected = [0 if text is None else len(text.split()) for text in texts]
    assert count_words(pa.array(texts, pa.string())).tolist() == expected


@given(TEXTS)
@example(["\n", "\n", "a\n", "\na"])
def test_fasttext_words_are_those_of_its_tokenizer(texts):
    expected = [0 if text is None else len(fasttext_tokens(text)) for text in texts]
    assert count_words(pa.array(texts, pa.string()), "fasttext").tolist() == expected


def test_fasttext_words_are_those_that_it_counted_itself():
    counts = count_words(pa.array(list(FASTTEXT_COUNTS)), "fasttext")
    assert dict(zip(FASTTEXT_COUNTS, counts.tolist(), strict=True)) == FASTTEXT_COUNTS
    assert {text: len(fasttext_tokens(text)) for text in FASTTEXT_COUNTS} == FASTTEXT_COUNTS


@given(TEXTS)
def test_characters_are_code_points(texts):
    expected = [0 if text is None else len(text) for text in texts]
    assert count_characters(pa.array(texts, pa.string())).tolist() == expected


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
)
def test_any_slice_of_any_type_of_strings_will_do(kind):
    texts = pa.array(["x y z", None, "a\u00a0b", "", "犬 の"]).cast(kind)[1:]
    assert count_words(texts).tolist() == [0, 2, 0, 2]
    assert count_words(texts, "fasttext").tolist() == [0, 1, 0, 2]
    assert count_characters(texts).tolist() == [0, 3, 0, 3]


@pytest.mark.parametrize("texts", [[], [None, None], ["", ""]])
def test_nothing_counts_nothing(texts):
    strings = pa.array(texts, pa.string())
    assert count_words(strings).tolist() == [0] * len(texts)
    assert count_characters(strings).tolist() == [0] * len(texts)


def test_what_lies_under_a_null_does_not_count():
    valid = pa.array([True, None, True]).buffers()[0]
    texts = pa.StringArray.from_buffers(3, *pa.array(["a b", "c d", "e"]).buffers()[1:], valid)
    assert texts.to_pylist() == ["a b", None, "e"]
    assert count_words(texts).tolist() == [2, 0, 1]


def test_bytes_that_end_within_a_character_are_no_blank():
    cut = pa.array([b"a \xe3\x80"], pa.binary()).view(pa.string())
    assert count_words(cut).tolist() == [2]
