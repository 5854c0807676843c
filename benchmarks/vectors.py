"""CPU seconds of what is done with the vectors of a pool, beside the bare matrix products.

Synthetic vectors: normally distributed in 64 directions of falling weight around a mean, so there
are no gaps between clusters; a tenth are copies of others, changed in any direction so much that
their cosines lie evenly between 0.9 and 1. Everything runs on one thread, faiss
too, if it is there. Ratios are those of one run, medians of several.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/vectors.py --rows 100000
"""

import argparse
import importlib
import importlib.util
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cah_dask.curate.pools.opening import open_pool
from cah_dask.curate.pools.uids import hex_of
from cah_dask.curate.vectors.centroids import (
    BLOCK_CENTROIDS,
    BLOCK_ROWS,
    Centroids,
    centroids_of,
    nearest_centroid,
)
from cah_dask.curate.vectors.kmeans import cluster_sums, k_means, next_centroids
from cah_dask.keys import from_digests
from cah_dask.run.clustering.duplicate_clusters import SETTLE, NearDuplicateOptions
from cah_dask.run.clustering.jobs import NearDuplicateJob
from cah_dask.run.clustering.outputs import write_near_duplicates
from cah_dask.run.jobs import JobWork
from cah_dask.run.task import Done, run_task
from cah_dask.storage import file_sha256

DIM = 512
DIRECTIONS = 64
MEAN = 1.5
"""Of each number: makes the cosine of two vectors about 0.3 on average."""
FILES = 4
BOUND = 0.96


class NobodyLooks:
    """A view that shows nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def vectors_of(n: int, seed: int = 0) -> np.ndarray:
    """Draw vectors, float16."""
    generator = np.random.default_rng(seed)
    spread = np.random.default_rng(7).normal(size=(DIRECTIONS, DIM)).astype("f4")
    spread *= 1 / np.sqrt(1 + np.arange(DIRECTIONS, dtype="f4"))[:, None]
    found = np.empty((n, DIM), "f2")
    for start in range(0, n, 1 << 14):
        size = min(1 << 14, n - start)
        part = generator.normal(size=(size, DIRECTIONS)).astype("f4") @ spread + MEAN
        found[start : start + size] = part / np.linalg.norm(part, axis=1, keepdims=True)
    copies = np.flatnonzero(generator.random(n) < 0.1)
    sources = found[generator.integers(0, n, len(copies))].astype("f4")
    cosines = generator.uniform(0.9, 1, (len(copies), 1)).astype("f4")
    noise = generator.normal(size=sources.shape).astype("f4")
    noise -= np.sum(noise * sources, axis=1, keepdims=True) * sources
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    found[copies] = cosines * sources + np.sqrt(1 - cosines**2) * noise
    return found


def seconds(*tasks: Callable[[], object], times: int = 3) -> list[float]:
    """Return CPU seconds of each task, in turn, the medians."""
    taken: list[list[float]] = [[] for _ in tasks]
    for _, (number, task) in itertools.product(range(times), enumerate(tasks)):
        began = time.process_time()
        task()
        taken[number].append(time.process_time() - began)
    return [statistics.median(each) for each in taken]


def bare(vectors: np.ndarray, centroids: Centroids) -> None:
    """Do nothing but the products, block by block into the same memory."""
    out = np.empty(BLOCK_ROWS * BLOCK_CENTROIDS, "f4")
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = vectors[start : start + BLOCK_ROWS].astype("f4")
        for first in range(0, len(centroids), BLOCK_CENTROIDS):
            some = centroids.vectors[first : first + BLOCK_CENTROIDS]
            shape = len(block), len(some)
            np.matmul(block, some.T, out=out[: shape[0] * shape[1]].reshape(shape))


def nearest(vectors: np.ndarray, sizes: list[int]) -> None:
    """Compare the nearest centroid with its products."""
    for k in sizes:
        some = vectors[: max(2 * BLOCK_ROWS, min(len(vectors), 50_000_000 // k))]
        centroids = centroids_of(vectors_of(k, seed=1))
        product, whole = seconds(
            partial(bare, some, centroids), partial(nearest_centroid, some, centroids)
        )
        million = 1e6 / len(some)
        print(
            f"nearest of {k:,} centroids: {whole * million:.1f} CPU s/M, product "
            f"{product * million:.1f}, ratio {whole / product:.2f}"
        )


def iterate(vectors: np.ndarray, centroids: Centroids) -> None:
    """Do an iteration of k-means."""
    total = cluster_sums([vectors], centroids)
    next_centroids(range(len(centroids)), total, total.counts, centroids)


PEER_ITERATIONS = 4


def iterate_peer(vectors: np.ndarray, k: int) -> None:
    """Do some iterations by faiss."""
    faiss = importlib.import_module("faiss")
    peer = faiss.Clustering(DIM, k)
    peer.niter, peer.max_points_per_centroid, peer.min_points_per_centroid = (
        PEER_ITERATIONS,
        10**9,
        1,
    )
    peer.train(vectors.astype("f4"), faiss.IndexFlatL2(DIM))


def iterations(vectors: np.ndarray, sizes: list[int]) -> None:
    """Compare an iteration of k-means with its products and with one of faiss."""
    has_peer = importlib.util.find_spec("faiss") is not None
    for k in sizes:
        some = vectors[: max(2 * k, min(len(vectors), 100_000_000 // k))]
        centroids = centroids_of(some[:k])
        tasks = [partial(bare, some, centroids), partial(iterate, some, centroids)]
        product, whole, *theirs = seconds(*tasks, *[partial(iterate_peer, some, k)] * has_peer)
        million = 1e6 / len(some)
        peer = "".join(f"; faiss {each / PEER_ITERATIONS * million:.1f}" for each in theirs)
        print(
            f"k-means, k {k:,}: {whole * million:.1f} CPU s/M an iteration, product "
            f"{product * million:.1f}, ratio {whole / product:.2f}{peer}"
        )


def write_pool(folder: Path, vectors: np.ndarray) -> None:
    """Write vectors as DataComp's metadata."""
    generator = np.random.default_rng(0)
    for number, some in enumerate(np.array_split(np.arange(len(vectors)), FILES)):
        table = {
            "uid": hex_of(from_digests(generator.bytes(16 * len(some)))),
            "clip_b32_similarity_score": generator.random(len(some), np.float32),
        }
        pq.write_table(pa.table(table), folder / f"{number}.parquet")
        np.savez(folder / f"{number}.npz", b32_img=vectors[some])


