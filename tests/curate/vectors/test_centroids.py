"""The nearest centroid: the rule of DataComp, to the last tie, whatever the blocks."""

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.curate.vectors.centroids import (
    BLOCK_CENTROIDS,
    BLOCK_ROWS,
    centroids_of,
    closest_centroid,
    is_near,
    load_array,
    load_centroids,
    nearest_centroid,
    targets_of,
)
from cah_dask.errors import InputError


def drawn(shape: tuple[int, int], seed: int = 0, dtype: str = "f2") -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(dtype)


def plain_nearest(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The rule as it reads: products one by one, rounded to float32, the first of the largest."""
    found = []
    for vector in vectors.astype("f8"):
        products = [np.float32(np.sum(vector * each)) for each in centroids.astype("f8")]
        found.append(products.index(max(products)))
    return np.array(found)


def test_it_is_the_largest_product_not_the_least_distance():
    centroids = np.array([[1.0, 0.0], [0.6, 0.6]], "f4")  # of norms 1 and 0.85
    vector = np.array([[0.8, 0.6]], "f2")
    assert nearest_centroid(vector, centroids_of(centroids)).tolist() == [1]
    longer = np.array([[1.0, 0.0], [2.0, 2.0]], "f4")
    assert nearest_centroid(vector, centroids_of(longer)).tolist() == [1]
    assert closest_centroid(vector, centroids_of(longer)).tolist() == [0]


def test_the_two_rules_differ_where_norms_do_and_each_is_as_its_formula_reads():
    vectors, centroids = drawn((300, 16)), drawn((40, 16), 1, "f4")
    centroids *= np.linspace(0.92, 1.0, 40, dtype="f4")[:, None]
    nearest = nearest_centroid(vectors, centroids_of(centroids))
    closest = closest_centroid(vectors, centroids_of(centroids))
    distances = np.linalg.norm(vectors.astype("f8")[:, None] - centroids, axis=2)
    assert np.array_equal(nearest, plain_nearest(vectors, centroids))
    assert np.array_equal(closest, distances.argmin(axis=1))
    assert (nearest != closest).any()


@pytest.mark.parametrize("n", [0, 1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1])
def test_blocks_of_rows_have_no_seams(n: int):
    vectors, centroids = drawn((n, 8)), drawn((7, 8), 1, "f4")
    assert np.array_equal(
        nearest_centroid(vectors, centroids_of(centroids)), plain_nearest(vectors, centroids)
    )


@pytest.mark.parametrize("k", [1, 2, BLOCK_CENTROIDS, BLOCK_CENTROIDS + 1])
def test_blocks_of_centroids_have_no_seams(k: int):
    centroids = drawn((k, 8), 1, "f4")
    rows = np.array([0, k // 2, k - 1])
    found = nearest_centroid(centroids[rows].astype("f2"), centroids_of(centroids))
    assert np.array_equal(found, rows)


def test_of_equal_centroids_the_first_is_taken_wherever_they_are():
    centroids = drawn((2 * BLOCK_CENTROIDS + 5, 48), 1, "f4")
    for twin in (8, 4095, 4096, 2 * BLOCK_CENTROIDS + 4):
        centroids[twin] = centroids[7]
    vectors = np.repeat(centroids[7:8], 5, axis=0).astype("f2")
    for rule in (nearest_centroid, closest_centroid):
        assert rule(vectors, centroids_of(centroids)).tolist() == [7] * 5


@given(st.integers(0, 2**32 - 1), st.integers(1, 80))
def test_close_centroids_are_told_apart_alike_one_by_one_and_all_at_once(seed: int, dim: int):
    generator = np.random.default_rng(seed)
    one = generator.normal(size=dim)
    steps = generator.integers(-2, 3, size=(30, dim)) * 2.0**-22
    centroids = (one / np.linalg.norm(one) + steps).astype("f4")
    vectors = drawn((9, dim), seed)
    all_at_once = nearest_centroid(vectors, centroids_of(centroids))
    one_by_one = [
        nearest_centroid(vectors[row : row + 1], centroids_of(centroids)) for row in range(9)
    ]
    assert np.array_equal(all_at_once, np.concatenate(one_by_one))
    assert np.array_equal(all_at_once, plain_nearest(vectors, centroids))


def test_memory_is_bounded_by_blocks():
    vectors, centroids = drawn((20_000, 16)), centroids_of(drawn((5000, 16), 1, "f4"))
    tracemalloc.start()
    try:
        nearest_centroid(vectors, centroids)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24_000_000  # all products at once would take 400 MB


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused_by_its_number(bad: float):
    vectors = drawn((BLOCK_ROWS + 9, 8))
    vectors[BLOCK_ROWS + 3, 5] = bad
    with pytest.raises(InputError, match=rf"^vector {BLOCK_ROWS + 3} is not finite$"):
        nearest_centroid(vectors, centroids_of(drawn((3, 8))))


def test_vectors_of_another_length_are_refused():
    with pytest.raises(InputError, match=r"of shape \(4, 6\), those of the centroids .* length 8"):
        nearest_centroid(drawn((4, 6)), centroids_of(drawn((3, 8))))


def test_near_means_that_the_nearest_centroid_is_a_target():
    centroids = centroids_of(np.eye(4, dtype="f4"))
    vectors = np.eye(4, dtype="f2")[[0, 3, 1, 3]]
    assert is_near(vectors, centroids, np.array([3, 0])).tolist() == [True, True, False, True]
    assert is_near(vectors, centroids, np.array([], int)).tolist() == [False] * 4


@pytest.mark.parametrize(
    ("targets", "message"),
    [([0, 4], "reach from 0 to 4, centroids from 0 to 3"), ([-1], "from -1"), ([0.5], "float64")],
)
def test_targets_that_are_no_centroids_are_refused(targets: list[float], message: str):
    with pytest.raises(InputError, match=message):
        is_near(np.eye(4, dtype="f2"), centroids_of(np.eye(4, dtype="f4")), np.array(targets))


def test_targets_are_what_examples_are_nearest_to():
    examples = [np.eye(5, dtype="f2")[[3, 1, 3]], np.eye(5, dtype="f2")[[1]]]
    assert targets_of(examples, centroids_of(np.eye(5, dtype="f4"))).tolist() == [1, 3]


def test_centroids_are_read_if_their_checksum_is_right(tmp_path: Path):
    path = tmp_path / "c.npy"
    np.save(path, drawn((5, 4), 0, "f2"))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert np.array_equal(load_centroids(path, sha256.upper()).vectors, drawn((5, 4), 0, "f2"))
    with pytest.raises(InputError, match=f"c.npy has the SHA-256 {sha256}, not {'0' * 64}"):
        load_centroids(path, "0" * 64)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as refused:
        load_centroids(path)
    return str(refused.value)


def test_what_holds_no_centroids_is_refused_in_a_line(tmp_path: Path):
    path = tmp_path / "c.npy"
    assert refusal(path) == f"{path} cannot be read: No such file or directory"
    path.write_bytes(b"")
    assert "is no .npy file of numbers" in refusal(path)
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    assert "docs/clusters.md says how to convert others" in refusal(path)
    np.save(path, np.arange(6).reshape(2, 3))
    assert "holds int64 of shape (2, 3)" in refusal(path)
    np.save(path, np.zeros(6, "f4"))
    assert "of shape (6,)" in refusal(path)
    np.save(path, np.array([[0, 1], [0, np.inf]], "f4"))
    assert "centroid 1 is not finite" in refusal(path)
    with path.open("wb") as file:
        np.savez(file, a=np.zeros((1, 2)))
    assert "is no .npy file" in refusal(path)


def test_reading_runs_no_code_of_a_pickle(tmp_path: Path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    np.save(tmp_path / "bomb.npy", np.array([Bomb()], object), allow_pickle=True)
    with pytest.raises(InputError):
        load_array(tmp_path / "bomb.npy")
    assert not (tmp_path / "ran").exists()
