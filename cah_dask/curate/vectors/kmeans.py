"""k-means whose parts may be computed anywhere, in any number of pieces.

Lloyd's iterations as sums over pieces of the rows: each piece tells of every cluster how many rows
are nearest to its centroid and what their sum is (`ClusterSums`); from those of all pieces come the
next centroids. Who computes a piece changes no byte. Of numbers in float16 that are at most 1, as
those of unit vectors, sums are exact in float64 up to 2^28 rows of a cluster, so centroids do not
depend on how rows are cut into pieces either. Sums of float32 and of squares (the objectives) are
rounded, and do in their last bits.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from cah_dask.curate.uid_hashes import uid_hashes
from cah_dask.curate.vectors.centroids import (
    Centroids,
    Float32s,
    Float64s,
    Index,
    Vectors,
    centroids_of,
    closest_centroid,
)
from cah_dask.keys import Keys

APART = 1 / 1024
"""By what share the halves of a cluster that is split are moved apart; that of faiss."""
SLICE_ROWS = 8192


class ClusterSums(NamedTuple):
    """Of some clusters, in ascending order, the rows that are closest to their centroids."""

    clusters: Index
    counts: Index
    sums: Float64s
    """``(clusters, dim)``: the sum of their vectors."""
    squares: Float64s
    """The sum of the squares of their norms."""


def cluster_sums(pieces: Iterable[Vectors], centroids: Centroids) -> ClusterSums:
    """Return the sums of the rows of some pieces; see `closest_centroid` for errors."""

    def slices() -> Iterable[ClusterSums]:
        for vectors in pieces:
            for start in range(0, len(vectors), SLICE_ROWS):
                some = vectors[start : start + SLICE_ROWS]
                yield _sums(some, closest_centroid(some, centroids))

    return merged(slices(), np.arange(len(centroids)), centroids.dim)


def _sums(vectors: Vectors, at: Index) -> ClusterSums:
    order = np.argsort(at, kind="stable")
    exact = vectors[order].astype(np.float64)
    squares = np.einsum("nd,nd->n", exact, exact)
    clusters, starts, counts = np.unique(at[order], return_index=True, return_counts=True)
    # reduceat takes six times as long along this axis
    groups = zip(starts, starts + counts, strict=True)
    sums = np.array([exact[start:stop].sum(axis=0) for start, stop in groups])
    return ClusterSums(
        clusters, counts, sums.reshape(-1, vectors.shape[1]), np.add.reduceat(squares, starts)
    )


def merged(pieces: Iterable[ClusterSums], clusters: Index, dim: int) -> ClusterSums:
    """Return the sums of some clusters (ascending) over all pieces, added in the order of these."""
    total = ClusterSums(
        clusters,
        np.zeros(len(clusters), np.int64),
        np.zeros((len(clusters), dim)),
        np.zeros(len(clusters)),
    )
    for piece in pieces:
        at = np.searchsorted(clusters, piece.clusters)
        is_wanted = at < len(clusters)
        is_wanted[is_wanted] = clusters[at[is_wanted]] == piece.clusters[is_wanted]
        to = at[is_wanted]
        total.counts[to] += piece.counts[is_wanted]
        total.sums[to] += piece.sums[is_wanted]
        total.squares[to] += piece.squares[is_wanted]
    return total


def donors(counts: Index) -> dict[int, int]:
    """Return of each empty cluster the one that is split to fill it.

    The largest one for the first, and so on; where there are more empty clusters than others of two
    rows, the rest stays as it is.
    """
    largest = np.argsort(-counts, kind="stable")
    large = largest[counts[largest] > 1]
    empty = np.flatnonzero(counts == 0)
    return {int(to): int(donor) for to, donor in zip(empty, large, strict=False)}


def next_centroids(
    clusters: range, total: ClusterSums, counts: Index, centroids: Centroids
) -> Float32s:
    """Return the centroids of the next iteration, of some neighbouring clusters.

    Parameters
    ----------
    total
        The sums over all rows of these clusters and of the `donors` of those that are empty.
    counts
        Rows of every cluster.
    centroids
        Of this iteration: what stays where no row is.
    """
    given = donors(counts)
    halved = set(given.values())
    found = centroids.vectors[clusters.start : clusters.stop].copy()
    for row, cluster in enumerate(clusters):
        source = given.get(cluster, cluster)
        if counts[source]:
            at = np.searchsorted(total.clusters, source)
            mean = total.sums[at] / counts[source]
            sign = 1 if cluster in given else -1 if cluster in halved else 0
            found[row] = mean * (1 + sign * _apart(len(mean)))
    return found


def _apart(dim: int) -> Float64s:
    """Return the factors by which the two halves of a split differ; its sign alternates."""
    return np.where(np.arange(dim) % 2 == 0, APART, -APART)


def objectives(total: ClusterSums, centroids: Centroids) -> Float64s:
    """Return of each cluster the sum of the squared distances of its rows to its centroid."""
    chosen = centroids.vectors[total.clusters].astype(np.float64)
    products = np.einsum("kd,kd->k", chosen, total.sums)
    squares = 2 * centroids.half_squares[total.clusters] * total.counts
    found: Float64s = total.squares - 2 * products + squares
    return found


class Start:
    """Chooses the rows that centroids start from: those of the lowest hashes of their uids.

    It is fed piece by piece, and what it holds is bounded by the number of centroids.
    """

    def __init__(self, n: int, seed: int) -> None:
        self._n = n
        self._seed = seed + 1  # not the hash that the sample was drawn by
        self._hashes = np.empty(0, np.uint64)
        self._places = np.empty((0, 2), np.int64)

    def add(self, piece: int, uids: Keys) -> None:
        """Look at the rows of a piece."""
        hashes = uid_hashes(uids, self._seed)
        places = np.stack([np.full(len(uids), piece), np.arange(len(uids))], axis=1)
        hashes = np.concatenate([self._hashes, hashes])
        order = np.argsort(hashes, kind="stable")[: self._n]
        self._hashes = hashes[order]
        self._places = np.concatenate([self._places, places])[order]

    @property
    def places(self) -> list[tuple[int, int]]:
        """Piece and row of each chosen one, in the order of the centroids."""
        return [(int(piece), int(row)) for piece, row in self._places]


def k_means(
    vectors: Vectors, uids: Keys, k: int, *, iterations: int = 20, seed: int = 0
) -> tuple[Centroids, list[float]]:
    """Return k centroids of vectors in memory, and the objective before each iteration.

    It is what `cah cluster` is held against, and makes centroids for benchmarks.

    Parameters
    ----------
    vectors, uids
        Of the same rows; at least k of them.
    """
    start = Start(k, seed)
    start.add(0, uids)
    centroids = centroids_of(vectors[[row for _, row in start.places]])
    course = []
    for _ in range(iterations):
        total = cluster_sums([vectors], centroids)
        course.append(float(objectives(total, centroids).sum()))
        moved = next_centroids(range(k), total, total.counts, centroids)
        centroids = centroids_of(moved)
    return centroids, course
