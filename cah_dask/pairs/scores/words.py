"""Scores of texts: how many words of a list they hold.

Words are compared as wholes and without regard to case, so that `kid` is neither in "kidney" nor in
"skid", and "Baby" is a baby. Texts that write no blanks between their words are one word to it.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cah_dask.blocklists.lines import read_lines
from cah_dask.blocklists.phrases import Phrases, phrase, phrases_of
from cah_dask.errors import ConfigError
from cah_dask.pairs.scores.files import Shelf
from cah_dask.pairs.scores.numbers import Scores
from cah_dask.pairs.scores.options import WordsOptions

SHELF = Shelf("words", ".txt")
"""The lists of the package."""


def read_words(path: Path) -> Phrases:
    """Read a list of words and phrases, one a line; comments as in `blocklists.lines`.

    Raises
    ------
    ConfigError
        If it cannot be read, or holds nothing.
    """
    try:
        found = phrases_of(line.read_by(phrase) for line in read_lines(path))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ConfigError(f"word list {path} cannot be read: {error}") from error
    if not found:
        raise ConfigError(f"word list {path} holds no word")
    return found


def count_words(
    words: Phrases, options: WordsOptions, texts: Sequence[str], languages: Sequence[str]
) -> Scores:
    """Return how many words of a list each text holds, ``(n,)``; 0 in other languages."""
    wanted = options.languages
    return np.array(
        [
            words.count_in(text) if not wanted or language in wanted else 0
            for text, language in zip(texts, languages, strict=True)
        ],
        np.float32,
    )
