"""A run over DataComp's metadata: a subset of it, each image as it was published."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest
import yaml

from cah_dask.keys import from_digests, unique
from cah_dask.release.check import check_part
from cah_dask.release.layout import read_layout
from cah_dask.run.folder.run_folder import RunFolder
from tests import runs
from tests.curate.datacomp_folder import TEXTS, File, uid, write_folder
from tests.hostile import picture
from tests.webserver import WebServer

SAMPLE = Path("configs/datacomp.yaml")
ROWS = 30
CHANGED = {3, 17, 40}
DEAD = {5, 44}
UNKNOWN = {7}
LATE, LATE_CHANGED = 10, 11
"""Rows of the second wave whose urls the first one fetched; one of them asks for another image."""


def given(web: WebServer) -> list[dict[str, Any]]:
    """Rows whose images the server has, but for those that have changed or are gone.

    The second half comes first, as the names of the files are hashes.
    """
    rows: list[dict[str, Any]] = []
    for n in range(2 * ROWS):
        path = f"/p{n}.jpg"
        body = picture(seed=n)
        if n not in DEAD:
            web.bodies[path] = picture(seed=n + 1000) if n in CHANGED else body
        sha256 = None if n in UNKNOWN else hashlib.sha256(body).hexdigest()
        url = web.url(path, host=f"H{n % 5}.test") + ("#part" if n % 4 == 0 else "")
        text = TEXTS[n // 2 % len(TEXTS)] + (f" {n}" if n % 2 else f"\n{n} ")
        rows.append({"url": url, "text": text, "sha256": sha256})
    rows[LATE] |= {"url": rows[52]["url"], "sha256": rows[52]["sha256"]}
    rows[LATE_CHANGED] |= {"url": rows[53]["url"]}
    return rows


def write_subset(path: Path, files: list[File], left_out: set[int]) -> set[str]:
    """Write a subset file of all rows but some, and of strangers; return the uids of the rows."""
    uids = [each for file in files for each in file.table["uid"].to_pylist()]
    of_rows = {each for n, each in enumerate(uids) if n not in left_out}
    digests = [bytes.fromhex(each) for each in (*of_rows, "0" * 32, "f" * 32)]
    np.save(path, unique(from_digests(b"".join(digests))))
    return of_rows


def sample(**table: Any) -> dict[str, Any]:
    """Return the settings of the sample that are not those of a place."""
    tree = yaml.safe_load(SAMPLE.read_text())
    tree["extract"]["table"] |= table
    return {key: tree[key] for key in ("extract", "decode", "select")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> tuple[Path, set[str]]:
    """The config of a finished run, and the uids of the subset."""
    folder = tmp_path_factory.mktemp("datacomp")
    with WebServer() as web:
        rows = given(web)
        files = write_folder(folder / "metadata", files=2, rows=ROWS, given=rows, dims={})
        wanted = write_subset(folder / "subset.npy", files, left_out={1, 2, 50})
        path = runs.write_config(
            folder / "run.yaml",
            inputs=str(folder / "metadata/*.parquet"),
            model=random_model,
            port=web.port,
            **sample(subset=str(folder / "subset.npy")),
        )
        assert runs.finish(path) == 0, runs.output(path)
    return path, wanted


def release_rows(config: Path) -> list[dict[str, Any]]:
    return ds.dataset(config.parent / "run" / "release" / "pairs").to_table().to_pylist()


def test_the_uids_of_a_subset_are_those_of_the_release(finished: tuple[Path, set[str]]):
    config, wanted = finished
    rows = release_rows(config)
    assert all(row["uid"] == uid(row["text"], row["url"]) for row in rows)
    assert {row["uid"] for row in rows} <= wanted
    assert len(rows) == len(wanted) - len(CHANGED) - len(DEAD) - 1
    assert any("\n" in row["text"] for row in rows)
    assert any("://H" in row["url"] and "#part" in row["url"] for row in rows)


def test_images_are_those_that_were_published_and_all_others_are_counted(
    finished: tuple[Path, set[str]],
):
    config, _ = finished
    number = {picture(seed=n): n for n in range(2 * ROWS)}
    by_hash = {hashlib.sha256(body).hexdigest(): n for body, n in number.items()}
    kept = {by_hash[row["sha256"]] for row in release_rows(config)}
    texts = [row["text"] for row in release_rows(config)]
    assert any(text.endswith(f"\n{LATE} ") for text in texts)
    assert not any(text.endswith(f" {LATE_CHANGED}") for text in texts)
    assert not kept & (CHANGED | DEAD)
    assert kept >= UNKNOWN
    summary = RunFolder(config.parent / "run").summary()
    assert summary.counts("extract").rejected == {"not_in_subset": 3}
    assert summary.counts("download").rejected == {"changed": 3, "http_404": 2}
    assert summary.counts("embed").rejected == {"changed": 4, "http_404": 2}
    subset = config.parent / "subset.npy"
    digest = hashlib.sha256(subset.read_bytes()).hexdigest()
    assert summary.settings["extract.table.subset"] == f"subset.npy, SHA-256 {digest}"


def test_a_release_of_raw_texts_and_urls_is_sound(finished: tuple[Path, set[str]]):
    release = finished[0].parent / "run" / "release"
    layout = read_layout(release)
    assert layout is not None
    found = check_part(release, 0, layout)
    assert found.faults == ()
    assert found.counts.kept == layout.rows


def test_a_run_with_another_subset_is_another_run(finished: tuple[Path, set[str]], tmp_path: Path):
    config, _ = finished
    subset = config.parent / "subset.npy"
    other = tmp_path / "other.npy"
    moved = tmp_path / "moved.npy"
    moved.write_bytes(subset.read_bytes())
    np.save(other, np.load(subset)[:-1])

    def finish(subset: Path) -> int:
        return runs.finish(config, options=("--set", f"extract.table.subset={subset}"))

    assert finish(moved) == 0, runs.output(config)
    assert "nothing was to be done" in runs.output(config)
    assert finish(other) == 3
    assert "was started with" in runs.output(config).splitlines()[-1]


def test_what_comes_with_other_hashes_is_kept_if_nobody_asks(tmp_path: Path, random_model: Path):
    with WebServer() as web:
        files = write_folder(tmp_path / "m", files=2, rows=ROWS, given=given(web), dims={})
        path = runs.write_config(
            tmp_path / "run.yaml",
            inputs=str(tmp_path / "m/*.parquet"),
            model=random_model,
            port=web.port,
            **sample(subset=None, verify=False),
        )
        assert runs.finish(path) == 0, runs.output(path)
    uids = Counter(each for file in files for each in file.table["uid"].to_pylist())
    assert len(release_rows(path)) == len(uids) - len(DEAD)
    assert RunFolder(tmp_path / "run").summary().counts("download").rejected == {"http_404": 2}
