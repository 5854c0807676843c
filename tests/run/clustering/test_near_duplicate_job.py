"""`cah near-duplicates`: who goes is what the rule says, however rows are stored and who works."""

import hashlib
import os
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from cah_dask.curate.pools.opening import open_pool
from cah_dask.curate.pools.uids import hex_of
from cah_dask.curate.vectors.kmeans import k_means
from cah_dask.errors import ConfigError, InputError, RunError
from cah_dask.keys import KEY
from cah_dask.run.clustering import duplicate_clusters, duplicate_tasks, jobs, outputs
from cah_dask.run.clustering.duplicate_clusters import SETTLE, NearDuplicateOptions
from cah_dask.run.clustering.jobs import NearDuplicateJob
from cah_dask.storage import file_sha256
from tests.curate.vectors.test_near_duplicates import plain, ranked, with_copies
from tests.jobs_here import carry_out
from tests.run.clustering.pools import small_pool, write_pool

EXACT = NearDuplicateOptions(vectors="b32/image", bound=0.96, by="similarity_b32", neighbours=0)


def centroids_in(folder: Path, k: int = 12) -> Path:
    vectors, rows = with_copies(600)
    centroids, _ = k_means(vectors, rows[list(KEY.names or ())].astype(KEY), k, iterations=3)
    np.save(folder / "c.npy", centroids.vectors)
    return folder / "c.npy"


def job_of(
    pool: Path, scratch: Path, options: NearDuplicateOptions = EXACT, centroids: Path | None = None
) -> NearDuplicateJob:
    if centroids is not None:
        options = msgspec.structs.replace(options, neighbours=11, centroids=file_sha256(centroids))
    return NearDuplicateJob(open_pool(pool), options, scratch, centroids)


def made(job: NearDuplicateJob, to: Path, seed: int | None = None) -> dict[str, tuple[str, float]]:
    """Return the uids that go, each with the one that stays and the cosine."""
    units = carry_out(job, seed=seed)
    outputs.write_near_duplicates(job, units.counts[SETTLE], to)
    table = pq.read_table(to / "near-duplicates.parquet")
    uids, stays, cosines = (column.to_pylist() for column in table.columns)
    assert uids == hex_of(np.load(to / "uids.npy")) == sorted(set(uids))
    return dict(zip(uids, zip(stays, cosines, strict=True), strict=True))


def expected(vectors: np.ndarray, rows: np.ndarray) -> dict[str, tuple[str, float]]:
    names = hex_of(rows)
    return {
        names[row]: (names[stays], cosine)
        for row, (stays, cosine) in plain(vectors, rows, 0.96).items()
    }


def test_without_centroids_the_rows_go_that_the_rule_says(tmp_path: Path):
    vectors, rows = with_copies(600)
    copies = len(vectors) - len(np.unique(vectors, axis=0))
    found = made(job_of(small_pool(tmp_path / "pool"), tmp_path / "s"), tmp_path / "to")
    assert found == expected(vectors, rows)
    assert len(found) > copies > 10


def test_neither_files_nor_the_order_of_work_change_a_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    centroids, found = centroids_in(tmp_path), set()
    for number, cuts in enumerate([(), (1, 599), (150, 150, 430)]):
        monkeypatch.setattr(duplicate_tasks, "ASSIGNED_ROWS", 90 + 100 * number)
        monkeypatch.setattr(jobs, "ROWS_PER_RANGE", 600 if number else 130)
        job = job_of(
            small_pool(tmp_path / f"pool{number}", cuts=cuts),
            tmp_path / f"s{number}",
            centroids=centroids,
        )
        assert job.ranges == (1 if number else 5)
        gone = made(job, tmp_path / f"to{number}", seed=number)
        found.add((tmp_path / f"to{number}/near-duplicates.parquet").read_bytes())
    assert len(found) == 1
    assert gone.keys() == expected(*with_copies(600)).keys()


