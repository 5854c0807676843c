"""`cah cluster` and `cah near-duplicates` as a user types them."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cah_dask.curate.pools.uids import hex_of
from tests import runs
from tests.curate.vectors.test_near_duplicates import plain, with_copies
from tests.run.clustering.pools import small_pool


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_pool(tmp_path_factory.mktemp("pool") / "pool")


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cah_dask", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def call(*arguments: object) -> tuple[int, str, str]:
    """Return exit code, answer, and what else was printed."""
    process = start(*arguments)
    answer, said = process.communicate(timeout=240)
    return process.returncode, answer, said


def cluster(pool: Path, to: Path, workers: int) -> tuple[object, ...]:
    workers_option = f"pools.cpu.workers={workers}"
    return ("cluster", pool, "--to", to, "--k", 12, "--iterations", 3, "--set", workers_option)


def test_centroids_and_near_duplicates_from_one_command_each(pool: Path, tmp_path: Path):
    code, answer, said = call(*cluster(pool, tmp_path / "c", workers=2))
    assert code == 0, said
    assert answer.startswith(f"{tmp_path}/c: 12 centroids of 600 rows\nmean squared distance: ")
    assert "move 3/3 tasks, 36 of 36 rows" in said
    assert call(*cluster(pool, tmp_path / "c", workers=1))[1].endswith("nothing was to be done\n")
    options = ("--bound", 0.96, "--by", "similarity_b32", "--centroids", tmp_path / "c")
    code, answer, said = call("near-duplicates", pool, "--to", tmp_path / "n", *options)
    assert code == 0, said
    vectors, rows = with_copies(600)
    gone = [hex_of(rows[row : row + 1])[0] for row in plain(vectors, rows, 0.96)]
    assert answer == f"{tmp_path}/n: {len(gone)} near duplicates among 600 rows\n"
    assert hex_of(np.load(tmp_path / "n" / "uids.npy")) == sorted(gone)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "n"]


def test_killed_and_begun_again_by_others_it_leaves_the_same_bytes(pool: Path, tmp_path: Path):
    first = start(*cluster(pool, tmp_path / "killed", workers=1))

    def n_done() -> int:
        journals = tmp_path.glob("killed.cluster/*/journal.jsonl")
        return sum(len(path.read_bytes().splitlines()) for path in journals)

    assert runs.wait_for(lambda: n_done() >= 7)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    assert not (tmp_path / "killed").exists()
    for name, workers in (("killed", 2), ("whole", 1)):
        code, _, said = call(*cluster(pool, tmp_path / name, workers))
        assert code == 0, said
    for name in ("centroids.npy", "manifest.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("cluster", "--k", 601), 3, "has 600 rows, too few for 601 clusters"),
        (("cluster", "--k", 5, "--share", 0), 3, "Expected `float` > 0.0 - at `$.share`"),
        (("cluster", "--k", 5, "--seed", -1), 3, "Expected `int` >= 0 - at `$.seed`"),
        (("cluster", "--k", 5, "--vectors", "x"), 3, "has no vectors x; it has b32/image"),
        (
            ("near-duplicates", "--bound", 0.9),
            3,
            "has no column similarity; choose by --by among similarity_b32",
        ),
        (
            ("near-duplicates", "--bound", 2, "--by", "similarity_b32"),
            3,
            "Expected `float` <= 1.0 - at `$.bound`",
        ),
        (("near-duplicates", "--bound", 0.9, "--by", "x"), 3, "has no column x, which --by names"),
        (("near-duplicates", "--bound", 0.9, "--centroids", "x.npy"), 4, "x.npy is not there"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    pool: Path, tmp_path: Path, options: tuple[object, ...], code: int, message: str
):
    found, answer, said = call(options[0], pool, "--to", tmp_path / "to", *options[1:])
    assert (found, answer) == (code, "")
    assert said.startswith("error: ")
    assert message in said
    assert len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
