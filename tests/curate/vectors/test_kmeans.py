"""k-means in pieces: the same centroids however rows are cut, and as good as those of faiss."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.curate.vectors.centroids import centroids_of, closest_centroid
from cah_dask.curate.vectors.kmeans import (
    APART,
    Start,
    cluster_sums,
    donors,
    k_means,
    merged,
    next_centroids,
    objectives,
)
from cah_dask.keys import from_digests
from tests.curate.vectors.test_centroids import drawn


def drawn_uids(n: int, seed: int = 0) -> np.ndarray:
    return from_digests(np.random.default_rng(seed).bytes(16 * n))


def in_groups(n: int, groups: int, dim: int = 24, seed: int = 0) -> np.ndarray:
    """Unit vectors around some directions."""
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(groups, dim))[generator.integers(0, groups, n)]
    vectors += generator.normal(size=(n, dim)) * 0.3
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("f2")


@given(st.lists(st.integers(0, 400), max_size=6), st.integers(0, 1000))
def test_sums_are_the_same_to_the_last_bit_however_rows_are_cut(cuts: list[int], seed: int):
    vectors, centroids = in_groups(400, 9, seed=seed), centroids_of(drawn((13, 24), seed, "f4"))
    whole = cluster_sums([vectors], centroids)
    pieces = np.split(vectors, sorted(cuts))
    in_pieces = merged(
        (cluster_sums([piece], centroids) for piece in pieces), np.arange(13), centroids.dim
    )
    for one, other in zip(whole[:3], in_pieces[:3], strict=True):
        assert one.tobytes() == other.tobytes()
    assert np.allclose(whole.squares, in_pieces.squares, rtol=1e-14)


def test_an_iteration_is_the_mean_of_each_cluster_and_the_objective_the_squared_distances():
    vectors, start = in_groups(500, 5), drawn((6, 24), 3, "f4")
    centroids = centroids_of(start)
    at = closest_centroid(vectors, centroids)
    exact = vectors.astype("f8")
    means = [exact[at == cluster].mean(axis=0).astype("f4") for cluster in range(6)]
    total = cluster_sums([vectors], centroids)
    assert np.allclose(next_centroids(range(6), total, total.counts, centroids), means, atol=1e-7)
    distances = ((exact - start[at]) ** 2).sum()
    assert objectives(total, centroids).sum() == pytest.approx(distances, rel=1e-12)


def test_ranges_of_clusters_may_be_made_apart():
    vectors, centroids = in_groups(300, 4), centroids_of(drawn((40, 24), 3, "f4"))
    total = cluster_sums([vectors], centroids)
    assert (total.counts == 0).any()
    whole = next_centroids(range(40), total, total.counts, centroids)
    for clusters in (range(7), range(7, 8), range(8, 40)):
        given_ = donors(total.counts)
        wanted = sorted({*clusters, *(given_[each] for each in clusters if each in given_)})
        part = merged([total], np.array(wanted), centroids.dim)
        found = next_centroids(clusters, part, total.counts, centroids)
        assert np.array_equal(found, whole[clusters.start : clusters.stop])


def test_empty_clusters_take_half_of_the_largest():
    assert donors(np.array([0, 7, 1, 0, 9, 7, 0, 0])) == {0: 4, 3: 1, 6: 5}
    vectors = np.array([[1, 1], [1, 1], [3, 1], [-1, 0]], "f2")
    centroids = centroids_of(np.array([[9, 9], [1, 1], [-1, 0]], "f4"))
    total = cluster_sums([vectors], centroids)
    assert total.counts.tolist() == [0, 3, 1]
    found = next_centroids(range(3), total, total.counts, centroids)
    mean = np.array([5 / 3, 1])
    assert np.allclose(found[0], mean * [1 + APART, 1 - APART])
    assert np.allclose(found[1], mean * [1 - APART, 1 + APART])
    assert found[2].tolist() == [-1, 0]


def test_a_cluster_of_one_row_is_not_split():
    vectors = np.array([[1, 0], [0, 1]], "f2")
    centroids = centroids_of(np.array([[1, 0], [0, 1], [5, 5]], "f4"))
    total = cluster_sums([vectors], centroids)
    assert next_centroids(range(3), total, total.counts, centroids)[2].tolist() == [5, 5]


def test_as_many_clusters_as_different_vectors_leave_nothing_over():
    different = in_groups(30, 30, seed=5)
    vectors = different[np.random.default_rng(1).integers(0, 30, 400)]
    centroids, course = k_means(vectors, drawn_uids(400), 30, iterations=12)
    assert course[-1] == pytest.approx(0, abs=1e-4)
    assert len(np.unique(closest_centroid(different, centroids))) == len(np.unique(vectors, axis=0))


def test_the_objective_falls_and_is_that_of_faiss():
    faiss = pytest.importorskip("faiss")
    vectors = in_groups(6000, 600)
    _, course = k_means(vectors, drawn_uids(6000), 64, iterations=10)
    assert all(after <= before for before, after in itertools.pairwise(course))
    peer = faiss.Kmeans(24, 64, niter=10, seed=0, max_points_per_centroid=10**7)
    peer.train(vectors.astype("f4"))
    assert course[-1] <= peer.obj[-1] * 1.03


def test_where_centroids_start_depends_on_uids_and_the_seed_only():
    uids = drawn_uids(1000)

    def start(pieces: list[np.ndarray], seed: int) -> list[bytes]:
        chosen = Start(20, seed)
        for number, piece in enumerate(pieces):
            chosen.add(number, piece)
        return [pieces[piece][row].tobytes() for piece, row in chosen.places]

    whole = start([uids], 0)
    assert len(set(whole)) == 20
    assert start(np.split(uids, [0, 3, 700]), 0) == whole
    assert start([uids], 1) != whole
