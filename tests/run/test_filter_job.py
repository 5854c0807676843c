"""`cah filter` as a user types it: whole, interrupted, repeated, and what it refuses."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests import runs
from tests.curate import plain
from tests.curate.datacomp_folder import File, write_folder

FILES = 24
COLUMN = "clip_l14_similarity_score"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[File]:
    return write_folder(tmp_path_factory.mktemp("pool"), files=FILES, rows=150, dims={})


@pytest.fixture(scope="module")
def expected(files: list[File]) -> bytes:
    rows = plain.rows_of(files)
    return plain.kept(rows, plain.fraction(rows, COLUMN, 0.3))


def start(pool: Path, *options: str, name: str = "clip-score-fraction") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cah_dask", "filter", str(pool), name, *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def run(pool: Path, *options: str, **named: str) -> tuple[int, str, str]:
    process = start(pool, *options, **named)
    answer, said = process.communicate(timeout=120)
    return process.returncode, answer, said


def test_a_subset_file_its_manifest_and_nothing_else(
    files: list[File], expected: bytes, tmp_path: Path
) -> None:
    pool, to = files[0].path.parent, tmp_path / "subset.npy"
    code, answer, said = run(pool, "--to", str(to))
    assert code == 0, said
    assert to.read_bytes() == expected
    manifest = json.loads((tmp_path / "subset.npy.manifest.json").read_text())
    n_rows, n_kept = FILES * 150, len(np.load(to))
    assert manifest["counts"] == {
        "seen": n_rows,
        "kept": n_kept,
        "rejected": {"top_fraction": n_rows - n_kept},
        "notes": {},
    }
    (threshold,) = manifest["rule"]["thresholds"]
    assert np.array([int(threshold["float32"], 16)], "u4").view("f4") == threshold["threshold"]
    assert str(pool) not in json.dumps(manifest)
    assert f"top_fraction  {n_rows:,}" in answer
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "subset.npy",
        "subset.npy.manifest.json",
    ]
    code, answer, _ = run(pool, "--to", str(to))
    assert (code, answer) == (0, f"{to}: whole, nothing was to be done\n")
    code, _, said = run(pool, "--to", str(to), "--param", "fraction=0.2")
    assert code == 3
    assert "exists and is not of this pool and filter" in said
    assert to.read_bytes() == expected


def test_uids_as_a_table(files: list[File], expected: bytes, tmp_path: Path) -> None:
    to = tmp_path / "uids.parquet"
    assert run(files[0].path.parent, "--to", str(to))[0] == 0
    assert plain.subset(pq.read_table(to)["uid"].to_pylist()) == expected


@pytest.mark.parametrize(("kind", "commits"), [(signal.SIGKILL, 5), (signal.SIGINT, 30)])
def test_an_end_at_any_moment_changes_no_byte(
    files: list[File], expected: bytes, tmp_path: Path, kind: signal.Signals, commits: int
) -> None:
    pool, to = files[0].path.parent, tmp_path / "subset.npy"
    options = ("--to", str(to), "--set", "pools.cpu.workers=1")
    first = start(pool, *options)

    def journals() -> int:
        places = (tmp_path / "subset.npy.filter").glob("*/journal.jsonl")
        return sum(len(path.read_bytes().splitlines()) for path in places)

    assert runs.wait_for(lambda: journals() >= commits)
    first.send_signal(kind)
    _, said = first.communicate(timeout=60)
    assert first.returncode == (75 if kind is signal.SIGINT else -kind), said
    assert not to.exists()
    code, _, said = run(pool, *options)
    assert code == 0, said
    assert to.read_bytes() == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "subset.npy",
        "subset.npy.manifest.json",
    ]


def test_a_dry_run_leaves_no_file(files: list[File], tmp_path: Path) -> None:
    code, answer, _ = run(files[0].path.parent, "--dry-run", "--param", "fraction=0.5")
    assert code == 0
    assert "kept alone" in answer
    assert list(tmp_path.iterdir()) == []
    assert {path.suffix for path in files[0].path.parent.iterdir()} == {".parquet"}


def test_a_bad_row_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    uids = [{"uid": "12"}]
    write_folder(tmp_path / "pool", files=2, rows=20, given=uids, dims={})
    to = tmp_path / "subset.npy"
    code, _, said = run(tmp_path / "pool", "--to", str(to), name="no-filter")
    assert code == 5
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line.endswith(".parquet: '12' is no uid, which has 32 hex digits")
    assert not to.exists()
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "error: give --to, or --dry-run"),
        (("--to", "x.npy", "--dry-run"), "error: give --to, or --dry-run"),
        (("--dry-run", "--param", "fraction"), "error: --param fraction: expected NAME=VALUE"),
        (("--dry-run", "--column", "uid=key"), "has no column key, which --column uid=key names"),
    ],
)
def test_wrong_usage_is_one_line(files: list[File], options: tuple[str, ...], message: str) -> None:
    code, _, said = run(files[0].path.parent, *options)
    assert code == 3
    assert message in said
    assert len(said.splitlines()) == 1
