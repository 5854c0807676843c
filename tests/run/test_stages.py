"""The table of stages: every row holds, and a stage is added by one row and one function."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from pkgutil import resolve_name

import pyarrow.dataset as ds
import pytest

from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.stages import RUN, Stage, following
from tests import runs
from tests.run.sample_stage import STAGES
from tests.webserver import WebServer


@pytest.mark.parametrize("stage", RUN, ids=str)
def test_every_row_names_a_function_and_stages_before_it(stage: Stage):
    assert callable(resolve_name(stage.task))
    before = [other.name for other in RUN[: RUN.index(stage)]]
    assert stage.after in before or stage is RUN[0]
    assert stage.sees in ("", *before)


def test_names_and_folders_are_told_apart():
    assert max(Counter(stage.name for stage in RUN).values()) == 1
    assert max(Counter(stage.folder for stage in RUN).values()) == 1


def test_what_reads_a_stage_is_found_through_others():
    found = [stage.name for stage in following(RUN, "download")]
    assert found == ["embed", "select", "compact", "pack"]


def test_a_stage_is_added_by_a_row_and_a_function(tmp_path: Path, random_model: Path):
    with WebServer() as web:
        links = [(web.url(f"/ok-{n}.jpg", host=f"h{n % 5}.test"), n * "a ") for n in range(9, 40)]
        inputs = runs.write_inputs(tmp_path / "wats", links)
        path = runs.write_config(
            tmp_path / "run.yaml", inputs=inputs, model=random_model, port=web.port
        )
        program = [sys.executable, "-m", "tests.run.sample_stage", str(path)]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folder = RunFolder(tmp_path / "run", stages=STAGES)
    pairs = ds.dataset(folder.release / "pairs").to_table()
    lengths = ds.dataset(sorted(folder.path.glob("lengths/*/*.parquet"))).to_table()
    assert sorted(lengths["length"].to_pylist()) == sorted(map(len, pairs["text"].to_pylist()))
    summary = folder.summary()
    assert list(summary.stages) == [stage.name for stage in STAGES]
    assert summary.counts("lengths").kept == summary.counts("embed").kept == len(pairs)
