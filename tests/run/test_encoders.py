"""Several encoders in one pass over the images: each with its own vectors and similarities."""

from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
import yaml
import zarr

from cah_dask.release.check import check_part
from cah_dask.release.layout import read_layout
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
            embed={"encoders": {"a": {"image": "tiny"}, "b": {"image": str(random_model)}}},
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
