"""Predicates over texts: lengths, patterns, phrases, languages, things that they name."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.curate.filters.node import Predicate, Test, Tools
from cah_dask.curate.filters.numbers import Limits
from cah_dask.curate.pools.pool import Batch
from cah_dask.curate.texts.words import Tokeniser, count_characters, count_words
from cah_dask.errors import ConfigError
from cah_dask.pairs.scores.words import read_words


def texts(batch: Batch, column: str) -> pa.Array:
    """Return a column of texts as one array."""
    return batch.table[column].combine_chunks()


class _OfText(Predicate, frozen=True, kw_only=True):
    column: str = "text"

    @property
    def columns(self) -> list[str]:
        """The column of texts."""
        return [self.column]


class Chars(Limits, frozen=True, kw_only=True):
    """Whether the number of characters (code points) of the text keeps limits."""

    COST: ClassVar[int] = 8
    column: str = "text"

    @property
    def columns(self) -> list[str]:
        """The column of texts."""
        return [self.column]

    def test(self, tools: Tools) -> Test:  # noqa: ARG002  # of `Predicate`
        """Return the comparison."""
        return lambda batch: self.holds(count_characters(texts(batch, self.column)))


class Words(Chars, frozen=True, kw_only=True):
    """Whether the number of words of the text keeps limits."""

    COST: ClassVar[int] = 10
    tokeniser: Tokeniser = "unicode"
    """What a word is: as Python's `str.split` has it, or `fasttext.tokenize`."""

    def test(self, tools: Tools) -> Test:  # noqa: ARG002
        """Return the comparison."""
        return lambda batch: self.holds(count_words(texts(batch, self.column), self.tokeniser))


class Regex(_OfText, frozen=True, kw_only=True):
    """Whether a text holds a match of a pattern, in the syntax of RE2: its time is linear."""

    COST: ClassVar[int] = 20
    pattern: str
    ignore_case: bool = False

    @property
    def columns(self) -> list[str]:
        """None: an empty cell holds no match."""
        return []

    @property
    def sparse_columns(self) -> list[str]:
        """The column of texts."""
        return [self.column]

    def require_valid(self) -> None:
        """Check the pattern."""
        try:
            pc.match_substring_regex(pa.array([""]), self.pattern)
        except pa.ArrowInvalid as error:
            raise ConfigError(f"pattern: {error}") from error

    def test(self, tools: Tools) -> Test:  # noqa: ARG002
        """Return the search."""
        return lambda batch: np.asarray(
            pc.match_substring_regex(
                batch.table[self.column], self.pattern, ignore_case=self.ignore_case
            ).fill_null(False),  # noqa: FBT003
            bool,
        )


class PhraseList(_OfText, frozen=True, kw_only=True):
    """Whether a text holds one of listed words or phrases: as wholes, whatever their case."""

    COST: ClassVar[int] = 60
    file: str

    @property
    def files(self) -> list[str]:
        """The list."""
        return [self.file]

    def test(self, tools: Tools) -> Test:  # noqa: ARG002
        """Return the search."""
        phrases = read_words(Path(self.file))
        return lambda batch: np.fromiter(
            map(phrases.occur_in, batch.table[self.column].to_pylist()), bool, len(batch)
        )
