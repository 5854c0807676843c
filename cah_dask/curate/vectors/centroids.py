"""The nearest of many centroids, the same one whatever computes the products.

A matrix product in float32 is only exact to the order of its sums, which depends on the library,
the number of threads and the shape of the blocks. So what it cannot tell apart is computed again in
float64. What counts is the product rounded to float32; of equal ones the lowest index.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cah_dask.errors import InputError
from cah_dask.storage import file_sha256

Vectors: TypeAlias = npt.NDArray[np.floating]
"""``(n, dim)``, float16 or float32."""
Float32s: TypeAlias = npt.NDArray[np.float32]
Float64s: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]

BLOCK_ROWS = 1024
BLOCK_CENTROIDS = 4096
"""A block of products takes 16 MB."""

UNIT = 2.0**-24
"""Most that rounding to float32 changes a number, as a share of it."""


@dataclass(frozen=True)
class Centroids:
    """Centroids ``(k, dim)``, float32 and finite, of any length; see `centroids_of`."""

    vectors: Float32s

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        """Length of each."""
        return int(self.vectors.shape[1])

    @cached_property
    def half_squares(self) -> Float64s:
        """Half of the square of the norm of each."""
        squares: Float64s = np.einsum("kd,kd->k", self.vectors, self.vectors, dtype=np.float64)
        return squares / 2

    @cached_property
    def largest_norm(self) -> float:
        """Norm of the longest one."""
        return float(np.sqrt(2 * self.half_squares.max()))


def centroids_of(array: npt.NDArray[np.generic], name: str = "centroids") -> Centroids:
    """Return an array as centroids.

    Raises
    ------
    InputError
        If it is no array of finite vectors; `name` says which in the message.
    """
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind != "f":
        raise InputError(
            f"{name} holds {array.dtype} of shape {array.shape}; centroids are floating-point "
            "numbers of shape (k, dim)"
        )
    vectors = np.ascontiguousarray(array, np.float32)
    if not (is_finite := np.isfinite(vectors).all(axis=1)).all():
        raise InputError(f"{name}: centroid {int(is_finite.argmin())} is not finite")
    return Centroids(vectors)


def load_centroids(path: Path, sha256: str = "") -> Centroids:
    """Read centroids from a ``.npy`` file, of a known checksum if one is given.

    Raises
    ------
    InputError
        If it is not there, another file, or holds no centroids.
    """
    return centroids_of(load_array(path, sha256), str(path))


def load_array(path: Path, sha256: str = "") -> npt.NDArray[np.generic]:
    """Read a ``.npy`` file; one that would run code (a pickle) is refused.

    Raises
    ------
    InputError
        If it is not there, another file than that of the checksum, or no array.
    """
    try:
        found = file_sha256(path)
        if sha256 and found != sha256.lower():
            raise InputError(f"{path} has the SHA-256 {found}, not {sha256.lower()}")
        with path.open("rb") as file:
            array: npt.NDArray[np.generic] = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise InputError(
            f"{path} is no .npy file of numbers; docs/clusters.md says how to convert others"
        ) from error
    return array


def nearest_centroid(vectors: Vectors, centroids: Centroids) -> Index:
    """Return the index of the centroid with the largest inner product with each vector.

    Neither vectors nor centroids are normalised, so it is not always the one at the least distance.

    Parameters
    ----------
    vectors
        ``(n, dim)``, any number of them: memory is bounded by blocks.

    Raises
    ------
    InputError
        If they are of another length than the centroids, or not finite.

    Notes
    -----
    The rule of DataComp's image_based filter (``baselines/apply_filter.py``), which takes whatever
    the rounding of its GPU makes the largest.
    """
    return _argmax(vectors, centroids, np.zeros(len(centroids)))


def closest_centroid(vectors: Vectors, centroids: Centroids) -> Index:
    """Return the index of the centroid at the least distance (L2); see `nearest_centroid`."""
    return _argmax(vectors, centroids, centroids.half_squares)


def is_near(vectors: Vectors, centroids: Centroids, targets: Index) -> Mask:
    """Tell of each vector whether its nearest centroid is a target; see `nearest_centroid`.

    Parameters
    ----------
    targets
        Indices of centroids, in any order.

    Raises
    ------
    InputError
        If a target is none of the centroids, also as `nearest_centroid` does.
    """
    if targets.ndim != 1 or targets.dtype.kind not in "iu":
        raise InputError(
            f"targets hold {targets.dtype} of shape {targets.shape}, not a list of indices"
        )
    if len(targets) and not 0 <= targets.min() <= targets.max() < len(centroids):
        raise InputError(
            f"targets reach from {targets.min()} to {targets.max()}, centroids from 0 to "
            f"{len(centroids) - 1}"
        )
    is_target = np.zeros(len(centroids), bool)
    is_target[targets] = True
    found: Mask = is_target[nearest_centroid(vectors, centroids)]
    return found


def targets_of(examples: Iterable[Vectors], centroids: Centroids) -> Index:
    """Return the centroids that are nearest to any of some examples, ascending, each once."""
    is_target = np.zeros(len(centroids), bool)
    for vectors in examples:
        is_target[nearest_centroid(vectors, centroids)] = True
    return np.flatnonzero(is_target)


def norms(vectors: Float32s) -> Float64s:
    """Return the norm of each vector; what is not finite stays so."""
    squares: Float32s = np.einsum("nd,nd->n", vectors, vectors)
    return np.sqrt(squares, dtype=np.float64)


def require_vectors(vectors: Vectors, dim: int) -> None:
    """Raise InputError unless vectors are ``(n, dim)`` floating-point numbers."""
    if vectors.ndim != 2 or vectors.shape[1] != dim or vectors.dtype.kind != "f":
        raise InputError(
            f"vectors are {vectors.dtype} of shape {vectors.shape}, those of the centroids have "
            f"the length {dim}"
        )


def _argmax(vectors: Vectors, centroids: Centroids, less: Float64s) -> Index:
    """Return the index of the largest product, less a number for each centroid."""
    require_vectors(vectors, centroids.dim)
    found = np.empty(len(vectors), np.int64)
    is_close = np.empty(len(vectors), bool)
    scores = np.empty(BLOCK_ROWS * min(BLOCK_CENTROIDS, len(centroids)), np.float32)
    less32 = less.astype(np.float32) if less.any() else None
    # of each of two products by the order of its sums, and by its own rounding
    slack = 2 * (centroids.dim + 4) * UNIT * centroids.largest_norm
    for start in range(0, len(vectors), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        block = vectors[rows].astype(np.float32)
        length = norms(block)
        if not (is_finite := np.isfinite(length)).all():
            raise InputError(f"vector {start + int(is_finite.argmin())} is not finite")
        found[rows], lead = _best(block, centroids, less32, scores)
        reach = length if less32 is None else length + centroids.largest_norm
        is_close[rows] = lead <= slack * reach
    again = np.flatnonzero(is_close)
    for start in range(0, len(again), BLOCK_ROWS):
        rows_again = again[start : start + BLOCK_ROWS]
        found[rows_again] = _exact(vectors[rows_again], centroids, less)
    return found


def _best(
    block: Float32s, centroids: Centroids, less: Float32s | None, buffer: Float32s
) -> tuple[Index, Float32s]:
    """Return where the largest product of each row is, and by how much it leads."""
    n = len(block)
    every = np.arange(n)
    at = np.zeros(n, np.int64)
    best, second = np.full((2, n), -np.inf, np.float32)
    for first in range(0, len(centroids), BLOCK_CENTROIDS):
        part = slice(first, first + BLOCK_CENTROIDS)
        factors = centroids.vectors[part]
        scores = buffer[: n * len(factors)].reshape(n, len(factors))
        np.matmul(block, factors.T, out=scores)
        if less is not None:
            scores -= less[part]
        here = scores.argmax(axis=1)
        top = scores[every, here]
        scores[every, here] = -np.inf
        is_more = top > best
        second = np.maximum(np.maximum(second, scores.max(axis=1)), np.minimum(best, top))
        at[is_more] = first + here[is_more]
        best = np.maximum(best, top)
    return at, best - second


def _exact(vectors: Vectors, centroids: Centroids, less: Float64s) -> Index:
    """Return the same as `_argmax`, all of it in float64."""
    block = vectors.astype(np.float64)
    at = np.zeros(len(block), np.int64)
    best = np.full(len(block), -np.inf, np.float32)
    for first in range(0, len(centroids), BLOCK_CENTROIDS):
        part = slice(first, first + BLOCK_CENTROIDS)
        products = block @ centroids.vectors[part].astype(np.float64).T - less[part]
        scores = products.astype(np.float32)
        here = scores.argmax(axis=1)
        top = scores[np.arange(len(block)), here]
        is_more = top > best
        at[is_more] = first + here[is_more]
        best = np.maximum(best, top)
    return at
