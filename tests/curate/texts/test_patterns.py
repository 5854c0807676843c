"""Texts that match an expression or hold a phrase."""

import pyarrow as pa
import pytest

from cah_dask.blocklists.phrases import phrase, phrases_of
from cah_dask.curate.texts.patterns import Pattern, hold_phrase
from cah_dask.errors import ConfigError


def matches(expression, texts):
    return Pattern(expression).matches(pa.array(texts, pa.string())).tolist()


def test_an_expression_is_searched_anywhere():
    texts = ["a photo of a dog", "photograph", "PHOTO", None, ""]
    assert matches(r"\bphoto\b", texts) == [True, False, False, False, False]
    assert matches(r"(?i)\bphoto\b", texts) == [True, False, True, False, False]
    assert matches(r"^photo", texts) == [False, True, False, False, False]


def test_ends_of_a_text_are_not_those_of_its_lines():
    assert matches(r"a$", ["a", "a\n", "a\nb"]) == [True, False, False]
    assert matches(r"a.b", ["a b", "a\nb"]) == [True, False]


def test_letters_beyond_ascii_are_asked_for_by_class():
    assert matches(r"^\w+$", ["Käse", "Kase"]) == [False, True]
    assert matches(r"^\p{L}+$", ["Käse", "Kase"]) == [True, True]


@pytest.mark.parametrize("expression", ["(", "a**", r"(?=x)", r"(a)\1", "[b-a]", "a{2000}"])
def test_what_is_no_expression_is_refused_in_one_line(expression):
    with pytest.raises(ConfigError, match=r"^regular expression .*RE2's syntax[^\n]*$"):
        Pattern(expression)


def test_an_expression_that_makes_others_slow_is_answered():
    assert matches("(a+)+$", ["a" * 10_000 + "b"]) == [False]


def test_phrases_are_found_as_whole_words():
    phrases = phrases_of(map(phrase, ["white horse", "kid"]))
    texts = ["A White, horse", "kidney", "KID!", None, "", "white kids", "KID!"]
    held = hold_phrase(pa.array(texts, pa.string()), phrases)
    assert held.tolist() == [True, False, True, False, False, False, True]


@pytest.mark.parametrize("kind", [pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_any_type_of_strings_will_do(kind):
    texts = pa.array(["a kid", None, "a goat"]).cast(kind)
    assert Pattern("kid").matches(texts).tolist() == [True, False, False]
    assert hold_phrase(texts, phrases_of(["kid"])).tolist() == [True, False, False]
