"""Near duplicates: who goes is what a slow and obvious loop says, whoever compares."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.curate.vectors import near_duplicates
from cah_dask.curate.vectors.centroids import BLOCK_ROWS, Centroids, centroids_of, closest_centroid
from cah_dask.curate.vectors.kmeans import k_means
from cah_dask.curate.vectors.near_duplicates import (
    RANKED,
    Cluster,
    Neighbour,
    Pairs,
    joined,
    judge,
    neighbour,
    neighbours,
    open_pairs,
    rank_order,
    settled,
    spatial_order,
    unit_vectors,
)
from cah_dask.errors import InputError
from cah_dask.keys import KEY
from tests.curate.vectors.test_kmeans import drawn_uids, in_groups

Gone = dict[int, tuple[int, float]]
"""Of each row that goes, the row that stays and their cosine."""


def with_copies(n: int, seed: int = 0, dim: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Vectors in groups, a third of them changed copies of others, and their ranks with ties."""
    generator = np.random.default_rng(seed)
    vectors = in_groups(n, 12, dim, seed).astype("f8")
    for row in range(1, n):
        if generator.random() < 0.35:
            change = generator.choice([0.0, 0.05, 0.15, 0.25, 0.28, 0.3, 0.35])
            noise = generator.normal(size=dim) / np.sqrt(dim)
            vectors[row] = vectors[generator.integers(row)] + change * noise
    return vectors.astype("f2"), ranked(n, generator.integers(0, 9, n) / 10, seed)


def ranked(n: int, similarity: np.ndarray | list[float], seed: int = 0) -> np.ndarray:
    rows = np.zeros(n, RANKED)
    uids = drawn_uids(n, seed)
    rows["f0"], rows["f1"], rows["similarity"] = uids["f0"], uids["f1"], similarity
    rows["place"] = np.arange(n)
    return rows


def plain(vectors: np.ndarray, rows: np.ndarray, bound: float) -> Gone:
    """The rule as it reads, one row after the other."""
    exact = vectors.astype("f8")
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    order = sorted(
        range(len(rows)),
        key=lambda n: (-rows["similarity"][n], rows["f0"][n], rows["f1"][n], n),
    )
    staying: list[int] = []
    gone: Gone = {}
    for row in order:
        cosines = (exact[staying] @ exact[row]).astype("f4") if staying else np.empty(0, "f4")
        within = np.flatnonzero(cosines >= np.float32(bound))
        if len(within):
            gone[row] = staying[within[0]], float(cosines[within[0]])
        else:
            staying.append(row)
    return gone


def part(vectors: np.ndarray, rows: np.ndarray, at: np.ndarray, fates: np.ndarray) -> Cluster:
    at = at[rank_order(rows[at])]
    return Cluster(rows[at], vectors[at], unit_vectors(vectors[at]), fates[at])


def found(
    vectors: np.ndarray, rows: np.ndarray, centroids: Centroids, n: int, bound: float, rounds: int
) -> tuple[Gone, int]:
    """Judge cluster by cluster, several times; return who goes, and how many pairs were left."""
    at = closest_centroid(unit_vectors(vectors), centroids)
    near = neighbours(centroids, n)
    fates = np.zeros(len(rows), "u1")
    gone: Gone = {}
    pairs: list[Pairs] = []

    def cluster(number: int, known: np.ndarray) -> Cluster:
        return part(vectors, rows, np.flatnonzero(at == number), known)

    def others(number: int, home: Cluster, known: np.ndarray) -> Iterator[Neighbour]:
        own = centroids.vectors[number]
        for other in near[number]:
            theirs = centroids.vectors[other]
            yield neighbour(home, cluster(other, known), own, theirs, bound)

    for _ in range(rounds):
        before = fates.copy()
        for number in range(len(centroids)):
            home = cluster(number, before)
            going = judge(home, others(number, home, before), bound)
            places = home.rows["place"][going.at].tolist()
            stays = zip(going.stays["place"].tolist(), going.cosines.tolist(), strict=True)
            gone |= dict(zip(places, stays, strict=True))
            fates[home.rows["place"]] = home.fates
    for number in range(len(centroids)):
        home = cluster(number, fates)
        pairs += open_pairs(home, others(number, home, fates), bound)
    left = joined(pairs)
    late = settled(left)
    better = zip(late.better["place"].tolist(), late.cosines.tolist(), strict=True)
    gone |= dict(zip(late.rows["place"].tolist(), better, strict=True))
    return gone, len(left.rows)


