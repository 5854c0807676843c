"""From a run to a filtered release, to a redacted one, each verified; and back to equal bytes."""

import json
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
import yaml
import zarr

from tests import runs
from tests.commands import cah
from tests.webserver import WebServer

LINKS = 60


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of sixty pairs in two splits, in release parts of sixteen."""
    folder = tmp_path_factory.mktemp("chain")
    with WebServer() as web:
        links = [
            (web.url(f"/ok-{n}.jpg", host=f"h{n % 7}.test"), f"A picture of thing {n}")
            for n in range(LINKS)
        ]
        path = runs.write_config(
            folder / "run.yaml",
            inputs=runs.write_inputs(folder / "wats", links, archives=2),
            port=web.port,
            pack={"rows_per_shard": 16, "rows_per_chunk": 4},
        )
        assert runs.finish(path) == 0, runs.output(path)
    return folder / "run"


def rows(release: Path) -> list[dict]:
    found: list[dict] = ds.dataset(release / "pairs", format="parquet").to_table().to_pylist()
    return found


def vectors(release: Path) -> dict[str, bytes]:
    """Return the vectors of each pair, by its uid."""
    root = zarr.open_group(release / "embeddings.zarr", mode="r")
    arrays = [array[:] for _, group in sorted(root.groups()) for _, array in sorted(group.arrays())]
    return {
        row["uid"]: b"".join(np.asarray(array)[at].tobytes() for array in arrays)
        for at, row in enumerate(rows(release))
    }


def filtered(pool: Path, keep: object, to: Path) -> Path:
    path = to.with_suffix(".yaml")
    path.write_text(yaml.safe_dump({"keep": keep}))
    code, _, said = cah("filter", pool, path, "--to", to)
    assert code == 0, said
    assert not to.with_name(f"{to.name}.filter").exists()
    return to


def test_a_run_is_filtered_redacted_and_verified(run_dir: Path, tmp_path: Path) -> None:
    published = rows(run_dir / "release")
    scores = sorted((row["similarity"] for row in published), reverse=True)
    half = {"top_fraction": {"fraction": 0.5}}
    keep = {"all": [half, {"not": {"host": {"in": ["h3.test"]}}}, {"words": {"above": 4}}]}
    expected = [
        row
        for row in published
        if row["similarity"] >= scores[30] and "//h3.test" not in row["url"]
    ]
    assert 10 < len(expected) < 31

    of_run = filtered(run_dir, keep, tmp_path / "of-run")
    of_release = filtered(run_dir / "release", keep, tmp_path / "of-release")
    for release in (of_run, of_release):
        assert [row["uid"] for row in rows(release)] == [row["uid"] for row in expected]
        whole, part = vectors(run_dir / "release"), vectors(release)
        assert part == {uid: whole[uid] for uid in part}
        step = json.loads((release / "manifest.json").read_text())["steps"][-1]
        assert step["counts"]["kept"] == len(expected)
        assert step["limits"] == [
            {"column": "similarity", "at_least": scores[30], "at_most": None, "split": None}
        ]
        assert str(tmp_path) not in json.dumps(step)
        assert cah("verify", release)[0] == 0

    gone = rows(of_run)[3]
    uids = tmp_path / "uids.txt"
    uids.write_text(gone["uid"] + "\n")
    code, _, said = cah("redact", of_run, "--uids", uids, "--to", tmp_path / "redacted")
    assert code == 0, said
    code, faults, said = cah("verify", tmp_path / "redacted", "--uids", uids)
    assert (code, faults) == (0, []), said
    steps = json.loads((tmp_path / "redacted" / "manifest.json").read_text())["steps"]
    assert [(step["how"], step["of"]) for step in steps] == [
        ("filter", "run"),
        ("redact", "release"),
    ]
    assert [row["uid"] for row in rows(tmp_path / "redacted")] == [
        row["uid"] for row in expected if row["uid"] != gone["uid"]
    ]


def test_a_compacted_run_is_the_same_pool(run_dir: Path, tmp_path: Path) -> None:
    keep = {"score": {"at_least": -1.0}}
    before = filtered(run_dir, keep, tmp_path / "before")
    assert rows(before) == rows(run_dir / "release")
    assert vectors(before) == vectors(run_dir / "release")
    config = run_dir.with_name("run.yaml")
    assert runs.finish(config, options=("--set", "compact=true")) == 0, runs.output(config)
    assert list((run_dir / "compacted").glob("*/*.parquet"))
    after = filtered(run_dir, keep, tmp_path / "after")
    names = [str(path.relative_to(before)) for path in sorted(before.rglob("*")) if path.is_file()]
    for name in names:
        assert (before / name).read_bytes() == (after / name).read_bytes(), name


def test_a_threshold_that_rows_do_not_keep_is_found(run_dir: Path, tmp_path: Path) -> None:
    """What a manifest says of a release is compared with its rows."""
    encoder = json.loads((run_dir / "release" / "layout.json").read_text())["encoder"]
    column = f"similarity_{encoder}"  # in a release of one encoder it has the shorter name only
    keep = {"score": {"column": column, "at_least": 0.0}}
    made = filtered(run_dir, keep, tmp_path / "made")
    assert cah("verify", made)[0] == 0
    lowest = min(row["similarity"] for row in rows(made))
    manifest = made / "manifest.json"
    text = manifest.read_text()
    assert '"at_least": 0.0' in text
    manifest.write_text(text.replace('"at_least": 0.0', f'"at_least": {lowest + 0.01}'))
    code, faults, _ = cah("verify", made)
    assert code == 5
    assert any("manifest.json: it is not the one that the layout names" in each for each in faults)
