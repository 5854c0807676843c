import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.candidates.language import NO_LANGUAGE, Detector, LanguageOptions
from cah_dask.candidates.text import clean

DETECTOR = Detector()


@pytest.mark.parametrize(
    ("text", "split", "lang"),
    [
        ("two brown dogs playing in the green grass", "en", "en"),
        ("Ein schöner Tag im tiefen Schwarzwald", "multi", "de"),
        ("Фотография красивого кота на подоконнике", "multi", "ru"),
        ("Privet kak dela segodnya druzya", "multi", "ru-Latn"),
        ("北京的秋天红叶满山", "multi", "zh"),
        ("می‌خواهم به خانه بروم", "multi", "fa"),
    ],
)
def test_languages_fall_into_their_split(text, split, lang):
    found = DETECTOR.classify(text)
    assert (found.split, found.lang, found.is_reliable) == (split, lang, True)
    assert 0.7 <= found.confidence <= 1


@pytest.mark.parametrize("text", ["", "   ", "1234", "★★★★★ 5/5", "a", "🙂🙂🙂", "№ 12 / 34"])
def test_what_has_no_words_has_no_language(text):
    assert DETECTOR.classify(text) == NO_LANGUAGE


def test_a_label_that_cld3_is_not_sure_of_is_kept_as_evidence_only():
    found = DETECTOR.classify("Tokyo tower")
    assert (found.split, found.lang, found.is_reliable) == ("nolang", "en", False)


@pytest.mark.parametrize("text", ["A photo of a cat", "Munich"])
def test_the_options_can_ask_for_more_certainty(text):
    lang = DETECTOR.classify(text).lang
    assert lang != "en"
    strict = Detector(LanguageOptions(min_confidence_of={lang: 0.99}))
    assert (DETECTOR.classify(text).split, strict.classify(text).split) == ("multi", "nolang")


def test_texts_below_the_limit_in_bytes_are_not_looked_at():
    strict = Detector(LanguageOptions(min_bytes=60))
    assert strict.classify("two brown dogs playing in the green grass") == NO_LANGUAGE
    assert strict.classify("фотография красивого кота на подоконнике").lang == "ru"


@given(st.text(max_size=300).map(clean))
def test_any_clean_text_has_one_split_and_a_confidence(text):
    found = DETECTOR.classify(text)
    assert 0 <= found.confidence <= 1
    assert (found.split == "en") <= (found.lang == "en")
    assert found.split == "nolang" or found.is_reliable
