"""`cah cluster`: the centroids of k-means in memory, however rows are stored and who works."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from cah_dask.curate.pools.opening import open_pool
from cah_dask.curate.pools.uids import hex_of
from cah_dask.curate.uid_hashes import is_drawn
from cah_dask.curate.vectors.centroids import load_centroids
from cah_dask.curate.vectors.kmeans import k_means
from cah_dask.errors import ConfigError, RunError
from cah_dask.keys import KEY
from cah_dask.run import pool_task
from cah_dask.run.clustering import centroid_tasks, outputs
from cah_dask.run.clustering.centroid_tasks import SAMPLE, ClusterOptions, n_ranges, range_of
from cah_dask.run.clustering.jobs import ClusterJob, array_of
from cah_dask.storage import read_part
from tests.curate.vectors.test_near_duplicates import with_copies
from tests.jobs_here import carry_out
from tests.run.clustering.pools import small_pool, write_pool

OPTIONS = ClusterOptions(vectors="b32/image", k=20, iterations=4, share=0.7, seed=3)


def job_of(pool: Path, scratch: Path, options: ClusterOptions = OPTIONS) -> ClusterJob:
    return ClusterJob(open_pool(pool), options, scratch)


def made(job: ClusterJob, to: Path, seed: int | None = None) -> outputs.ClusterManifest:
    units = carry_out(job, seed=seed)
    return outputs.write_centroids(job, units.counts[SAMPLE], to)


def test_it_makes_the_centroids_of_k_means_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(centroid_tasks, "RANGE_BYTES", 24 * 8 * 7)  # three ranges of clusters
    vectors, rows = with_copies(600)
    job = job_of(small_pool(tmp_path / "pool"), tmp_path / "s")
    assert job.ranges == 3
    manifest = made(job, tmp_path / "to")
    uids = rows[list(KEY.names or ())].astype(KEY)
    drawn = is_drawn(uids, 0.7, 3)
    centroids, course = k_means(vectors[drawn], uids[drawn], 20, iterations=4, seed=3)
    assert np.array_equal(load_centroids(tmp_path / "to/centroids.npy").vectors, centroids.vectors)
    assert manifest.objectives == pytest.approx(course, rel=1e-12)
    assert (manifest.counts.seen, manifest.counts.kept) == (600, drawn.sum())


def test_neither_files_nor_the_order_of_work_change_a_byte(tmp_path: Path):
    found = set()
    for number, cuts in enumerate([(), (1, 599), (150, 150, 430)]):
        pool = small_pool(tmp_path / f"pool{number}", cuts=cuts)
        made(job_of(pool, tmp_path / f"s{number}"), tmp_path / f"to{number}", seed=number)
        found.add((tmp_path / f"to{number}/centroids.npy").read_bytes())
    assert len(found) == 1


@pytest.mark.parametrize("n_units", [2, 5, 9, 20])
def test_a_job_that_was_cut_off_goes_on_where_it_was(tmp_path: Path, n_units: int):
    pool = small_pool(tmp_path / "pool")
    whole = made(job_of(pool, tmp_path / "whole"), tmp_path / "to")
    carry_out(job_of(pool, tmp_path / "cut"), at_most=n_units)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cut/*/*/**/*.parquet")}
    assert len(before) == n_units
    again = made(job_of(pool, tmp_path / "cut"), tmp_path / "again")
    assert again == whole
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_the_largest_seed_draws_and_starts(tmp_path: Path):
    options = msgspec.structs.replace(OPTIONS, seed=2**63 - 1)
    job = job_of(small_pool(tmp_path / "pool"), tmp_path / "s", options)
    assert made(job, tmp_path / "to").options == options


def test_another_pool_or_options_are_another_job(tmp_path: Path):
    pool = small_pool(tmp_path / "pool")
    other = small_pool(tmp_path / "other", cuts=(3,))
    options = msgspec.structs.replace(OPTIONS, seed=4)
    jobs = [job_of(pool, tmp_path), job_of(other, tmp_path), job_of(pool, tmp_path, options)]
    assert len({job.name for job in jobs}) == 3


def test_a_pool_that_changes_meanwhile_ends_the_job(tmp_path: Path):
    folder = small_pool(tmp_path / "pool")
    job = job_of(folder, tmp_path / "s")
    carry_out(job, at_most=1)
    small_pool(folder / "0")  # its files sort before those that are there
    pool_task._pool.cache_clear()  # as in a worker that begins now
    with pytest.raises(RunError, match="has changed since the job began"):
        carry_out(job)


def test_each_row_of_a_sample_has_its_own_vector(tmp_path: Path):
    vectors, rows = with_copies(600)
    job = job_of(small_pool(tmp_path / "pool"), tmp_path / "s")
    carry_out(job, at_most=4)
    uids = [bytes.fromhex(uid) for uid in hex_of(rows)]
    by_uid = dict(zip(uids, vectors, strict=True))
    n_rows = 0
    for part in sorted(job.folder.path.glob("samples/*")):
        for row in read_part(part).to_pylist():
            assert by_uid[row["uid"]].tobytes() == row["vector"]
            n_rows += 1
    assert n_rows > 300


def test_files_may_hold_vectors_of_either_precision(tmp_path: Path):
    pool = small_pool(tmp_path / "pool")
    made(job_of(pool, tmp_path / "s"), tmp_path / "to")
    with np.load(pool / "02.npz") as stored:
        vectors = stored["b32_img"].astype("f4")
    np.savez(pool / "02.npz", b32_img=vectors)
    made(job_of(pool, tmp_path / "again"), tmp_path / "too")
    centroids = [(tmp_path / to / "centroids.npy").read_bytes() for to in ("to", "too")]
    assert centroids[0] == centroids[1]


def test_a_vector_that_is_not_finite_ends_the_job_in_a_line(tmp_path: Path):
    vectors, rows = with_copies(300)
    vectors[207, 5] = np.nan
    pool = write_pool(tmp_path / "pool", vectors, rows, (200,))
    with pytest.raises(RunError, match=r"^01.parquet: vector b32/image of row 7 is not finite$"):
        carry_out(job_of(pool, tmp_path / "s"))


def test_fewer_rows_than_clusters_are_refused(tmp_path: Path):
    pool = small_pool(tmp_path / "pool", 30, (10,))
    with pytest.raises(ConfigError, match="has 30 rows, too few for 31 clusters"):
        job_of(pool, tmp_path, msgspec.structs.replace(OPTIONS, k=31))
    with pytest.raises(RunError, match=r"^\d+ rows are drawn, too few for 30 clusters"):
        carry_out(job_of(pool, tmp_path / "s", msgspec.structs.replace(OPTIONS, k=30)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "`int` >= 1"),
        ({"share": 0.0}, "> 0"),
        ({"seed": -1}, "`int` >= 0"),
        ({"seed": 2**63}, "seed"),
        ({"vectors": "l14/image"}, "b32/image"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, change: dict[str, object], message: str
):
    with pytest.raises(ConfigError, match=message):
        job_of(small_pool(tmp_path / "p"), tmp_path, msgspec.structs.replace(OPTIONS, **change))


def test_the_only_vectors_of_images_need_not_be_named(tmp_path: Path):
    assert array_of(open_pool(small_pool(tmp_path / "pool")), "") == "b32/image"


@pytest.mark.parametrize(("k", "ranges"), [(1, 1), (5, 5), (7, 3), (100, 9)])
def test_ranges_hold_each_cluster_once(k: int, ranges: int):
    found = [cluster for number in range(ranges) for cluster in range_of(number, k, ranges)]
    assert found == list(range(k))


def test_a_range_of_clusters_fits_into_memory():
    assert n_ranges(1000, 512) == 1
    assert n_ranges(100_000, 768) == 10
    assert n_ranges(2, 2**30) == 2


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path):
    job = job_of(small_pool(tmp_path / "pool"), tmp_path / "s")
    to = tmp_path / "to"

    def is_written(options: ClusterOptions = OPTIONS) -> bool:
        fingerprint = job.pool.fingerprint
        return outputs.is_written(to, fingerprint, options, outputs.ClusterManifest)

    assert not is_written()
    made(job, to)
    assert is_written()
    with pytest.raises(ConfigError, match="set --to to another path"):
        is_written(msgspec.structs.replace(OPTIONS, k=9))
    (to / "centroids.npy").write_bytes(b"cut")
    with pytest.raises(ConfigError, match="set --to to another path"):
        is_written()
