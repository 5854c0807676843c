"""Thresholds that keep a stated share of the samples, ties included, without sorting them all."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from cah_dask.errors import RunError
from cah_dask.pairs.embed import HISTOGRAM_BINS

Scores = npt.NDArray[np.float32]
"""``(n,)`` float32 similarities."""

NONE_KEPT = 1.0
"""The threshold of a split without a sample."""


def top_fraction(
    histogram: Mapping[int, int], fraction: float, scores: Callable[[], Iterable[Scores]]
) -> float:
    """Return the threshold at or above which a share of all similarities lies.

    The rule of DataComp: of n similarities in descending order, that at place ``int(n * fraction)``
    from 0; so all that equal it are kept.

    Parameters
    ----------
    histogram
        How many of them are in each bin of `embed.HISTOGRAM_BINS`.
    fraction
        Above 0 and below 1.
    scores
        Gives all similarities in any order and in pieces, again each time it is called. Those near
        the threshold are held in memory: about one in fifty.

    Raises
    ------
    RunError
        If they are not those that were counted.
    """
    n = sum(histogram.values())
    if not n:
        return NONE_KEPT
    rank = int(n * fraction)
    for low, high in _ranges(histogram, rank):
        n_above, near = 0, [np.empty(0, np.float32)]
        for piece in scores():
            n_above += int(np.count_nonzero(piece > high))
            near.append(piece[(piece >= low) & (piece <= high)])
        candidates = np.sort(np.concatenate(near))[::-1]
        if n_above <= rank < n_above + len(candidates):
            return float(candidates[rank - n_above])
    raise RunError(f"{n} similarities are counted, and scored/ holds others; run it again")


def _ranges(histogram: Mapping[int, int], rank: int) -> Iterator[tuple[float, float]]:
    """Yield where the similarity of a rank lies, with the neighbours of its bin; then everywhere.

    A similarity at the very edge of two bins may be counted in either.
    """
    n_above = 0
    for index in sorted(histogram, reverse=True):
        if n_above <= rank < n_above + histogram[index]:
            yield (_edge(index) - 1e-6, _edge(index + 1) + 1e-6)
        n_above += histogram[index]
    yield (-1.0, 1.0)


def _edge(index: int) -> float:
    return -1 + 2 * index / HISTOGRAM_BINS