ONE = centroids_of(np.zeros((1, 24), "f4"))
"""All rows in one cluster: the exact way."""


@pytest.mark.parametrize("bound", [0.9, 0.96, 0.999])
def test_in_one_cluster_all_is_as_the_rule_reads(bound: float):
    vectors, rows = with_copies(BLOCK_ROWS + 400)
    expected = plain(vectors, rows, bound)
    assert len(expected) > 80
    assert found(vectors, rows, ONE, 0, bound, rounds=1) == (expected, 0)


def test_with_all_clusters_as_neighbours_the_same_rows_go_after_any_number_of_rounds():
    vectors, rows = with_copies(1500, seed=1)
    centroids, _ = k_means(vectors, rows[list(KEY.names or ())].astype(KEY), 12, iterations=3)
    expected = plain(vectors, rows, 0.9)
    lefts = []
    for rounds in (1, 2, 3):
        gone, left = found(vectors, rows, centroids, 11, 0.9, rounds)
        lefts.append(left)
        assert gone.keys() == expected.keys()
        for row, (stays, cosine) in gone.items():
            assert stays not in expected
            assert cosine >= np.float32(0.9)
            assert rank_order(rows[[stays, row]])[0] == 0
    assert lefts[0] > lefts[1] > lefts[2] == 0


def test_without_neighbours_most_are_found_and_all_that_go_are_close():
    vectors, rows = with_copies(1500, seed=2)
    centroids, _ = k_means(vectors, rows[list(KEY.names or ())].astype(KEY), 12, iterations=3)
    exact = plain(vectors, rows, 0.96)
    gone, _ = found(vectors, rows, centroids, 0, 0.96, 2)
    assert 0.9 * len(exact) <= len(gone.keys() & exact.keys()) < len(exact)
    units = unit_vectors(vectors)
    assert all(units[row] @ units[stays] >= 0.9599 for row, (stays, _) in gone.items())


@given(st.permutations(range(12)), st.integers(0, 99))
def test_the_order_in_which_rows_are_stored_is_of_no_account(order: list[int], seed: int):
    vectors, rows = with_copies(12, seed)

    def gone(at: list[int]) -> set[int]:
        mixed = rows[at].copy()
        mixed["place"] = range(12)
        going, _ = found(vectors[at], mixed, ONE, 0, 0.9, 1)
        return {at[row] for row in going}

    assert gone(order) == gone(list(range(12)))


def angles(*degrees: float) -> np.ndarray:
    radians = np.radians(degrees)
    vectors = np.zeros((len(degrees), 24), "f2")
    vectors[:, 0], vectors[:, 1] = np.cos(radians), np.sin(radians)
    return vectors


def test_of_a_chain_the_far_end_stays():
    vectors, rows = angles(0, 10, 20), ranked(3, [0.5, 0.4, 0.3])  # a ~ b ~ c, a and c apart
    bound = float(np.cos(np.radians(12)))
    gone, _ = found(vectors, rows, ONE, 0, bound, 1)
    assert {row: stays for row, (stays, _) in gone.items()} == {1: 0}


def test_the_best_in_the_middle_takes_both_ends():
    gone, _ = found(
        angles(0, 10, 20), ranked(3, [0.3, 0.4, 0.3]), ONE, 0, float(np.cos(np.radians(12))), 1
    )
    assert {row: stays for row, (stays, _) in gone.items()} == {0: 1, 2: 1}


