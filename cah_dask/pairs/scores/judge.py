"""What select makes of scores: those of vectors and texts are given here, then rules are applied.

It needs neither images nor an encoder, so a finished run may be judged again by another head, list
or rule.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cah_dask.blocklists.phrases import Phrases
from cah_dask.pairs.scores.files import locate
from cah_dask.pairs.scores.heads import Head, read_head
from cah_dask.pairs.scores.numbers import Scores
from cah_dask.pairs.scores.options import HeadOptions, Rules, WordsOptions
from cah_dask.pairs.scores.rules import apply_rules, scores_of
from cah_dask.pairs.scores.words import SHELF, count_words, read_words
from cah_dask.pairs.vectors import normalised, unpacked
from cah_dask.schema import score_of, vector_of


class Judgement(NamedTuple):
    """What became of some rows."""

    scores: dict[str, Scores]
    """Of all rows, those that were given here."""
    is_kept: npt.NDArray[np.bool_]
    dropped: dict[str, int]
    """By reason; each row once."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Heads, word lists and rules, ready to be applied to scored samples."""

    heads: Mapping[str, tuple[str, Head]] = field(default_factory=dict)
    """With the encoder whose image vectors they take."""
    words: Mapping[str, tuple[WordsOptions, Phrases]] = field(default_factory=dict)
    rules: Rules = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the scores that are given here, in their order."""
        return [*self.heads, *self.words]

    @property
    def columns(self) -> list[str]:
        """Columns of scored samples that are looked at."""
        vectors = {vector_of(encoder, "image") for encoder, _ in self.heads.values()}
        stored = {score_of(name) for name in scores_of(self.rules) if name not in self.names}
        return sorted({*vectors, *stored, *(("text", "lang") if self.words else ())})

    def __call__(self, rows: pa.Table) -> Judgement:
        """Give scored samples (their `columns`) the scores that are theirs, and apply all rules."""
        images = {
            encoder: normalised(unpacked(rows[vector_of(encoder, "image")]))
            for encoder in dict.fromkeys(encoder for encoder, _ in self.heads.values())
        }
        scores = {name: head.score(images[encoder]) for name, (encoder, head) in self.heads.items()}
        for name, (options, words) in self.words.items():
            texts, languages = rows["text"].to_pylist(), rows["lang"].to_pylist()
            scores[name] = count_words(words, options, texts, languages)
        stored = {
            name: rows[score_of(name)].to_numpy()
            for name in scores_of(self.rules)
            if name not in scores
        }
        return Judgement(scores, *apply_rules(self.rules, scores | stored, len(rows)))


NO_JUDGE = Judge()
"""Gives no scores and drops nothing."""


def load_judge(
    heads: Mapping[str, HeadOptions], words: Mapping[str, WordsOptions], rules: Rules
) -> Judge:
    """Read heads and word lists; `scores.checks.complete` has named the encoders of the heads.

    Raises
    ------
    ConfigError
        If a file of them is missing, damaged, or another one than at the start.
    """
    found_heads = {
        name: (each.encoder or "", read_head(locate(f"select.heads.{name}", each), each.kind))
        for name, each in heads.items()
    }
    found_words = {
        name: (each, read_words(locate(f"select.words.{name}", each, SHELF)))
        for name, each in words.items()
    }
    return Judge(found_heads, found_words, rules)
