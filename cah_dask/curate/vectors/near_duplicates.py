"""Near duplicates: which rows go because a better row is so similar, by the cosine of vectors.

All rows are ordered by rank: the better similarity first, then the lower uid, then the place. From
the first to the last, a row goes if a row that stays is within the bound, else it stays. So no two
rows that stay are within the bound of each other, and each row that goes has one that stays; which
rows these are does not depend on how rows are stored or on who compares them.

Rows are compared within a cluster and with those of neighbouring clusters. A cluster alone cannot
always tell: a better row of a neighbour may go itself. Such rows stay `Fate.OPEN` until it is known
what becomes of their neighbours (`judge` again); what is open then is settled from pairs.
"""

import math
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from cah_dask.curate.vectors.centroids import (
    BLOCK_CENTROIDS,
    BLOCK_ROWS,
    UNIT,
    Centroids,
    Float32s,
    Index,
    Mask,
    Vectors,
    norms,
)
from cah_dask.errors import InputError
from cah_dask.keys import KEY


class Fate(IntEnum):
    """What becomes of a row."""

    OPEN = 0
    STAYS = 1
    GOES = 2


RANKED = np.dtype([*KEY.descr, ("similarity", "<f4"), ("place", "<i8")])
"""What a rank is made of; the place tells rows of one uid apart."""
Ranked: TypeAlias = npt.NDArray[np.void]
Fates: TypeAlias = npt.NDArray[np.uint8]

_SLACK = 1e-4
"""More than rounding to float32 changes of a distance."""


def rank_order(rows: Ranked) -> Index:
    """Return the indices that sort rows by rank, the best first."""
    return np.lexsort((rows["place"], rows["f1"], rows["f0"], -rows["similarity"]))


def n_better(rows: Ranked, others: Ranked) -> Index:
    """Return of each row how many of `others` are of better rank."""
    order = rank_order(np.concatenate([others, rows]))
    is_other = order < len(others)
    found = np.empty(len(rows), np.int64)
    found[order[~is_other] - len(others)] = np.cumsum(is_other)[~is_other]
    return found


def unit_vectors(vectors: Vectors) -> Float32s:
    """Return vectors divided by their norms.

    Raises
    ------
    InputError
        If one is zero or not finite.
    """
    units = vectors.astype(np.float32)
    length = norms(units)
    is_good = np.isfinite(length) & (length > 0)
    if not is_good.all():
        at = int(is_good.argmin())
        raise InputError(f"vector {at} is {'zero' if length[at] == 0 else 'not finite'}")
    units /= length[:, None].astype(np.float32)
    return units


def neighbours(centroids: Centroids, n: int) -> list[Index]:
    """Return of each cluster its neighbours: the n closest ones, and those that it is one of."""
    k = len(centroids)
    near = np.zeros((k, 0), np.int64)
    if (n := min(n, k - 1)) > 0:
        near = np.concatenate(list(_closest(centroids, n)))
    of: list[set[int]] = [set() for _ in range(k)]
    for one, others in enumerate(near.tolist()):
        for other in others:
            of[one].add(other)
            of[other].add(one)
    return [np.array(sorted(each), np.int64) for each in of]


