"""The first WordNet synset of a word, and texts that name a thing of a list of synsets.

This is DataComp's text-based filter: a text passes if any of its ``split()`` words is, in its first
sense, one of the synsets of ImageNet-21k. "First" is what nltk 3.8.1 says, which DataComp pins:
nouns before verbs, adjectives and adverbs, the word as it stands before its base forms, senses by
frequency. Only offsets are compared, not parts of speech, and no punctuation is taken off, so that
"dog," is no dog, and a verb may count whose offset happens to be that of a listed noun.

That chance makes the edition matter: Debian's ``wordnet-base`` has Princeton's nouns at their
places, but two mended lines moved most of its verbs and adjectives.
"""

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from cah_dask.blocklists.lines import read_lines
from cah_dask.curate.texts.arrays import Mask
from cah_dask.errors import ConfigError

MOST_REMEMBERED = 1 << 18
"""Words whose verdict is kept; 262,144 of them are some 50 MB."""
LONGEST_WORD = 1000
"""Code points beyond which a word is no entity. Base forms are found by taking endings off, one
after the other, which takes the square of the length of a word that is all endings. (nltk, which
has no such bound, would still find the dog in "dog" with a thousand "s".)"""
_LONGEST_REMEMBERED = 64

_SUFFIXES: dict[str, tuple[tuple[str, str], ...]] = {
    "noun": (
        ("s", ""),
        ("ses", "s"),
        ("ves", "f"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ),
    "verb": (
        ("s", ""),
        ("ies", "y"),
        ("es", "e"),
        ("es", ""),
        ("ed", "e"),
        ("ed", ""),
        ("ing", "e"),
        ("ing", ""),
    ),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adv": (),
}
"""Endings that WordNet's morphology takes off, and what it puts there (``man 7WN morphy``)."""


class _PartOfSpeech:
    """First synsets of the lemmas of one part of speech, and the way from a word to a lemma."""

    def __init__(self, folder: Path, name: str) -> None:
        self._first = dict(_first_synsets(folder / f"index.{name}"))
        self._exceptions = dict(_exceptions(folder / f"{name}.exc"))
        self._suffixes = _SUFFIXES[name]

    def first_synset(self, word: str) -> int | None:
        """Return the offset of the first synset of a lower-case word."""
        for form in self._forms(word):
            found = self._first.get(form)
            if found is not None:
                return found
        return None

    def _forms(self, word: str) -> Iterator[str]:
        yield word
        if word in self._exceptions:
            yield from self._exceptions[word]
            return
        forms = self._stripped([word])
        while forms:
            yield from forms
            forms = self._stripped(forms)

    def _stripped(self, forms: list[str]) -> list[str]:
        return [
            form[: -len(old)] + new
            for form in forms
            for old, new in self._suffixes
            if form.endswith(old)
        ]


class WordNet:
    """WordNet 3.0, as far as first synsets go; about 20 MB.

    Parameters
    ----------
    folder
        WordNet's ``dict``: the files of `assets.WORDNET_FILES`.

    Raises
    ------
    ConfigError
        If a file is missing or no file of WordNet.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._parts = [_PartOfSpeech(folder, name) for name in _SUFFIXES]
        except (OSError, ValueError, IndexError) as error:
            raise ConfigError(f"WordNet in {folder} cannot be read: {error}") from error

    def first_synset(self, word: str) -> int | None:
        """Return the offset of ``nltk.corpus.wordnet.synsets(word)[0]``, None if there is none.

        Words of more than `LONGEST_WORD` code points have none.
        """
        if len(word) > LONGEST_WORD:
            return None
        word = word.lower()
        for part in self._parts:
            found = part.first_synset(word)
            if found is not None:
                return found
        return None


class EntityMatcher:
    """Tells which texts name one of some synsets. One per thread.

    Parameters
    ----------
    entities
        Offsets of synsets, as `read_entities` returns them.
    """

    def __init__(self, wordnet: WordNet, entities: Iterable[int]) -> None:
        self._is_entity = _Verdicts(wordnet, frozenset(entities)).__getitem__

    def matches(self, texts: pa.Array) -> Mask:
        """Return which of ``(n,)`` texts hold a word that is an entity; a null holds none."""
        is_entity = self._is_entity
        found = (
            text is not None and any(map(is_entity, text.split())) for text in texts.to_pylist()
        )
        return np.fromiter(found, np.bool_, len(texts))


class _Verdicts(dict[str, bool]):
    """Whether a word is an entity; forgets all when it holds `MOST_REMEMBERED` words.

    Long words are not remembered, so that a hostile text cannot fill the memory.
    """

    def __init__(self, wordnet: WordNet, entities: frozenset[int]) -> None:
        super().__init__()
        self._wordnet = wordnet
        self._entities = entities

    def __missing__(self, word: str) -> bool:
        verdict = self._wordnet.first_synset(word) in self._entities
        if len(word) <= _LONGEST_REMEMBERED:
            if len(self) >= MOST_REMEMBERED:
                self.clear()
            self[word] = verdict
        return verdict


def read_entities(path: Path) -> frozenset[int]:
    """Read a list of WordNet ids, one a line, such as ``n02084071``; return their offsets.

    Raises
    ------
    ConfigError
        If it cannot be read, is empty, or holds something else.
    """
    try:
        entities = frozenset(line.read_by(_offset) for line in read_lines(path))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ConfigError(f"WordNet ids in {path} cannot be read: {error}") from error
    if not entities:
        raise ConfigError(f"WordNet ids in {path}: it holds none")
    return entities


def _offset(value: str) -> int:
    if not (value[1:].isascii() and value[1:].isdigit()):
        raise ValueError(f"{value!r} is no WordNet id, such as n02084071")
    return int(value[1:])


def _first_synsets(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the lemmas of an index file and the offset of their first synset (``man 5WN wndb``)."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.startswith(" "):  # the licence
                continue
            fields = line.split()
            n_pointers = int(fields[3])
            yield fields[0], int(fields[6 + n_pointers])


def _exceptions(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the irregular words of a part of speech and their base forms."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            word, *bases = line.split()
            yield word, bases
