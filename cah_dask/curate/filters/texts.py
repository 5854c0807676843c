"""Predicates over texts: lengths, patterns, phrases, languages, things that they name."""

from pathlib import Path
from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.curate.filters.lists import is_in
from cah_dask.curate.filters.node import Predicate, Test, Tools
from cah_dask.curate.filters.numbers import Limits
from cah_dask.curate.pools.pool import Batch
from cah_dask.curate.texts.arrays import mask_of
from cah_dask.curate.texts.assets import IMAGENET_21K, LID_BIN, WORDNET, require
from cah_dask.curate.texts.languages import (
    DATACOMP_MAX_BYTES,
    DATACOMP_MIN_BYTES,
    Cld3,
    Detector,
    FastText,
    library,
)
from cah_dask.curate.texts.patterns import Pattern, hold_phrase
from cah_dask.curate.texts.wordnet import EntityMatcher, WordNet, read_entities
from cah_dask.curate.texts.words import Tokeniser, count_characters, count_words
from cah_dask.errors import ConfigError
from cah_dask.pairs.scores.words import read_words


def texts(batch: Batch, column: str) -> pa.Array:
    """Return a column of texts as one array."""
    return batch.table[column].combine_chunks()


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


class Regex(Predicate, frozen=True, kw_only=True):
    """Whether a text holds a match of a pattern, in the syntax of RE2: its time is linear."""

    COST: ClassVar[int] = 20
    pattern: str
    """``(?i)`` at its beginning ignores case."""
    column: str = "text"

    @property
    def sparse_columns(self) -> list[str]:
        """The column of texts."""
        return [self.column]

    def require_valid(self) -> None:
        """Check the pattern."""
        Pattern(self.pattern)

    def test(self, tools: Tools) -> Test:  # noqa: ARG002
        """Return the search."""
        pattern = Pattern(self.pattern)
        return lambda batch: pattern.matches(texts(batch, self.column))


class PhraseList(Predicate, frozen=True, kw_only=True):
    """Whether a text holds one of listed words or phrases: as wholes, whatever their case."""

    COST: ClassVar[int] = 60
    file: str
    column: str = "text"

    @property
    def columns(self) -> list[str]:
        """The column of texts."""
        return [self.column]

    @property
    def files(self) -> list[str]:
        """The list."""
        return [self.file]

    def test(self, tools: Tools) -> Test:  # noqa: ARG002
        """Return the search."""
        phrases = read_words(Path(self.file))
        return lambda batch: hold_phrase(texts(batch, self.column), phrases)


class Language(Predicate, frozen=True, kw_only=True, rename={"among": "in"}):
    """Whether the language is one of some: by a stored label, or by a detector, found anew.

    Detectors disagree with each other and with a run's own labels, which come from CLD3 with other
    limits; so a label is asked for by the name of its column, or of its detector.
    """

    among: tuple[str, ...]
    column: str | None = None
    """A column of labels, such as `lang`."""
    detector: Literal["cld3", "fasttext"] | None = None
    min_bytes: int = DATACOMP_MIN_BYTES
    max_bytes: int = DATACOMP_MAX_BYTES
    """Of CLD3: how long a text must be, and how much of it is looked at."""
    model: str = LID_BIN.name
    """Of fastText: the asset."""

    @property
    def cost(self) -> int:
        """Rank: a stored label is cheap."""
        return {None: 3, "fasttext": 100, "cld3": 200}[self.detector]

    @property
    def columns(self) -> list[str]:
        """The text that is looked at."""
        return ["text"] if self.detector else []

    @property
    def sparse_columns(self) -> list[str]:
        """The column of labels."""
        return [self.column] if self.column else []

    @property
    def assets(self) -> list[str]:
        """The model of fastText."""
        return [self.model] if self.detector == "fasttext" else []

    @property
    def detectors(self) -> list[str]:
        """The library of the detector."""
        return [library(self.detector)] if self.detector else []

    def require_valid(self) -> None:
        """Check that it is said whose label counts."""
        if (self.column is None) == (self.detector is None):
            raise ConfigError("expected column, or else detector (cld3 or fasttext)")

    def test(self, tools: Tools) -> Test:
        """Return the comparison."""
        if self.column is not None:
            column = self.column
            return lambda batch: is_in(batch, column, self.among)
        found: Detector
        if self.detector == "cld3":
            found = Cld3(self.min_bytes, self.max_bytes)
        else:
            asset, path = tools.assets[self.model]
            found = FastText(path, asset)
        wanted = pa.array(list(self.among), pa.string())
        return lambda batch: mask_of(pc.is_in(found.labels(texts(batch, "text")), wanted))


class WordnetEntity(Predicate, frozen=True, kw_only=True):
    """Whether a word of the text is, in its first sense, one of the listed WordNet synsets."""

    COST: ClassVar[int] = 50
    wordnet: str = WORDNET.name
    """The asset that is WordNet's folder."""
    ids: str = IMAGENET_21K.name
    """The asset that lists synsets, such as n02084071, one a line."""

    @property
    def columns(self) -> list[str]:
        """The text."""
        return ["text"]

    @property
    def assets(self) -> list[str]:
        """WordNet and the list."""
        return [self.wordnet, self.ids]

    def test(self, tools: Tools) -> Test:
        """Return the look-up."""
        wordnet, ids = (require(*tools.assets[name]) for name in self.assets)
        matcher = EntityMatcher(WordNet(wordnet), read_entities(ids))
        return lambda batch: matcher.matches(texts(batch, "text"))
