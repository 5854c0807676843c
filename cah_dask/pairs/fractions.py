"""Thresholds that keep a stated share of the samples, ties included, without sorting them all."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from cah_dask.errors import RunError
from cah_dask.pairs.embed import HISTOGRAM_BINS
from cah_dask.pairs.scores.numbers import Scores
from cah_dask.schema import Split

NONE_KEPT = 1.0
"""The threshold of a split without a sample."""

_NEAR = 1e-6
"""A similarity at the very edge of two bins may be counted in either."""


@dataclass(slots=True)
class _Search:
    """The similarity at one rank, looked for within a range."""

    rank: int
    """Counted from 0, in descending order."""
    low: float
    high: float
    n_above: int = 0
    near: list[Scores] = field(default_factory=list)

    def add(self, piece: Scores) -> None:
        self.n_above += int(np.count_nonzero(piece > self.high))
        self.near.append(piece[(piece >= self.low) & (piece <= self.high)])

    @property
    def found(self) -> float | None:
        """What was looked for; None if it is not within the range."""
        candidates = np.sort(np.concatenate([np.empty(0, np.float32), *self.near]))[::-1]
        place = self.rank - self.n_above
        return float(candidates[place]) if 0 <= place < len(candidates) else None


def top_fractions(
    histograms: Mapping[Split, Mapping[int, int]],
    fractions: Mapping[Split, float],
    scores: Callable[[], Iterable[Mapping[Split, Scores]]],
) -> dict[Split, float]:
    """Return, by split, the threshold at or above which a share of all similarities lies.

    The rule of DataComp: of n similarities in descending order, that at place ``int(n * fraction)``
    from 0; so all that equal it are kept.

    Parameters
    ----------
    histograms
        How many similarities are in each bin of `embed.HISTOGRAM_BINS`.
    fractions
        Above 0 and below 1.
    scores
        Gives all similarities in any order and in pieces, once or, in rare cases, twice. Those near
        the thresholds are held in memory: about one in fifty.

    Raises
    ------
    RunError
        If they are not those that were counted.
    """
    sought = {
        split: _search(bins, int(sum(bins.values()) * fractions[split]))
        for split, bins in histograms.items()
        if split in fractions and bins
    }
    found = dict.fromkeys(fractions, NONE_KEPT) | _look(sought, scores)
    elsewhere = {
        split: _Search(search.rank, -1.0, 1.0)
        for split, search in sought.items()
        if search.found is None
    }
    found |= _look(elsewhere, scores) if elsewhere else {}
    for split, search in elsewhere.items():
        if search.found is None:
            raise RunError(f"scored/ holds other {split} samples than were counted; run it again")
    return found


def _search(histogram: Mapping[int, int], rank: int) -> _Search:
    """Return a search in the bin of a rank."""
    n_above = 0
    for index in sorted(histogram, reverse=True):
        n_above += histogram[index]
        if rank < n_above:
            break
    return _Search(rank, _edge(index) - _NEAR, _edge(index + 1) + _NEAR)


def _look(
    sought: Mapping[Split, _Search], scores: Callable[[], Iterable[Mapping[Split, Scores]]]
) -> dict[Split, float]:
    for piece in scores() if sought else ():
        for split, search in sought.items():
            search.add(piece[split])
    return {split: value for split, each in sought.items() if (value := each.found) is not None}


def _edge(index: int) -> float:
    return -1 + 2 * index / HISTOGRAM_BINS
