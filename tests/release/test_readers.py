"""What people open a release with sees the same rows, without a word from us."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import dask.array
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr

from cah_dask.counts import Counts
from cah_dask.release.card import write_card
from cah_dask.release.layout import read_layout
from cah_dask.release.summary import StageSummary, Summary
from cah_dask.run.stages import RUN
from tests.release.test_pack import pack

KEPT = [[True, False, True] * 5] * 3
UIDS = [n for n, kept in enumerate(itertools.chain(*KEPT)) if kept]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("run"), KEPT, 4, 2)


def numbers(uids) -> list[int]:
    return [int(uid, 16) for uid in uids]


def test_pandas_reads_the_pairs(release: Path):
    table = pd.read_parquet(release / "pairs").sort_values("row")
    assert numbers(table["uid"]) == UIDS


def test_polars_reads_the_pairs(release: Path):
    table = pl.scan_parquet(release / "pairs" / "*.parquet").sort("row").collect()
    assert numbers(table["uid"]) == UIDS


def test_duckdb_reads_the_pairs(release: Path):
    query = f"select uid from '{release}/pairs/*.parquet' order by row"
    found = duckdb.sql(query)
    assert found is not None
    assert numbers(uid for (uid,) in found.fetchall()) == UIDS


def test_xarray_reads_the_vectors_by_the_names_of_their_dimensions(release: Path):
    arrays = xr.open_zarr(release / "embeddings.zarr", group="clip")
    assert arrays["image"].dims == ("row", "dim")
    assert arrays["image"].isel(dim=0).values.tolist() == UIDS
    assert arrays.attrs["image"]["name"] == "clip"


def test_dask_reads_the_vectors(release: Path):
    array = dask.array.from_zarr(str(release / "embeddings.zarr"), component="clip/text")
    assert (-array[:, 0]).compute(scheduler="synchronous").tolist() == UIDS
    assert array.dtype == np.float16


def test_hugging_face_reads_the_pairs_by_the_data_card(release: Path, tmp_path: Path):
    stages = {stage.name: StageSummary(1, Counts(), 1.0, stage.rows) for stage in RUN}
    summary = Summary(stages, ["x"], [], None, None, {}, {}, "clip", {"en": 0.2}, [])
    layout = read_layout(release)
    assert layout is not None
    write_card(release / "README.md", summary, layout)
    code = f"""
import datasets, sys
sys.stdout.write(" ".join(datasets.load_dataset({str(release)!r}, split="train")["uid"]))
"""
    home = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    made = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | home,
        capture_output=True,
        text=True,
        check=True,
    )
    assert numbers(made.stdout.split()) == UIDS
