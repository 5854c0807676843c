"""The job of `cah join`, unit by unit in this process."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cah_dask.curate.care.tables import Tables
from cah_dask.errors import RunError
from cah_dask.release.manifest import read_manifest
from cah_dask.run.care.join import JoinJob
from cah_dask.run.care.join_tasks import READ
from cah_dask.run.unit import Unit
from tests import jobs_here, releases

ROWS = 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of twenty pairs."""
    return releases.make(tmp_path_factory.mktemp("join"), range(ROWS))


def write(release: Path, path: Path, numbers: range) -> None:
    """Write a table with the square of each pair's number."""
    uids = releases.rows(release)["uid"].to_pylist()
    path.parent.mkdir(parents=True)
    columns = {"uid": [uids[n] for n in numbers], "square": [n * n for n in numbers]}
    pq.write_table(pa.table(columns), path)


def job_of(release: Path, table: Path, to: Path) -> JoinJob:
    return JoinJob(release, Tables(table, "uid", {"square": "square"}), to, to.with_name("scratch"))


def test_files_of_equal_names_are_told_apart(whole: Path, tmp_path: Path):
    write(whole, tmp_path / "table" / "a" / "x.parquet", range(5))
    write(whole, tmp_path / "table" / "b" / "x.parquet", range(9, ROWS))
    jobs_here.carry_out(job_of(whole, tmp_path / "table", tmp_path / "new"))
    manifest = read_manifest(tmp_path / "new")
    assert manifest is not None
    assert sorted(manifest.steps[-1].rule["files"]) == ["a/x.parquet", "b/x.parquet"]
    squares = releases.rows(tmp_path / "new")["square"].to_pylist()
    assert squares == [n * n if n < 5 or n >= 9 else None for n in range(ROWS)]
    write(whole, tmp_path / "table" / "c" / "x.parquet", range(9, 10))
    with pytest.raises(RunError, match=r"row 1 of b/x\.parquet and row 1 of c/x\.parquet have the"):
        jobs_here.carry_out(job_of(whole, tmp_path / "table", tmp_path / "other"))


@pytest.mark.parametrize(
    ("rows", "n_bytes", "expected"), [(100, 10**6, 1), (6, 10**6, 3), (100, 50, 3)]
)
def test_batches_are_gathered_before_they_are_cut(
    whole: Path, tmp_path: Path, monkeypatch, rows: int, n_bytes: int, expected: int
):
    monkeypatch.setattr("cah_dask.curate.care.tables.BATCH_ROWS", 4)
    monkeypatch.setattr("cah_dask.run.care.join_tasks.GATHERED_ROWS", rows)
    monkeypatch.setattr("cah_dask.run.care.join_tasks.GATHERED_BYTES", n_bytes)
    monkeypatch.setattr("cah_dask.run.care.join.ROWS_PER_RANGE", ROWS // 4)
    write(whole, tmp_path / "table" / "x.parquet", range(ROWS))
    job = job_of(whole, tmp_path / "table", tmp_path / "new")
    assert job.ranges == 4
    jobs_here.carry_out(job)
    part = job.folder.path / Unit(READ, number=0).part
    assert pq.read_metadata(part).num_row_groups == 4 * expected
    assert releases.rows(tmp_path / "new")["square"].to_pylist() == [n * n for n in range(ROWS)]