def test_of_equal_similarity_the_lower_uid_stays():
    rows = ranked(2, [0.3, 0.3])
    rows["f0"] = 2**63 + 1, 2**63
    gone, _ = found(angles(5, 5), rows, ONE, 0, 0.96, 1)
    assert gone == {0: (1, 1.0)}


def test_rows_of_one_uid_are_no_duplicates_of_each_other():
    rows = ranked(3, [0.5, 0.4, 0.3])
    rows["f0"], rows["f1"] = [7, 7, 7], [1, 1, 2]
    gone, _ = found(angles(5, 5, 5), rows, ONE, 0, 0.96, 1)
    assert gone == {2: (0, 1.0)}


@pytest.mark.parametrize(("step", "n_gone"), [(0, 1), (-1, 1), (1, 0)])
def test_the_bound_is_compared_in_float32_and_belongs_to_it(step: int, n_gone: int):
    vectors = np.zeros((2, 24), "f2")
    vectors[0, 0], vectors[1, :2] = 1, (0.6, 0.8)  # fp16 makes a cosine of 0.59987...
    exact = vectors.astype("f8")
    cosine = np.float32(exact[0] @ exact[1] / np.linalg.norm(exact[1]))
    bound = cosine if step == 0 else np.nextafter(cosine, np.float32(step))
    gone, _ = found(vectors, ranked(2, [0.2, 0.1]), ONE, 0, float(bound), 1)
    assert len(gone) == n_gone


def test_a_plane_between_centroids_keeps_apart_only_what_is_far_apart():
    vectors, rows = with_copies(800, seed=3)
    centroids, _ = k_means(vectors, drawn_uids(800), 2, iterations=3)
    at = closest_centroid(unit_vectors(vectors), centroids)
    no_fates = np.zeros(800, "u1")
    home, other = (part(vectors, rows, np.flatnonzero(at == each), no_fates) for each in (0, 1))
    own, theirs = centroids.vectors
    seen = neighbour(home, other, own, theirs, 0.96)
    within = unit_vectors(home.vectors) @ unit_vectors(other.vectors).T >= 0.96
    assert within.any()
    assert seen.reached[within.any(axis=1)].all()
    assert np.isin(other.rows["place"][within.any(axis=0)], seen.cluster.rows["place"]).all()
    assert len(seen.cluster.rows) < len(other.rows)


def test_neighbours_are_mutual():
    near = neighbours(centroids_of(np.array([[0.0], [1.0], [2.5], [9.0]])), 1)
    assert [each.tolist() for each in near] == [[1], [0, 2], [1, 3], [2]]
    assert [len(each) for each in neighbours(ONE, 5)] == [0]


def test_close_centroids_lie_together_in_the_order_of_space():
    angles_of = np.random.default_rng(0).permutation(64) * 3.0
    order = spatial_order(centroids_of(angles(*angles_of)))
    assert sorted(order) == list(range(64))
    halves = np.sort(angles_of[order].reshape(8, 8), axis=1)
    assert (
        halves[:, -1] - halves[:, 0] == 7 * 3.0
    ).all()  # eighths of the circle, each in one piece


@pytest.mark.parametrize(("value", "what"), [(0.0, "zero"), (np.nan, "not finite")])
def test_a_vector_without_a_direction_is_refused(value: float, what: str):
    vectors = in_groups(5, 2)
    vectors[3] = value
    with pytest.raises(InputError, match=f"^vector 3 is {what}$"):
        unit_vectors(vectors)


def test_ten_thousand_copies_of_one_picture_leave_no_pairs_behind(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(near_duplicates, "BLOCK_ROWS", 256)
    generator = np.random.default_rng(0)
    vectors = in_groups(1, 1).astype("f8") + generator.normal(size=(10_000, 24)) * 0.002
    vectors = vectors.astype("f2")
    rows = ranked(10_000, generator.random(10_000))
    centroids = centroids_of(vectors[:2])
    gone, left = found(vectors, rows, centroids, 1, 0.96, 2)
    assert (len(gone), left) == (9_999, 0)