def near_duplicates(folder: Path, k: int, neighbours: int) -> tuple[float, set[bytes]]:
    """Do the job; return its CPU seconds and the uids that go."""
    file = folder / f"{k}.npy" if k else None
    options = NearDuplicateOptions(
        vectors="b32/image",
        bound=BOUND,
        by="similarity_b32",
        neighbours=neighbours,
        centroids=file_sha256(file) if file else "",
    )
    job = NearDuplicateJob(open_pool(folder / "pool"), options, folder / "scratch", file)
    began = time.process_time()
    with job.folder.held():
        work = JobWork(job, NobodyLooks())
        units = work.units
        while (unit := units.take(units.stages)) is not None:
            done = run_task(work.task(unit, is_last_attempt=True), "here")
            if not isinstance(done, Done):
                raise RuntimeError(done.message)
            work.done(unit, done)
    taken = time.process_time() - began
    to = folder / f"to-{k}-{neighbours}"
    write_near_duplicates(job, units.counts[SETTLE], to)
    return taken, {uid.tobytes() for uid in np.load(to / "uids.npy")}


def compare_near_duplicates(vectors: np.ndarray, folder: Path) -> None:
    """Measure what fewer comparisons cost and miss."""
    million = 1e6 / len(vectors)
    (folder / "pool").mkdir()
    write_pool(folder / "pool", vectors)
    taken, exact = near_duplicates(folder, 0, 0)
    print(f"near duplicates, all pairs: {taken * million:.0f} CPU s/M, {len(exact):,} go")
    uids = from_digests(np.random.default_rng(1).bytes(16 * len(vectors)))
    for k, neighbours in itertools.product(
        (len(vectors) // 400, len(vectors) // 100), (0, 4, 16, 64)
    ):
        file = folder / f"{k}.npy"
        if not file.exists():
            np.save(file, k_means(vectors, uids, k, iterations=6)[0].vectors)
        taken, found = near_duplicates(folder, k, neighbours)
        print(
            f"near duplicates, {k:,} clusters, {neighbours} neighbours: {taken * million:.0f} "
            f"CPU s/M, recall {len(found & exact) / len(exact):.4f}, {len(found - exact)} others"
        )


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=30_000)
    rows = parser.parse_args().rows
    if {os.environ.get(f"{name}_NUM_THREADS") for name in ("OPENBLAS", "OMP")} != {"1"}:
        parser.error("set OPENBLAS_NUM_THREADS=1 and OMP_NUM_THREADS=1")
    vectors = vectors_of(rows)
    nearest(vectors, [64, 1000, 10_000, 100_000])
    iterations(vectors, [1000, 4000])
    with tempfile.TemporaryDirectory() as folder:
        compare_near_duplicates(vectors, Path(folder))


if __name__ == "__main__":
    main()
