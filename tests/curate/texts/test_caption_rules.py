"""DataComp's rules for captions, said plainly, against what `curate.texts` counts.

The probes are chosen so that each mistake one can make with these rules changes what is kept.
"""

import re
from collections.abc import Callable

import gcld3
import pyarrow as pa
import pytest

from cah_dask.curate.texts.languages import Cld3
from cah_dask.curate.texts.wordnet import EntityMatcher, WordNet
from cah_dask.curate.texts.words import count_characters, count_words
from tests.curate.texts.dictionaries import small_wordnet
from tests.curate.texts.test_languages import BOTH

ENTITIES = {2084071, 1855672, 2001858, 10287213}
PROBES = [
    *("", "dog", "a b c", "a b  cd", "a b c d", "ab cd", "abcde", "abcdef", "two dogs"),
    *("äö üß", "äöüß", "ä ö ü", "犬 の 写真", "犬の写真です", "犬の写真", "é è ê ô"),
    *("one\u00a0two three", "one\u3000two\u2003three", "one\u00a0two", "one\x1ctwo three"),
    *("abcde\n", "abcd\n", "abcdef\n", "one\ntwo", "one\ttwo\x85three", "\n\n\n\n\n\n"),
    *("a dog,", "a DOG", "the geese", "they chase it", "a man runs", "dogss and co", "a hot_dog"),
    *BOTH,
]
CLD3 = gcld3.NNetLanguageIdentifier(min_num_bytes=0, max_num_bytes=1000)
CLD3_700 = gcld3.NNetLanguageIdentifier(min_num_bytes=0, max_num_bytes=700)


def tokens(text: str) -> list[str]:
    return re.findall(r"\n|[^\0\t\n\v\f\r ]+", text)


def basic(text: str) -> bool:
    return len(text.split()) > 2 and len(text) > 5


def image_based(text: str) -> bool:
    return len(tokens(text)) > 1 and len(text) > 5


def laion(text: str) -> bool:
    return str(CLD3.FindLanguage(text.replace("\n", " ")).language) == "en"


Rule = Callable[[str], bool]
MISTAKES: dict[str, tuple[Rule, Rule]] = {
    "words > 3": (basic, lambda text: len(text.split()) > 3 and len(text) > 5),
    "words >= 2": (basic, lambda text: len(text.split()) >= 2 and len(text) > 5),
    "characters > 6": (basic, lambda text: len(text.split()) > 2 and len(text) > 6),
    "bytes": (basic, lambda text: len(text.split()) > 2 and len(text.encode()) > 5),
    "blanks of ASCII": (basic, lambda text: len(tokens(text)) > 2 and len(text) > 5),
    "split()": (image_based, lambda text: len(text.split()) > 1 and len(text) > 5),
    "700 bytes": (laion, lambda text: str(CLD3_700.FindLanguage(text).language) == "en"),
}


def kept(rule: Rule) -> list[str]:
    return [text for text in PROBES if rule(text)]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_probes_show_a_mistake(mistake):
    right, wrong = MISTAKES[mistake]
    assert kept(right) != kept(wrong)


def test_captions_of_the_basic_filter():
    texts = pa.array(PROBES)
    mask = (count_words(texts, "unicode") > 2) & (count_characters(texts) > 5)
    assert texts.filter(pa.array(mask)).to_pylist() == kept(basic)


def test_captions_of_the_image_based_filter():
    texts = pa.array(PROBES)
    mask = (count_words(texts, "fasttext") > 1) & (count_characters(texts) > 5)
    assert texts.filter(pa.array(mask)).to_pylist() == kept(image_based)


def test_captions_of_the_laion_filter():
    found = Cld3().labels(pa.array(PROBES)).to_pylist()
    assert [text for text, label in zip(PROBES, found, strict=True) if label == "en"] == kept(laion)


def test_captions_of_the_text_based_filter(tmp_path):
    matcher = EntityMatcher(WordNet(small_wordnet(tmp_path)), ENTITIES)
    texts = pa.array(PROBES)
    assert texts.filter(pa.array(matcher.matches(texts))).to_pylist() == [
        *("dog", "two dogs", "a DOG", "the geese", "they chase it", "a man runs", "dogss and co"),
        *BOTH,  # "chase"
    ]
