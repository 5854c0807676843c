"""Word lists: whole words, whatever their case, in the languages that they are of."""

from pathlib import Path

import pytest

from cah_dask.errors import ConfigError
from cah_dask.pairs.scores.options import WordsOptions
from cah_dask.pairs.scores.words import count_words, read_words

CHILDREN = Path(__file__).parents[3] / "cah_dask/pairs/scores/words/children-en.txt"


def count(path: Path, *texts: str, language: str = "en", **options) -> list[float]:
    chosen = WordsOptions(file=str(path), **options)
    return count_words(read_words(path), chosen, texts, [language] * len(texts)).tolist()


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("Baby girl dress", 1),  # crawling@home missed it: its words were in lower case
        ("KIDS, teens & toddlers", 3),
        ("kid's room", 1),
        ("kidney beans", 0),  # and found these: it looked for parts of words
        ("the canteen of the seventeenth regiment", 0),
        ("a babysitter", 0),
        ("childhood friends", 0),
        ("a well-known child-friendly hotel", 1),
        ("", 0),
    ],
)
def test_words_of_the_young_are_found_as_words(text: str, n: int):
    assert count(CHILDREN, text) == [n]


def test_phrases_and_other_scripts(tmp_path: Path):
    path = tmp_path / "list.txt"
    path.write_text("# comment\nlittle girl\nЖил\nstraße  # with sharp s\n")
    assert count(path, "A Little  GIRL", "little, old girl", "ЖИЛ 3", "STRASSE 4") == [1, 0, 1, 1]


def test_a_list_may_be_for_some_languages_only():
    assert count(CHILDREN, "un kid", language="fr", languages=("en", "de")) == [0]
    assert count(CHILDREN, "un kid", language="fr") == [1]
    assert count(CHILDREN, "a kid", languages=("en", "de")) == [1]


@pytest.mark.parametrize("data", [b"", b"# nothing\n", b"\xff\xfe", b"!!!\n"])
def test_what_is_no_list_is_refused(tmp_path: Path, data: bytes):
    (tmp_path / "list.txt").write_bytes(data)
    with pytest.raises(ConfigError, match=r"list\.txt"):
        read_words(tmp_path / "list.txt")