@pytest.mark.parametrize("n_units", [1, 5, 7, 10, 13])
def test_a_job_that_was_cut_off_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_units: int
):
    monkeypatch.setattr(jobs, "ROWS_PER_RANGE", 300)
    pool, centroids = small_pool(tmp_path / "pool"), centroids_in(tmp_path)
    whole = made(job_of(pool, tmp_path / "whole", centroids=centroids), tmp_path / "to")
    carry_out(job_of(pool, tmp_path / "cut", centroids=centroids), at_most=n_units)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cut/*/*/**/*.parquet")}
    assert len(before) == n_units
    assert made(job_of(pool, tmp_path / "cut", centroids=centroids), tmp_path / "again") == whole
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    hashes = [
        hashlib.sha256((tmp_path / folder / "manifest.json").read_bytes()).digest()
        for folder in ("to", "again")
    ]
    assert hashes[0] == hashes[1]


def test_results_that_were_cut_off_are_written_anew(tmp_path: Path):
    job = job_of(small_pool(tmp_path / "pool"), tmp_path / "s")
    whole, to = made(job, tmp_path / "whole"), tmp_path / "to"
    with pytest.raises(TypeError):
        outputs.write_near_duplicates(job, object(), to)  # type: ignore[arg-type]  # no manifest
    left = tmp_path / "to.partial"
    assert (left / "uids.npy").exists()
    (left / "mine").mkdir()
    with pytest.raises(RunError, match=r"to\.partial is in the way and no result; move"):
        made(job, to)
    (left / "mine").replace(tmp_path / "mine")
    (left / "centroids.npy").write_bytes(b"of an older attempt")
    kind = outputs.NearDuplicateManifest
    assert not outputs.is_written(to, job.pool.fingerprint, EXACT, kind)
    to.mkdir()
    assert made(job, to) == whole
    assert outputs.is_written(to, job.pool.fingerprint, EXACT, kind)
    assert len(list(to.iterdir())) == 3
    assert not left.exists()


def test_the_list_of_rows_that_go_is_written_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(duplicate_tasks, "GROUP_ROWS", 20)
    found = made(job_of(small_pool(tmp_path / "pool"), tmp_path / "s"), tmp_path / "to")
    assert found == expected(*with_copies(600))
    groups = pq.ParquetFile(tmp_path / "to/near-duplicates.parquet").metadata
    assert groups.num_row_groups == -(-len(found) // 20) > 2


def test_the_number_of_ranges_does_not_add_to_the_files_that_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(jobs, "ROWS_PER_RANGE", 50)
    monkeypatch.setattr(duplicate_clusters, "OPEN_PARTS", 3)
    centroids = centroids_in(tmp_path)
    job = job_of(small_pool(tmp_path / "pool"), tmp_path / "s", centroids=centroids)
    assert job.ranges == 12
    assert made(job, tmp_path / "to").keys() == expected(*with_copies(600)).keys()
    unit = job.steps[-1][0]
    with duplicate_clusters.Clusters(job.task_of(unit, is_last_attempt=True), 1) as clusters:
        for number in range(12):
            clusters.gathered(number)
            clusters.fates(number)
            assert n_open(job.folder.path) <= 3
        assert n_open(job.folder.path) == 3
    assert n_open(job.folder.path) == 0


def n_open(folder: Path) -> int:
    """Return how many files within a folder this process has open."""
    found = (os.path.realpath(handle) for handle in Path("/proc/self/fd").iterdir())
    return sum(path.startswith(f"{folder.resolve()}/") for path in found)


def test_files_may_hold_vectors_of_either_precision(tmp_path: Path):
    pool = small_pool(tmp_path / "pool")
    with np.load(pool / "02.npz") as stored:
        vectors = stored["b32_img"].astype("f4")
    np.savez(pool / "02.npz", b32_img=vectors)
    assert made(job_of(pool, tmp_path / "s"), tmp_path / "to") == expected(*with_copies(600))


def test_a_uid_does_not_go_because_of_itself(tmp_path: Path):
    vectors, rows = with_copies(200)
    twice = np.concatenate([np.arange(200), np.arange(200)])
    again = rows[twice].copy()
    again["place"] = np.arange(400)
    pool = write_pool(tmp_path / "pool", vectors[twice], again, (250,))
    assert made(job_of(pool, tmp_path / "s"), tmp_path / "to") == expected(vectors, rows)


def test_a_uid_of_which_a_row_stays_does_not_go(tmp_path: Path):
    # of uids B, A, B, C: the second and third are one vector, close to the first; so is the last
    vectors = np.tile(np.eye(24, dtype="f4")[0], (4, 1))
    vectors[1:3, 1], vectors[3, 2] = 0.1, 0.1
    rows = ranked(4, [0.9, 0.8, 0.7, 0.6])
    rows[["f0", "f1"]][2] = rows[["f0", "f1"]][0]
    job = job_of(write_pool(tmp_path / "pool", vectors, rows, (2,)), tmp_path / "s")
    found = made(job, tmp_path / "to")
    staying, first, _, last = hex_of(rows)
    assert found.keys() == {first, last}
    assert {stays for stays, _ in found.values()} == {staying}
    counts = msgspec.json.decode((tmp_path / "to/manifest.json").read_bytes())["counts"]
    assert (counts["seen"], counts["kept"]) == (4, 2)


def test_without_a_column_the_lower_uid_stays(tmp_path: Path):
    options = msgspec.structs.replace(EXACT, by="")
    found = made(job_of(small_pool(tmp_path / "pool"), tmp_path / "s", options), tmp_path / "to")
    assert found
    assert all(stays < uid for uid, (stays, _) in found.items())


def test_a_pool_without_near_duplicates_leaves_an_empty_list(tmp_path: Path):
    options = msgspec.structs.replace(EXACT, bound=1.0)
    pool = write_pool(tmp_path / "pool", np.eye(24, dtype="f4"), with_copies(24)[1])
    assert made(job_of(pool, tmp_path / "s", options), tmp_path / "to") == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bound": 1.5}, "`float` <= 1.0"),
        ({"bound": -0.1}, "`float` > 0.0"),
        ({"by": "quality"}, "has no column quality, which --by names; it has uid"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, change: dict[str, object], message: str
):
    with pytest.raises(ConfigError, match=message):
        job_of(small_pool(tmp_path / "p"), tmp_path, msgspec.structs.replace(EXACT, **change))


def test_centroids_of_another_length_are_refused(tmp_path: Path):
    np.save(tmp_path / "c.npy", np.eye(7))
    with pytest.raises(ConfigError, match=r"centroids of length 7, b32/image of .* of length 24"):
        job_of(small_pool(tmp_path / "pool"), tmp_path / "s", centroids=tmp_path / "c.npy")


def test_centroids_are_those_of_their_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jobs, "ROWS_PER_RANGE", 50)
    pool, centroids = small_pool(tmp_path / "pool"), centroids_in(tmp_path)
    job = job_of(pool, tmp_path / "s", centroids=centroids)
    np.save(centroids, np.eye(24, dtype="f4")[:5])
    assert job.ranges == 12
    with pytest.raises(InputError, match=r"c.npy has the SHA-256 \w+, not \w+$"):
        NearDuplicateJob(open_pool(pool), job.options, tmp_path / "s", centroids)


def test_large_pools_need_centroids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jobs, "MOST_EXACT_ROWS", 500)
    with pytest.raises(ConfigError, match=r"has 600 rows; more than 500 .* `cah cluster` makes"):
        job_of(small_pool(tmp_path / "pool"), tmp_path / "s")


def test_a_rank_that_is_no_number_ends_the_job_in_a_line(tmp_path: Path):
    vectors, rows = with_copies(50)
    rows["similarity"][9] = np.nan
    pool = write_pool(tmp_path / "pool", vectors, rows)
    message = r"^00.parquet: column similarity_b32 has empty cells or NaN, which are no ranks"
    with pytest.raises(RunError, match=message):
        carry_out(job_of(pool, tmp_path / "s"))
    options = msgspec.structs.replace(EXACT, by="url")
    with pytest.raises(RunError, match=r"column url holds string, which is no rank"):
        carry_out(job_of(pool, tmp_path / "s", options))


def test_a_zero_vector_ends_the_job_in_a_line(tmp_path: Path):
    vectors, rows = with_copies(50)
    vectors[30] = 0
    pool = write_pool(tmp_path / "pool", vectors, rows, (20,))
    with pytest.raises(RunError, match=r"^01.parquet: vector b32/image of row 10 is zero"):
        carry_out(job_of(pool, tmp_path / "s"))


def test_centroids_that_are_not_there_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"centroids.npy is not there; `cah cluster` makes it"):
        outputs.centroids_file(tmp_path)
