"""`cah import datacomp` as a user types it: the rows, bad input, kills, and what can follow."""

import hashlib
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import zarr

from cah_dask.errors import ConfigError, InputError
from cah_dask.release.layout import PackOptions, read_layout
from cah_dask.run.care.diff import COMPARE, DiffJob
from cah_dask.run.importing import LOOK, ImportJob
from tests import jobs_here, runs
from tests.commands import cah, start
from tests.curate.datacomp_folder import ZEROS, File, write_folder

FILES, ROWS = 4, 90
SIZES = PackOptions(rows_per_shard=128, rows_per_chunk=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Metadata in two subfolders, with uids that are there twice."""
    folder = tmp_path_factory.mktemp("metadata")
    write_folder(folder, files=FILES, rows=ROWS, parts=2)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[File]:
    """The same files as they were made, in the order of their paths."""
    copy = tmp_path_factory.mktemp("copy")
    return write_folder(copy, files=FILES, rows=ROWS, parts=2)


def import_here(folder: Path, to: Path, *, seed: int | None = None, **options: Any) -> ImportJob:
    """Do a job in this process, in parts of two shards and more."""
    job = ImportJob(folder, to, to.with_name("scratch"), sizes=SIZES, **options)
    jobs_here.carry_out(job, seed=seed)
    return job


def digests(release: Path) -> dict[str, str]:
    return {
        str(path.relative_to(release)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(release.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def imported(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("imported") / "pool"
    import_here(folder, to)
    return to


def test_a_release_has_all_rows_of_the_metadata_in_their_order(imported: Path, files: list[File]):
    layout = read_layout(imported)
    assert layout is not None
    assert (layout.rows, layout.shards) == (FILES * ROWS, 3)
    pairs = ds.dataset(imported / "pairs").to_table().sort_by("row")
    vectors = zarr.open_group(imported / "embeddings.zarr", mode="r")
    names = {"uid": "uid", "url": "url", "text": "text", "sha256": "sha256"}
    names |= {f"similarity_{name}": f"clip_{name}_similarity_score" for name in ("b32", "l14")}
    names |= {name: name for name in ("original_width", "original_height", "face_bboxes")}
    for ours, name in names.items():
        expected = [value for file in files for value in file.table[name].to_pylist()]
        assert pairs[ours].to_pylist() == expected, ours
    assert pairs["similarity"] == pairs["similarity_l14"]
    for encoder in ("b32", "l14"):
        for modality, short in (("image", "img"), ("text", "txt")):
            theirs = [file.vectors[f"{encoder}_{short}"] for file in files]
            found: Any = vectors[f"{encoder}/{modality}"]
            assert np.asarray(found[:]).tobytes() == np.concatenate(theirs).tobytes()
    archives = [str(file.path.relative_to(file.path.parents[1])) for file in files]
    assert list(dict.fromkeys(pairs["archive"].to_pylist())) == archives


def test_the_bytes_do_not_depend_on_workers_order_or_scratch(
    folder: Path, imported: Path, tmp_path: Path
):
    import_here(folder, tmp_path / "pool", seed=1)
    assert digests(tmp_path / "pool") == digests(imported)


def test_a_release_is_sound_though_uids_are_there_twice(imported: Path):
    uids = ds.dataset(imported / "pairs").to_table()["uid"].to_pylist()
    assert len(set(uids)) < len(uids)
    code, faults, said = cah("verify", str(imported))
    assert (code, faults) == (0, []), said
    assert f"sound: {FILES * ROWS} pairs" in said


def test_it_does_not_differ_from_itself_though_uids_are_there_twice(imported: Path, tmp_path: Path):
    job = DiffJob(imported, imported, tmp_path)
    counts = jobs_here.carry_out(job).counts[COMPARE]
    assert (counts.seen, counts.kept, counts.rejected) == (FILES * ROWS, FILES * ROWS, {})
    assert "face_bboxes" in job.columns


def test_verify_finds_a_row_that_is_not_that_of_its_vectors(imported: Path, tmp_path: Path):
    release = tmp_path / "pool"
    shutil.copytree(imported, release)
    shard = release / "embeddings.zarr/l14/text/c.1.0"
    data = bytearray(shard.read_bytes())
    data[100] ^= 0x40
    shard.write_bytes(data)
    code, faults, _ = cah("verify", str(release))
    assert code == 5
    assert "c.1.0 is damaged" in " ".join(faults)


def test_a_filter_gives_the_same_subset_of_both(folder: Path, imported: Path, tmp_path: Path):
    made = []
    for number, pool in enumerate((folder, imported)):
        to = tmp_path / f"{number}.npy"
        code, _, said = cah("filter", str(pool), "clip-score-fraction", "--to", str(to))
        assert code == 0, said
        made.append(to.read_bytes())
    assert len(made[0]) > 128 + 16
    assert made[0] == made[1]


def test_vectors_that_were_replaced_are_looked_at_though_their_size_is_the_same(tmp_path: Path):
    first, _ = write_folder(tmp_path / "metadata", files=2, rows=20)

    def job() -> ImportJob:
        return ImportJob(tmp_path / "metadata", tmp_path / "pool", tmp_path, leaves_out=True)

    before = job()
    jobs_here.carry_out(before, at_most=2)
    path = first.path.with_suffix(".npz")
    size = path.stat().st_size
    vectors: dict[str, Any] = dict(first.vectors)
    vectors["l14_txt"][5] = 0
    np.savez(path, **vectors)
    assert path.stat().st_size == size
    after = job()
    assert after.derivation.layout.config != before.derivation.layout.config
    assert jobs_here.carry_out(after).counts[LOOK].rejected == {"bad_vector": 1}


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_an_import_goes_on_where_it_was_stopped(folder: Path, tmp_path: Path, kind: signal.Signals):
    arguments = ["import", "datacomp", str(folder), "--to", str(tmp_path / "pool")]
    arguments += ["--set", "pools.cpu.workers=1"]
    first = start(*arguments)
    scratch = tmp_path / "pool.import"
    assert runs.wait_for(lambda: bool(list(scratch.glob("*/looked/*.parquet"))))
    first.send_signal(kind)
    first.communicate(timeout=60)
    assert not (tmp_path / "pool").exists()
    code, answer, said = cah(*arguments)
    assert code == 0, said
    assert answer == [f"{tmp_path / 'pool'}: written, {FILES * ROWS} rows"]
    assert not scratch.exists()
    code, answer, said = cah(*arguments)
    assert "whole, nothing was to be done" in answer[0], said
    assert [path.name for path in tmp_path.iterdir()] == ["pool"]
    import_here(folder, tmp_path / "other" / "pool")
    pairs = [ds.dataset(tmp_path / name / "pairs").to_table() for name in ("pool", "other/pool")]
    assert pairs[0] == pairs[1].sort_by("row")


def spoil(file: File, row: int, **cells: Any) -> None:
    rows = pq.read_table(file.path).to_pylist()
    rows[row] |= cells
    pq.write_table(pa.Table.from_pylist(rows, file.table.schema), file.path)


def test_bad_input_is_one_line_each_and_nothing_is_written_until_it_is_mended(tmp_path: Path):
    folder, to = tmp_path / "metadata", tmp_path / "pool"
    first, second, third = write_folder(folder, files=3, rows=50, given=[{"uid": ZEROS}])
    spoil(first, 3, text=None)
    spoil(first, 7, clip_b32_similarity_score=float("nan"))
    vectors = third.path.with_suffix(".npz")
    away = vectors.rename(tmp_path / "away.npz")
    (folder / f".{second.path.name}.crc").touch()
    arguments = ("import", "datacomp", str(folder), "--to", str(to))
    code, faults, said = cah(*arguments)
    assert code == 4
    assert faults == [
        f"{first.path}: 1 row with no text or no url, the first is row 3",
        f"{first.path}: 1 row with a similarity that is missing or NaN, the first is row 7",
        f"{vectors} is not there, which holds the vectors of its table",
    ]
    assert f"note: .{second.path.name}.crc is left out" in said
    assert f"error: {folder} is not imported, nothing was written: 3 faults" in said
    assert "Traceback" not in said
    assert not to.exists()
    assert not to.with_name("pool.partial").exists()
    away.rename(vectors)
    code, answer, said = cah(*arguments, "--leave-out")
    assert code == 0, said
    assert answer == [
        "left out: 1 row with a similarity that is missing or NaN",
        "left out: 1 row with no text or no url",
        f"{to}: written, 148 rows",
    ]
    assert "warning: 1 row with a uid that is not the md5 of text and url" in said
    code, faults, _ = cah("verify", str(to))
    assert code == 5
    (fault,) = faults
    assert fault.endswith("its uid is not the md5 of its text and url")
    pq.write_table(first.table, first.path)
    shutil.rmtree(to)
    code, answer, said = cah(*arguments)
    assert code == 0, said
    assert answer == [f"{to}: written, 150 rows"]


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("metadata/pool", "lies in .*, which is only read"),
        ("metadata", "which is only read; name a new folder"),
        ("there", "exists and is no derived release"),
    ],
)
def test_a_place_that_is_taken_is_refused(tmp_path: Path, to: str, message: str):
    write_folder(tmp_path / "metadata", files=1, rows=9)
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match=message):
        ImportJob(tmp_path / "metadata", tmp_path / to, tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize(("name", "message"), [("nothing", "is no folder"), ("empty", "holds no")])
def test_what_is_no_metadata_is_refused(tmp_path: Path, name: str, message: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        ImportJob(tmp_path / name, tmp_path / "pool", tmp_path / "scratch")
