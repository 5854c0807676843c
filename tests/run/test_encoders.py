"""Several encoders in one pass over the images: each with its own vectors and similarities."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
import yaml
import zarr

from cah_dask.release.check import check_part
from cah_dask.release.layout import read_layout
from cah_dask.storage import read_receipt
from tests import runs
from tests.webserver import WebServer


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> Path:
    """The config of a finished run with two encoders whose web is not there any more."""
    folder = tmp_path_factory.mktemp("encoders")
    with WebServer() as web:
        links = [
            (web.url(f"/ok-{n % 20}.jpg", host=f"h{n % 5}.test"), f"A picture of thing {n}")
            for n in range(60)
        ]
        path = runs.write_config(
            folder / "run.yaml",
            inputs=runs.write_inputs(folder / "wats", links, archives=3),
            model=random_model,
            port=web.port,
            embed={
                "encoders": {"a": {"image": "tiny"}, "b": {"image": str(random_model)}},
                "batch_size": 4,
            },
        )
        assert runs.finish(path) == 0, runs.output(path)
    return path


def test_each_encoder_has_its_own_group_and_column(config: Path):
    release = config.with_suffix("") / "release"
    pairs = ds.dataset(release / "pairs").to_table().sort_by("row")
    assert len(pairs) == 60
    assert set(pairs["encoder"].to_pylist()) == {"a"}
    assert pairs["similarity"].equals(pairs["similarity_a"])
    assert pairs["similarity_a"] != pairs["similarity_b"]
    root = zarr.open_group(release / "embeddings.zarr", mode="r")
    for name, dim in (("a", 28), ("b", 16)):
        image, text = (np.asarray(root[f"{name}/{kind}"], np.float32) for kind in ("image", "text"))
        assert image.shape == text.shape == (60, dim)
        cosines = np.einsum("nd,nd->n", image, text)
        assert np.allclose(cosines, pairs[f"similarity_{name}"].to_numpy(), atol=2e-3)
    layout = read_layout(release)
    assert layout is not None
    assert [check_part(release, number, layout).faults for number in range(layout.shards)] == [()]
    card = (release / "README.md").read_text()
    assert "by the encoder `b`, -1 to 1" in card
    assert "| `a` | 28 | images | `tiny` |" in card


def test_receipts_say_how_long_models_worked_and_waited(config: Path):
    parts = sorted((config.with_suffix("") / "scored").rglob("*.parquet"))
    receipts = [read_receipt(part) for part in parts]
    kinds = {kind for receipt in receipts for kind in receipt.timings}
    assert kinds == {"input", "model", "turn", "worker"}
    for receipt in receipts:
        own = sum(ms for kind, ms in receipt.timings.items() if kind != "worker")
        assert 0 < own <= 1000 * (receipt.seconds or 0) + 2
    of_worker = sum(receipt.timings["worker"] for receipt in receipts)
    longest = max(receipt.seconds or 0 for receipt in receipts)
    assert of_worker >= 1000 * longest - 100, "the first one loads the models"
    assert (
        "waited for pictures of their list for"
        in (config.with_suffix("") / "release/report.html").read_text()
    )


def test_which_one_decides_is_a_setting_of_the_release(config: Path):
    run_dir = config.with_suffix("")
    before = ds.dataset(run_dir / "release" / "pairs").to_table()
    threshold = float(np.median(before["similarity_b"].to_numpy()))
    tree = yaml.safe_load(config.read_text())
    tree["select"] = {"encoder": "b", "thresholds": dict.fromkeys(runs.MATCH_ALL, threshold)}
    config.write_text(yaml.safe_dump(tree))
    assert runs.finish(config) == 0, runs.output(config)
    pairs = ds.dataset(run_dir / "release" / "pairs").to_table()
    expected = [value for value in before["similarity_b"].to_pylist() if value >= threshold]
    assert 0 < len(expected) < len(before)
    assert sorted(pairs["similarity"].to_pylist()) == sorted(expected)
    assert set(pairs["encoder"].to_pylist()) == {"b"}
    report = (run_dir / "release" / "report.html").read_text()
    assert f"{threshold:.2f}" in report


def set_select(config: Path, **select) -> None:
    tree = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**tree, "select": select}))


def kept_scores(release: Path) -> list[float]:
    return sorted(ds.dataset(release / "pairs").to_table()["similarity"].to_pylist(), reverse=True)


def scored(config: Path, encoder: str) -> list[float]:
    parts = sorted(config.with_suffix("").glob("scored/*/*.parquet"))
    return sorted(ds.dataset(parts).to_table()[f"similarity_{encoder}"].to_pylist(), reverse=True)


def test_a_share_of_all_samples_is_kept_exactly(config: Path):
    run_dir = config.with_suffix("")
    set_select(
        config, encoder="a", thresholds={"multi": -1, "nolang": -1}, top_fraction={"en": 0.3}
    )
    assert runs.finish(config) == 0, runs.output(config)
    known = scored(config, "a")
    n = len(known)
    threshold = known[int(0.3 * n)]
    assert kept_scores(run_dir / "release") == [value for value in known if value >= threshold]
    assert f"the top 0.3 of {n} en samples have a similarity of at least" in runs.output(config)
    assert str(threshold) in (run_dir / "release" / "README.md").read_text()
    assert f"{n - int(0.3 * n) - 1}" in runs.status(run_dir)
    before, n_lines = runs.release_digests(run_dir), runs.journal_lines(run_dir)
    assert runs.finish(config) == 0, runs.output(config)
    assert "nothing was to be done" in runs.output(config)
    assert (runs.release_digests(run_dir), runs.journal_lines(run_dir)) == (before, n_lines)


def test_a_threshold_and_a_share_are_not_given_both(config: Path):
    set_select(config, thresholds=runs.MATCH_ALL, top_fraction={"en": 0.3})
    assert runs.finish(config) == 3
    assert "are both given for en texts" in runs.output(config)


def calibrate(config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    run_dir = str(config.with_suffix(""))
    command = [sys.executable, "-m", "cah_dask", "calibrate", run_dir, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_calibrated_encoder_keeps_as_many_as_the_one_that_is_known(config: Path):
    known = scored(config, "a")
    set_select(config, encoder="a", thresholds=dict.fromkeys(runs.MATCH_ALL, known[19]))
    assert runs.finish(config) == 0, runs.output(config)
    said = calibrate(config, "--encoder", "b", "--reference", "a")
    assert said.returncode == 0, said.stderr
    assert "?  uncertain: fewer than 1,000 samples" in said.stdout
    setting = yaml.safe_load(said.stdout.splitlines()[-1])["select"]
    assert setting["encoder"] == "b"
    set_select(config, encoder="b", thresholds={**runs.MATCH_ALL, **setting["thresholds"]})
    assert runs.finish(config) == 0, runs.output(config)
    assert len(kept_scores(config.with_suffix("") / "release")) == 20


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--encoder", "c"], "has no encoder c; it has a, b"),
        (["--encoder", "b", "--reference", "a"], "encoder a has no thresholds"),
        (["--false-accepts", "1e-9"], "too few for a share of 1e-09"),
    ],
)
def test_what_cannot_be_calibrated_is_one_line(config: Path, options: list[str], line: str):
    said = calibrate(config, *options)
    assert said.returncode == 3
    assert line in " ".join(said.stderr.split())
