"""Another release of a finished run: other thresholds, without the web and without a model."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml

from cah_dask.candidates.extract import ExtractOptions
from cah_dask.counts import Counts
from cah_dask.groups import group_name_of
from cah_dask.pairs.select import SelectOptions
from cah_dask.run.before.estimate import expected
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.settings import loading
from cah_dask.run.settings.identity import run_id
from cah_dask.storage import read_part, read_receipt, write_part
from tests import runs
from tests.webserver import WebServer


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> Path:
    """The config of a finished run whose web is not there any more."""
    folder = tmp_path_factory.mktemp("selection")
    with WebServer() as web:
        links = [
            (web.url(f"/ok-{n % 40}.jpg", host=f"h{n % 7}.test"), f"A picture of thing {n}")
            for n in range(90)
        ]
        inputs = runs.write_inputs(folder / "wats", links, archives=3)
        path = runs.write_config(
            folder / "run.yaml",
            inputs=inputs,
            model=Path(shutil.copytree(random_model, folder / "model")),
            port=web.port,
        )
        assert runs.finish(path) == 0, runs.output(path)
    return path


def similarities(config: Path) -> list[float]:
    scored = ds.dataset(sorted(config.with_suffix("").glob("scored/*/*.parquet"))).to_table()
    (name,) = (each for each in scored.column_names if each.startswith("similarity_"))
    return sorted(scored[name].to_pylist())


def select(
    config: Path,
    threshold: float,
    *options: str,
    environment: dict[str, str] | None = None,
    **changes,
) -> tuple[int, str]:
    """Run again with another threshold; return the exit code and what was printed."""
    tree = yaml.safe_load(config.read_text()) | changes
    tree["select"] = {"thresholds": dict.fromkeys(runs.MATCH_ALL, threshold)}
    config.write_text(yaml.safe_dump(tree))
    before = len(runs.output(config))
    code = runs.finish(config, options=options, env=environment)
    return code, runs.output(config)[before:]


def released(folder: Path) -> list[float]:
    return sorted(ds.dataset(folder / "pairs").to_table()["similarity"].to_pylist())


def stages_since(config: Path, n_lines: int) -> set[str]:
    lines = (config.with_suffix("") / "journal.jsonl").read_text().splitlines()[n_lines:]
    return {json.loads(line)["stage"] for line in lines}


def test_other_thresholds_make_another_release_without_web_or_model(config: Path):
    run_dir = config.with_suffix("")
    known = similarities(config)
    assert released(run_dir / "release") == known
    median = known[len(known) // 2]
    n_lines = runs.journal_lines(run_dir)
    code, said = select(config, median)
    assert code == 0, said
    assert "only a selection is to be made, without web or model" in said
    expected = [value for value in known if value >= median]
    assert 0 < len(expected) < len(known)
    assert released(run_dir / "release") == expected
    assert stages_since(config, n_lines) == {"select", "pack"}
    status = runs.status(run_dir)
    assert f"below_threshold {len(known) - len(expected):,}" in status
    card = (run_dir / "release" / "README.md").read_text()
    assert f"en {median}" in card


def test_going_back_and_forth_gives_the_same_bytes_and_right_counts(config: Path):
    run_dir = config.with_suffix("")
    known = similarities(config)
    seen: dict[float, dict[str, str]] = {}
    for threshold in (-1.0, 0.0, -1.0, 0.0):
        code, said = select(config, threshold)
        assert code == 0, said
        digests = runs.release_digests(run_dir)
        assert seen.setdefault(threshold, digests) == digests
        n_kept = sum(value >= threshold for value in known)
        lines = [line.split() for line in runs.status(run_dir).splitlines()]
        assert ["pack", "pairs", str(n_kept), str(n_kept)] in lines
        assert ["select", "scored", "samples", str(len(known)), str(n_kept)] in [
            line[:5] for line in lines
        ]
    assert seen[-1.0] != seen[0.0]


def test_a_release_elsewhere_leaves_the_first_one_alone(config: Path, tmp_path: Path):
    run_dir = config.with_suffix("")
    before = runs.release_digests(run_dir)
    known = similarities(config)
    elsewhere = tmp_path / "strict"
    code, said = select(config, known[-5], "--to", str(elsewhere))
    assert code == 0, said
    assert f"release: {elsewhere}" in said
    assert released(elsewhere) == known[-5:]
    assert runs.release_digests(run_dir) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["strict"]
    code, said = select(config, known[-5], "--to", str(elsewhere))
    assert code == 0
    assert "nothing was to be done" in said
    code, said = select(config, known[-3], "--to", str(elsewhere))
    assert code == 0, said
    assert released(elsewhere) == known[-3:]


@pytest.mark.parametrize("name", ["theirs", "theirs.partial"])
def test_a_release_of_another_run_is_not_replaced(config: Path, tmp_path: Path, name: str):
    theirs = Path(shutil.copytree(config.with_suffix("") / "release", tmp_path / name))
    layout = json.loads((theirs / "layout.json").read_text())
    (theirs / "layout.json").write_text(json.dumps(layout | {"run": "0" * 16}))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, said = select(config, 0.0, "--to", str(tmp_path / "theirs"))
    assert code == 3
    assert f"error: {theirs} holds a release of another run; name a new folder" in said
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_run_is_known_by_settings_and_archives_and_not_by_what_it_selects(config: Path):
    told = loading.load(config).config
    other = msgspec.structs.replace(told, select=SelectOptions(thresholds={"en": 0.9}))
    assert run_id(told, ["a", "b"]) == run_id(other, ["b", "a"])
    assert run_id(told, ["a", "b"]) != run_id(told, ["a"])
    other = msgspec.structs.replace(told, extract=ExtractOptions(splits=("en",)))
    assert run_id(told, ["a", "b"]) != run_id(other, ["a", "b"])


@pytest.fixture
def bare(config: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a machine without the model of the run, torch and open_clip."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['torch'] = sys.modules['open_clip'] = None\n"
    )
    model = config.with_name("model")
    gone = model.rename(model.with_name("gone"))
    yield os.environ | {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
    gone.rename(model)


def test_a_selection_asks_for_no_model_no_torch_and_no_consent(config: Path, bare: dict[str, str]):
    run_dir = config.with_suffix("")
    known = similarities(config)
    tree = yaml.safe_load(config.read_text())["download"]
    forbidden = {**tree, "crawl": "forbidden"}
    code, said = select(config, known[9], environment=bare, download=forbidden)
    assert code == 0, said
    assert released(run_dir / "release") == known[9:]
    select(config, known[9], environment=bare, download=tree)


def test_a_pair_that_is_to_be_scored_again_asks_for_the_model(config: Path, bare: dict[str, str]):
    (scored, *_) = sorted(config.with_suffix("").glob("scored/*/*.parquet"))
    kept = scored.read_bytes()
    scored.unlink()
    code, said = select(config, 0.25, environment=bare)
    scored.write_bytes(kept)
    assert code == 3
    assert "error: open_clip is not installed; run: pip install" in said
    code, said = select(config, 0.25)
    assert code == 0, said


def test_a_folder_with_other_files_is_no_place_for_a_release(config: Path, tmp_path: Path):
    (tmp_path / "thesis.tex").touch()
    code, said = select(config, 0.0, "--to", str(tmp_path))
    assert code == 3
    assert f"{tmp_path} holds something else than a release" in said
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_is_in_the_way_of_a_release_is_not_deleted(config: Path, tmp_path: Path):
    (tmp_path / "mine.partial").mkdir()
    (tmp_path / "mine.partial" / "download").touch()
    code, said = select(config, 0.0, "--to", str(tmp_path / "mine"))
    assert code == 5
    assert f"{tmp_path}/mine.partial is in the way and is no release; move it elsewhere" in said
    assert (tmp_path / "mine.partial" / "download").exists()


def test_a_damaged_scored_part_is_made_again_with_all_that_was_selected_from_it(
    config: Path, tmp_path: Path
):
    run_dir = config.with_suffix("")
    (scored, *_) = sorted(run_dir.glob("scored/*/*.parquet"))
    data = bytearray(scored.read_bytes())
    data[100] ^= 1
    kept = shutil.copy(scored, tmp_path)
    scored.write_bytes(data)
    code, said = select(config, 0.123)
    assert code == 5
    assert "it was set aside" in said
    group = group_name_of(f"{scored.parent.name}/{scored.stem}")
    assert not list(run_dir.glob(f"selected/*/{group}.parquet"))
    code, said = select(config, 0.123)
    assert code == 0, said
    assert pq.read_table(scored).equals(pq.read_table(kept))
    assert released(run_dir / "release") == [v for v in similarities(config) if v >= 0.123]


def test_settings_of_the_run_itself_may_not_change(config: Path):
    code, said = select(config, 0.0, dedup={"buckets": 3, "list_urls": 30})
    assert code == 3
    assert "was started with dedup.buckets: 2, now it is 3" in said


def test_every_selected_row_is_a_scored_row_of_that_uid(config: Path):
    run_dir = config.with_suffix("")
    parts = list(run_dir.glob("selected/*/*/*.parquet"))
    assert parts
    for part in parts:
        for row in pq.read_table(part).to_pylist():
            scored = pq.read_table(run_dir / row["part"], columns=["uid"])["uid"]
            assert pc.equal(scored[row["row"]], row["uid"]).as_py()


def test_the_estimate_fits_what_the_run_left_behind(config: Path):
    """A run whose every link gives an image: tasks to the unit, files within a third."""
    folder = RunFolder(config.with_suffix(""))
    summary, settings = folder.summary(), folder.config()
    steps = expected(settings, len(folder.archives()), summary.counts("extract").kept)
    for step in steps[:-1]:
        assert step.tasks == summary.stages[step.stage].tasks, step.stage
    n_files = sum(
        1
        for name in ("candidates", "fetch", "seen", "images", "requests", "scored", "selected")
        for path in (folder.path / name).rglob("*")
        if path.is_file()
    )
    n_variants = len(list((folder.path / "selected").iterdir()))
    n_files -= (n_variants - 1) * summary.stages["select"].tasks
    assert 0.65 * sum(step.files for step in steps[:-1]) <= n_files
    assert n_files <= sum(step.files for step in steps[:-1])


def test_a_release_that_lacks_rows_of_a_stage_before_is_refused(config: Path):
    """A part and its receipt agree on fewer rows than the stage before gave."""
    run_dir = config.with_suffix("")
    (part, *_) = sorted(run_dir.glob("scored/*/*.parquet"))
    table, receipt = read_part(part), read_receipt(part)
    n_lost = 1
    counts = receipt.counts
    fewer = Counts(counts.seen - n_lost, counts.kept - n_lost, counts.rejected, counts.notes)
    receipt = msgspec.structs.replace(receipt, counts=fewer)
    write_part(part, table.schema, [table.slice(n_lost)], receipt, replace=True)
    (run_dir / "journal.jsonl").unlink()
    shutil.rmtree(run_dir / "selected")
    code, said = select(config, 0.321, dedup={"buckets": 2, "list_urls": 30})
    assert code == 5
    assert "dedup kept 90 rows but embed saw 89; move scored/ out of the run" in said