def _closest(centroids: Centroids, n: int) -> Iterator[Index]:
    exact = centroids.vectors.astype(np.float64)
    size = max(1, BLOCK_ROWS * BLOCK_CENTROIDS // len(exact))
    for start in range(0, len(exact), size):
        block = exact[start : start + size]
        far = 2 * (centroids.half_squares - block @ exact.T)
        far[np.arange(len(block)), start + np.arange(len(block))] = np.inf
        yield np.argpartition(far, n - 1, axis=1)[:, :n]


def spatial_order(centroids: Centroids) -> Index:
    """Return the indices of centroids such that those close to each other mostly lie together.

    They are cut in two across the direction of the one farthest from their mean, again and again.
    """
    exact = centroids.vectors.astype(np.float64)
    waiting, order = [np.arange(len(exact))], []
    while waiting:
        at = waiting.pop()
        if len(at) < 3:
            order.append(at)
            continue
        apart = exact[at] - exact[at].mean(axis=0)
        farthest = apart[np.einsum("nd,nd->n", apart, apart).argmax()]
        at = at[np.argsort(np.einsum("nd,d->n", apart, farthest), kind="stable")]
        waiting += [at[len(at) // 2 :], at[: len(at) // 2]]
    return np.concatenate(order)


class Cluster(NamedTuple):
    """Rows of a cluster in the order of their ranks, no two of them with the same vector."""

    rows: Ranked
    vectors: Vectors
    units: Float32s
    """As `unit_vectors` returns them."""
    fates: Fates

    def take(self, chosen: Index | Mask | slice) -> "Cluster":
        """Return some of the rows, in their order."""
        return Cluster(
            self.rows[chosen], self.vectors[chosen], self.units[chosen], self.fates[chosen]
        )


class Neighbour(NamedTuple):
    """The rows of a cluster that a neighbouring one has to be compared with."""

    cluster: Cluster
    reached: Mask
    """Which rows of the neighbouring one."""


class Going(NamedTuple):
    """Rows that go, each with a row that stays."""

    at: Index
    """Numbers of the rows in their cluster, ascending."""
    stays: Ranked
    cosines: Float32s


class Pairs(NamedTuple):
    """Open rows with better ones that are within the bound and alive."""

    rows: Ranked
    better: Ranked
    is_staying: Mask
    """Whether the better one is known to stay; else it is open, too."""
    cosines: Float32s


def joined(pairs: Iterable[Pairs]) -> Pairs:
    """Return all pairs of some."""
    none = Pairs(*(np.empty(0, kind) for kind in (RANKED, RANKED, bool, np.float32)))
    return Pairs(*(np.concatenate(column) for column in zip(none, *pairs, strict=True)))


def neighbour(
    home: Cluster, other: Cluster, own: Float32s, theirs: Float32s, bound: float
) -> Neighbour:
    """Return what of another cluster may be within the bound of rows of a cluster.

    Each row is on its own side of the plane between the two centroids, so of two rows within a
    distance of each other neither is farther from it than that. Of the other cluster only what may
    make a row go is returned.

    Parameters
    ----------
    own, theirs
        The two centroids.
    """
    is_alive = other.fates != Fate.GOES
    reach = math.sqrt(max(0.0, 2 - 2 * bound)) + _SLACK
    across = (theirs - own).astype(np.float64)
    length = float(np.sqrt(across @ across))
    if not length:
        return Neighbour(other.take(is_alive), np.ones(len(home.rows), bool))
    normal = (across / length).astype(np.float32)
    middle = float((theirs.astype(np.float64) @ theirs - own.astype(np.float64) @ own) / 2 / length)
    reached = middle - home.units @ normal <= reach
    return Neighbour(other.take(is_alive & (other.units @ normal - middle <= reach)), reached)


def judge(home: Cluster, others: Iterable[Neighbour], bound: float) -> Going:
    """Decide what becomes of the open rows of a cluster, as far as it can be told.

    Parameters
    ----------
    home
        Its ``fates`` are changed.
    bound
        Least cosine of near duplicates, compared in float32.

    Returns
    -------
    Going
        The rows that go by this decision.
    """
    verdict = _Verdict(home)
    for other in others:
        open_ = np.flatnonzero((home.fates == Fate.OPEN) & other.reached)
        ahead = n_better(home.rows[open_], other.cluster.rows)
        for start in range(0, len(open_), BLOCK_ROWS):
            some = slice(start, start + BLOCK_ROWS)
            verdict.compare(open_[some], other.cluster, ahead[some], bound)
    open_ = np.flatnonzero(home.fates == Fate.OPEN)
    for start in range(0, len(open_), BLOCK_ROWS):
        block = open_[start : start + BLOCK_ROWS]
        is_alive = home.fates != Fate.GOES
        is_alive[block] = False
        before = np.flatnonzero(is_alive[: block[-1]])
        verdict.compare(block, home.take(before), np.searchsorted(before, block), bound)
        verdict.settle(block[home.fates[block] == Fate.OPEN], bound)
    return verdict.going()


class _Verdict:
    """What is known of the rows of a cluster, from the best to the worst."""

    def __init__(self, home: Cluster) -> None:
        self._home = home
        self._has_open = np.zeros(len(home.rows), bool)
        self._goes = np.zeros(len(home.rows), bool)
        self._stays = np.zeros(len(home.rows), RANKED)
        self._cosines = np.zeros(len(home.rows), np.float32)

    def compare(self, block: Index, others: Cluster, ahead: Index, bound: float) -> None:
        """Compare some rows with others, of each the first `ahead` of them."""
        stays = others.fates == Fate.STAYS
        most = int(ahead.max(initial=0))
        for start in range(0, most, BLOCK_CENTROIDS):
            part = slice(start, min(most, start + BLOCK_CENTROIDS))
            left = self._home.fates[block] == Fate.OPEN
            if not stays[part].any():  # nothing more can be told of rows that have an open one
                left &= ~self._has_open[block]
            rows, limit = block[left], ahead[left] - start
            hits = _hits(self._home.take(rows), others.take(part), limit, bound)
            self._has_open[rows] |= (hits & ~stays[part]).any(axis=1)
            hits &= stays[part]
            is_hit = hits.any(axis=1)
            self._go(rows[is_hit], others.take(start + hits[is_hit].argmax(axis=1)))

    def settle(self, block: Index, bound: float) -> None:
        """Decide of some rows, each when those before it are decided."""
        home = self._home.take(block)
        fates = np.where(self._has_open[block], Fate.OPEN, Fate.STAYS).astype(np.uint8)
        stays = np.zeros(len(block), np.int64)
        hits = _hits(home, home, np.arange(len(block)), bound)
        for row in np.flatnonzero(hits.any(axis=1)):
            alive = np.flatnonzero(hits[row] & (fates != Fate.GOES))
            staying = alive[fates[alive] == Fate.STAYS]
            if len(staying):
                fates[row], stays[row] = Fate.GOES, staying[0]
            elif len(alive):
                fates[row] = Fate.OPEN
        self._home.fates[block] = fates
        goes = fates == Fate.GOES
        self._go(block[goes], home.take(stays[goes]))

    def _go(self, rows: Index, stays: Cluster) -> None:
        self._home.fates[rows] = Fate.GOES
        self._goes[rows] = True
        self._stays[rows] = stays.rows
        self._cosines[rows] = cosines(self._home.vectors[rows], stays.vectors)

    def going(self) -> Going:
        """Return the rows that go."""
        at = np.flatnonzero(self._goes)
        return Going(at, self._stays[at], self._cosines[at])


def cosines(vectors: Vectors, others: Vectors) -> Float32s:
    """Return the cosine of each pair of rows, rounded once."""
    found = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), BLOCK_ROWS):
        some = slice(start, start + BLOCK_ROWS)
        one, other = vectors[some].astype(np.float64), others[some].astype(np.float64)
        products, squares, squares_too = (
            np.einsum("nd,nd->n", *pair) for pair in ((one, other), (one, one), (other, other))
        )
        found[some] = products / np.sqrt(squares * squares_too)
    return found


def _hits(block: Cluster, others: Cluster, ahead: Index, bound: float) -> Mask:
    """Tell of each row and each of the first `ahead` others whether they are within the bound."""
    least = np.float32(bound)
    slack = np.float32(UNIT * (2 * block.units.shape[1] + 16))
    products = block.units @ others.units.T
    hits: Mask = products >= least - slack
    some = np.flatnonzero(hits.any(axis=1))
    if len(some):
        few = hits[some] & (np.arange(len(others.rows)) < ahead[some, None])
        one, other = block.rows[some, None], others.rows
        few &= (one["f0"] != other["f0"]) | (one["f1"] != other["f1"])
        row, column = np.nonzero(few & (products[some] < least + slack))
        few[row, column] = cosines(block.vectors[some[row]], others.vectors[column]) >= least
        hits[some] = few
    return hits


def open_pairs(home: Cluster, others: Iterable[Neighbour], bound: float) -> Iterator[Pairs]:
    """Yield the pairs of open rows of a cluster with better rows, there or elsewhere."""
    mine = home.take(home.fates == Fate.OPEN)
    yield from _pairs(mine, mine, np.arange(len(mine.rows)), bound)
    for other in others:
        one = home.take((home.fates == Fate.OPEN) & other.reached)
        yield from _pairs(one, other.cluster, n_better(one.rows, other.cluster.rows), bound)


def _pairs(block: Cluster, others: Cluster, ahead: Index, bound: float) -> Iterator[Pairs]:
    for start in range(0, len(block.rows), BLOCK_ROWS):
        some = slice(start, start + BLOCK_ROWS)
        one = block.take(some)
        for first in range(0, int(ahead[some].max(initial=0)), BLOCK_CENTROIDS):
            other = others.take(slice(first, first + BLOCK_CENTROIDS))
            row, column = np.nonzero(_hits(one, other, ahead[some] - first, bound))
            is_staying = other.fates[column] == Fate.STAYS
            found = cosines(one.vectors[row], other.vectors[column])
            yield Pairs(one.rows[row], other.rows[column], is_staying, found)


def settled(pairs: Pairs) -> Pairs:
    """Decide of the rows that were left open; return those that go, each with one that stays.

    Parameters
    ----------
    pairs
        All `open_pairs`, in any order.
    """
    order = rank_order(pairs.better)
    order = order[rank_order(pairs.rows[order])]
    places, better = pairs.rows["place"].tolist(), pairs.better["place"].tolist()
    stays = dict.fromkeys([*places, *better], True)  # so do open rows without such pairs
    going = []
    for pair in order.tolist():
        if stays[places[pair]] and (pairs.is_staying[pair] or stays[better[pair]]):
            stays[places[pair]] = False
            going.append(pair)
    rows, others, is_staying, found = pairs
    return Pairs(rows[going], others[going], is_staying[going], found[going])
