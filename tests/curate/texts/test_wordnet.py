"""First synsets of words, and texts that name an entity."""

import csv
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.curate.texts import wordnet
from cah_dask.curate.texts.wordnet import EntityMatcher, WordNet, read_entities
from cah_dask.errors import ConfigError
from tests.curate.texts.dictionaries import debian_wordnet, small_wordnet

NLTK = Path(__file__).with_name("nltk_first_synsets.tsv")
"""What nltk 3.8.1 finds in Debian's files: words of every part of speech and ending."""
DOG, GOOSE, CHASE = 2084071, 1855672, 2001858


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return WordNet(small_wordnet(tmp_path_factory.mktemp("dict")))


@pytest.mark.parametrize(
    ("word", "offset"),
    [
        ("dog", DOG),
        ("DOG", DOG),
        ("dogs", DOG),
        ("dogss", DOG),  # endings come off until a lemma is left
        ("dogsses", DOG),
        ("geese", GOOSE),
        ("gooses", GOOSE),
        ("axes", 8617963),  # the first base form, ax, is no lemma here
        ("knives", None),  # "ves" gives knif: an exception in the real WordNet
        ("churches", 8082602),
        ("men", 10287213),
        ("glasses", 4272054),  # as it stands, before its base form
        ("run", 556313),  # a noun before a verb
        ("runs", 556313),
        ("ran", 1926311),
        ("running", None),  # what is left is no lemma
        ("chased", CHASE),
        ("chasing", CHASE),
        ("bakes", 319886),
        ("bluest", 370869),
        ("later", 816839),
        ("better", 1123148),
        ("well", 11093),
        ("hot_dog", 7676602),
        ("dog,", None),
        ("s", None),
        ("犬", None),
        ("", None),
    ],
)
def test_first_synset_of(words, word, offset):
    assert words.first_synset(word) == offset


def matches(words, entities, texts):
    return EntityMatcher(words, entities).matches(pa.array(texts, pa.string())).tolist()


def test_any_word_of_a_text_may_be_the_entity(words):
    texts = ["a red dog", "dogs!", "Geese\u00a0fly", "cat\ndog", None, "", " "]
    assert matches(words, [DOG, GOOSE], texts) == [True, False, True, True, False, False, False]


def test_only_the_first_sense_counts(words):
    assert matches(words, [10114209, 7460104], ["dog run"]) == [False]


def test_the_offset_of_a_verb_counts_as_well(words):
    assert matches(words, [CHASE], ["they chase", "dog"]) == [True, False]


def test_adverbs_and_adjectives_count_as_well(words):
    assert matches(words, [11093, 370869], ["well", "blue", "good"]) == [True, True, False]


@given(st.lists(st.text(st.sampled_from("dogseatrunhc ,"), max_size=12), max_size=5))
def test_a_text_matches_if_a_word_of_it_does(words, texts):
    expected = [
        any(words.first_synset(word) in {DOG, GOOSE} for word in text.split()) for text in texts
    ]
    assert matches(words, [DOG, GOOSE], texts) == expected


def test_few_words_are_remembered_and_all_are_right(words, monkeypatch):
    monkeypatch.setattr(wordnet, "MOST_REMEMBERED", 2)
    texts = ["red dog on a big red sofa", "a red cat on a sofa", "the dogs"]
    assert matches(words, [DOG], texts) == [True, False, True]


def test_words_beyond_all_length_are_none(words):
    assert words.first_synset("dog" + "s" * 997) == DOG
    assert words.first_synset("dog" + "s" * 998) is None
    assert matches(words, [DOG], ["dog" + "s" * 1_000_000]) == [False]


def test_real_words_have_the_synsets_that_nltk_finds():
    folder = debian_wordnet()
    if folder is None:
        pytest.skip("needs Debian's wordnet-base (scripts/install-test-system)")
    with NLTK.open(encoding="utf-8", newline="") as file:
        expected = {
            word: int(offset) if offset else None
            for word, offset in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        }
    words = WordNet(folder)
    assert {word: words.first_synset(word) for word in expected} == expected
    assert len(expected) > 300


@pytest.mark.parametrize("content", ["dog\n", "dog n 1 no 1 0 1\n", "dog n 1 9 @ 1 0 1\n"])
def test_a_damaged_wordnet_is_one_line(tmp_path, content):
    (small_wordnet(tmp_path) / "index.noun").write_text(content)
    with pytest.raises(ConfigError, match=r"^WordNet in .* cannot be read: [^\n]+$"):
        WordNet(tmp_path)


def test_a_missing_wordnet_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"^WordNet in .* cannot be read: .*index\.noun"):
        WordNet(tmp_path)


def test_ids_are_offsets_behind_a_letter(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("n02084071\n\nn00001740  # entity\r\nn02084071\n")
    assert read_entities(path) == {2084071, 1740}


@pytest.mark.parametrize(
    ("content", "reason"),
    [("n1\ndog\n", "line 2: 'dog' is no WordNet id"), ("n\n", "line 1"), ("", "it holds none")],
)
def test_other_lists_are_refused_in_one_line(tmp_path, content, reason):
    path = tmp_path / "ids.txt"
    path.write_text(content)
    with pytest.raises(ConfigError, match=rf"^WordNet ids in .*ids\.txt.*: {reason}[^\n]*$"):
        read_entities(path)
