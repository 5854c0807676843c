"""Parts of a wave in few files: whoever reads them finds the same, whatever dies meanwhile."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pyarrow.dataset as ds
import pytest
import yaml

from cah_dask.counts import Counts
from cah_dask.errors import RetryableError
from cah_dask.groups import group_name_of, index_of
from cah_dask.run.folder.compaction import compact, drop_own_files
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.stages import COMPACT
from cah_dask.run.tasks.compaction import compact_task
from cah_dask.run.tasks.crawl_task import CrawlTask
from cah_dask.run.unit import Unit
from cah_dask.schema import OUTCOMES
from cah_dask.storage import Receipt, read_part, read_receipt, write_part
from tests import runs
from tests.run.test_damage import flip
from tests.webserver import WebServer

FOLDERS = ("fetch", "images", "requests", "scored")
ENCODER = runs.MODEL.replace(":", "-")


@pytest.fixture(scope="module")
def web():
    with WebServer() as server:
        yield server


@pytest.fixture(scope="module")
def inputs(web: WebServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three WATs; each has texts of images that are in another one, too."""
    links = []
    for number in range(150):
        image = number % 110
        name = "404" if image % 9 == 0 else "ok"
        url = web.url(f"/{name}-{image}.jpg", host=f"h{image % 10}.test")
        links.append((url, f"A photograph of thing number {number}"))
    return runs.write_inputs(tmp_path_factory.mktemp("inputs"), links, archives=3)


def write(path: Path, inputs: str, web: WebServer, **changes) -> Path:
    """Write the config of a run of three waves in 32 buckets, which are two groups."""
    settings = {"dedup": {"buckets": 32, "list_urls": 5}, "keep_images": False, **changes}
    return runs.write_config(path, inputs=inputs, port=web.port, **settings)


@pytest.fixture(scope="module")
def plain(tmp_path_factory, inputs: str, web: WebServer) -> Path:
    """The folder of a run that compacts nothing."""
    config = write(tmp_path_factory.mktemp("plain") / "run.yaml", inputs, web)
    assert runs.finish(config) == 0, runs.output(config)
    return config.with_suffix("")


@pytest.fixture(scope="module")
def compacted(tmp_path_factory, inputs: str, web: WebServer) -> Path:
    """The folder of the same run, compacted."""
    folder = tmp_path_factory.mktemp("compacted")
    config = write(folder / "run.yaml", inputs, web, compact=True)
    assert runs.finish(config) == 0, runs.output(config)
    return config.with_suffix("")


def n_files(run_dir: Path, *folders: str) -> int:
    return sum(path.is_file() for name in folders for path in (run_dir / name).rglob("*"))


def rows(run_dir: Path, folder: str, columns: list[str]) -> Counter:
    table = ds.dataset(sorted((run_dir / folder).rglob("*.parquet"))).to_table(columns=columns)
    return Counter(map(str, table.to_pylist()))


def test_a_compacted_run_publishes_the_same_bytes(plain: Path, compacted: Path):
    assert runs.release_digests(compacted) == runs.release_digests(plain)


def test_each_group_of_a_wave_has_one_file_for_each_stage_and_an_index(plain, compacted):
    names = sorted(
        path.relative_to(compacted).as_posix()
        for name in FOLDERS
        for path in (compacted / name).rglob("*.parquet")
    )
    groups = [f"w{wave:05d}/g{group:05d}" for wave in range(3) for group in range(2)]
    assert names == sorted(f"{folder}/{group}.parquet" for folder in FOLDERS for group in groups)
    assert n_files(compacted, "compacted") == 6
    assert n_files(plain, *FOLDERS) > 5 * n_files(compacted, *FOLDERS)
    assert not (plain / "compacted").exists()


@pytest.mark.parametrize(
    ("folder", "columns"),
    [
        ("fetch", ["uid", "image_wave", "image_list"]),
        ("images", ["url", "status", "image_row"]),
        ("requests", ["url", "status"]),
        ("scored", ["uid", f"similarity_{ENCODER}", f"image/{ENCODER}", f"text/{ENCODER}"]),
    ],
)
def test_no_row_is_lost_or_there_twice(plain: Path, compacted: Path, folder: str, columns):
    assert rows(compacted, folder, columns) == rows(plain, folder, columns)


def parts_of(run_dir: Path) -> list[Path]:
    """Return the paths of all parts of lists and buckets of a run that compacts nothing."""
    folders = [run_dir / name for name in ("fetch", "images", "scored")]
    return [path.relative_to(run_dir) for each in folders for path in each.rglob("*.parquet")]


def test_every_part_is_found_by_its_own_path_with_its_receipt(plain: Path, compacted: Path):
    parts = parts_of(plain)
    assert len(parts) > 100
    for part in parts:
        mine, other = read_part(compacted / part), read_part(plain / part)
        columns = [name for name in mine.column_names if name not in ("fetched_at", "fetch_ms")]
        assert mine.select(columns).equals(other.select(columns)), part
        assert read_receipt(compacted / part).counts == read_receipt(plain / part).counts


def copy_of(run_dir: Path, folder: Path, **changes) -> Path:
    """Return the config of a copy of a run, with some settings changed."""
    tree = yaml.safe_load(run_dir.with_suffix(".yaml").read_text())
    shutil.copytree(run_dir, folder / "run")
    config = folder / "run.yaml"
    config.write_text(yaml.safe_dump({**tree, "run_dir": str(folder / "run"), **changes}))
    return config


def lines_since(config: Path, n_lines: int) -> Counter:
    """Return how many units of each stage a run has done since its journal had so many lines."""
    lines = (config.with_suffix("") / "journal.jsonl").read_text().splitlines()[n_lines:]
    entries = map(json.loads, lines)
    return Counter(entry["stage"] for entry in entries if entry["type"] == "commit")


def test_a_finished_run_is_compacted_later_and_its_release_left_alone(plain: Path, tmp_path: Path):
    config = copy_of(plain, tmp_path, compact=True)
    run_dir, n_lines = config.with_suffix(""), runs.journal_lines(plain)
    before = (run_dir / "release").stat().st_ino, runs.release_digests(run_dir)
    assert runs.finish(config) == 0, runs.output(config)
    assert lines_since(config, n_lines) == {"compact": 6}
    assert ((run_dir / "release").stat().st_ino, runs.release_digests(run_dir)) == before
    assert n_files(run_dir, *FOLDERS) == 24
    n_lines = runs.journal_lines(run_dir)
    assert runs.finish(config) == 0, runs.output(config)
    assert not lines_since(config, n_lines)
    assert "complete since" in runs.output(config)


def wait_for_indices(run_dir: Path, number: int) -> None:
    indices = (run_dir / "compacted").rglob
    assert runs.wait_for(lambda: len(list(indices("g*.parquet"))) >= number)


def test_a_driver_killed_while_it_compacts_goes_on_without_a_row_lost(plain: Path, tmp_path: Path):
    config = copy_of(plain, tmp_path, compact=True)
    run_dir = config.with_suffix("")
    for moment in (1, 3):
        driver = runs.start(config)
        wait_for_indices(run_dir, moment)
        family = runs.children(driver)
        driver.kill()
        driver.wait()
        for process in family:
            process.wait(20)
    assert runs.finish(config) == 0, runs.output(config)
    assert runs.release_digests(run_dir) == runs.release_digests(plain)
    assert n_files(run_dir, *FOLDERS) == 24
    for folder, column in (("scored", "uid"), ("images", "url"), ("requests", "ended_at")):
        assert rows(run_dir, folder, [column]) == rows(plain, folder, [column])
    assert not list(run_dir.rglob(".tmp-*"))


DIE = """
import os, pathlib, signal, sys
import msgspec
from cah_dask.run.tasks.compaction import compact_task
from cah_dask.run.tasks.crawl_task import CrawlTask

job = msgspec.msgpack.decode(pathlib.Path(sys.argv[1]).read_bytes(), type=CrawlTask)
left = int(sys.argv[2])

def dies(call):
    def counted(*args, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **options)
    return counted

os.link = dies(os.link)
pathlib.Path.replace = dies(pathlib.Path.replace)
pathlib.Path.unlink = dies(pathlib.Path.unlink)
compact_task(job)
"""
"""Compact a group and die at one of the steps by which files get and lose their names."""


def compact_job(run_dir: Path) -> CrawlTask:
    config = RunFolder(run_dir).config()
    return CrawlTask(run_dir=str(run_dir), unit=Unit(COMPACT), config=config, config_hash="c")


def group_files(run_dir: Path) -> dict[str, bytes]:
    """Return all files of the group that `compact_job` compacts."""
    return {
        path.relative_to(run_dir).as_posix(): path.read_bytes()
        for folder in (*FOLDERS, "compacted")
        for path in (run_dir / folder / "w00000").iterdir()
        if group_name_of(f"w00000/{path.stem}") == "w00000/g00000"
    }


@pytest.mark.parametrize("steps", [0, 1, 4, 5, 8, 9, 10, 12, 30])
def test_killed_at_any_step_the_next_attempt_leaves_the_same_bytes(
    plain: Path, tmp_path: Path, steps: int
):
    undisturbed, disturbed = (copy_of(plain, tmp_path / name).with_suffix("") for name in "ab")
    compact_task(compact_job(undisturbed))
    job = compact_job(disturbed)
    (tmp_path / "job").write_bytes(msgspec.msgpack.encode(job))
    command = [sys.executable, "-c", DIE, str(tmp_path / "job"), str(steps)]
    assert subprocess.run(command, check=False).returncode == -9
    compact_task(job)
    assert group_files(disturbed) == group_files(undisturbed)
    assert len(group_files(undisturbed)) == 5


def test_a_group_whose_file_was_cleared_away_meanwhile_is_compacted_again(
    plain: Path, tmp_path: Path
):
    """A driver starts between the file of a group and its index, and takes it for left over."""
    run_dir = copy_of(plain, tmp_path).with_suffix("")
    before = rows(run_dir, "images", ["url"])
    job = compact_job(run_dir)
    parts = sorted(f"w00000/{path.stem}" for path in (run_dir / "images/w00000").glob("b*.parquet"))
    mine = [name for name in parts if group_name_of(name) == "w00000/g00000"]
    compact(run_dir, "w00000/g00000", {"images": mine}, job.receipt(Counts(), 0.0))
    (run_dir / "images/w00000/g00000.parquet").unlink()
    with pytest.raises(RetryableError, match="was deleted while its group was compacted"):
        drop_own_files(run_dir, "w00000/g00000")
    assert not (run_dir / "compacted/w00000/g00000.parquet").exists()
    assert rows(run_dir, "images", ["url"]) == before
    compact_task(job)
    assert rows(run_dir, "images", ["url"]) == before


@pytest.mark.parametrize("steps", [4, 8, 9, 12])
def test_what_a_killed_attempt_left_is_cleared_when_nothing_is_compacted_any_more(
    plain: Path, tmp_path: Path, steps: int
):
    run_dir = copy_of(plain, tmp_path).with_suffix("")
    (tmp_path / "job").write_bytes(msgspec.msgpack.encode(compact_job(run_dir)))
    command = [sys.executable, "-c", DIE, str(tmp_path / "job"), str(steps)]
    assert subprocess.run(command, check=False).returncode == -9
    folder = RunFolder(run_dir)
    with folder.held():
        existing = folder.existing(keep_images=False)
    for name, column in (("images", "url"), ("scored", "uid"), ("requests", "ended_at")):
        assert rows(run_dir, name, [column]) == rows(plain, name, [column])
    is_compacted = (run_dir / "compacted/w00000/g00000.parquet").exists()
    assert is_compacted is (steps > 8), "the index is the commit"
    for part in parts_of(plain):
        stage = {"fetch": "dedup", "images": "download", "scored": "embed"}[part.parts[0]]
        assert existing.listing.has(stage, f"{part.parent.name}/{part.stem}")


def test_another_selection_of_a_compacted_run_needs_no_web_and_no_model(
    plain: Path, compacted: Path, tmp_path: Path
):
    stricter = {"select": {"thresholds": dict.fromkeys(runs.MATCH_ALL, 0.0)}}
    digests = []
    for run_dir, is_compact in ((plain, False), (compacted, True)):
        config = copy_of(run_dir, tmp_path / str(is_compact), compact=is_compact, **stricter)
        assert runs.finish(config) == 0, runs.output(config)
        assert set(lines_since(config, runs.journal_lines(run_dir))) == {"select", "pack"}
        digests.append(runs.release_digests(config.with_suffix("")))
    assert digests[0] == digests[1] != runs.release_digests(plain)


def test_a_compacted_run_tells_how_it_stands_and_is_found_complete(compacted: Path):
    status = runs.status(compacted)
    assert "compact" not in status.split("driver:")[0], "it is no step of the funnel"
    config = compacted.with_suffix(".yaml")
    n_lines = runs.journal_lines(compacted)
    assert runs.finish(config) == 0, runs.output(config)
    assert not lines_since(config, n_lines)
    command = [sys.executable, "-m", "cah_dask", "report", str(compacted)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_lost_journal_is_written_anew_from_compacted_parts(compacted: Path, tmp_path: Path):
    config = copy_of(compacted, tmp_path)
    run_dir = config.with_suffix("")
    (run_dir / "journal.jsonl").unlink()
    assert runs.finish(config) == 0, runs.output(config)
    before = RunFolder(compacted).summary()
    after = RunFolder(run_dir).summary()
    for stage in ("extract", "dedup", "download", "embed", "select"):
        assert after.counts(stage) == before.counts(stage)
    assert runs.release_digests(run_dir) == runs.release_digests(compacted)


def damaged_copy(compacted: Path, folder: Path, part: str, at: int) -> tuple[Path, int]:
    """Return the config of a copy with a wrong bit and without a release, and its journal lines."""
    config = copy_of(compacted, folder)
    run_dir = config.with_suffix("")
    shutil.rmtree(run_dir / "release")
    flip(run_dir / part, at)
    return config, runs.journal_lines(run_dir)


def test_a_wrong_bit_in_a_compacted_file_costs_the_lists_it_hits(compacted: Path, tmp_path: Path):
    config, n_lines = damaged_copy(compacted, tmp_path, "scored/w00000/g00000.parquet", 300)
    run_dir = config.with_suffix("")
    assert runs.finish(config) == 5, runs.output(config)
    said = " ".join(runs.output(config).split())
    assert "scored/w00000/g00000.parquet is damaged" in said
    assert "it was set aside: the same command makes it again" in said
    assert (run_dir / "damaged/scored/w00000/g00000.parquet").exists()
    assert not (run_dir / "compacted/w00000/g00000.parquet").exists()
    assert runs.finish(config) == 0, runs.output(config)
    done = lines_since(config, n_lines)
    assert (done["download"], done["embed"], done["select"], done["compact"]) == (1, 1, 1, 1)
    assert runs.release_digests(run_dir) == runs.release_digests(compacted)
    assert n_files(run_dir, *FOLDERS) == 24


@pytest.mark.parametrize("harm", ["index", "data"])
def test_a_group_whose_index_is_damaged_or_whose_file_is_lost_is_made_again(
    compacted: Path, tmp_path: Path, harm: str
):
    index = "compacted/w00001/g00001.parquet"
    config, n_lines = damaged_copy(compacted, tmp_path, index, 60 if harm == "index" else 0)
    run_dir = config.with_suffix("")
    if harm == "data":
        shutil.copy(compacted / index, run_dir / index)
        (run_dir / "images/w00001/g00001.parquet").unlink()
    assert runs.finish(config) == 0, runs.output(config)
    done = lines_since(config, n_lines)
    folders = Counter(read_part(compacted / index)["folder"].to_pylist())
    assert done["compact"] == 1
    assert done["download"] == done["embed"] == folders["images"]
    assert done["dedup"] == (folders["fetch"] if harm == "index" else 0)
    assert runs.release_digests(run_dir) == runs.release_digests(compacted)


def test_what_an_attempt_that_was_cut_off_brings_too_late_does_not_count(
    compacted: Path, tmp_path: Path
):
    run_dir = copy_of(compacted, tmp_path).with_suffix("")
    index = read_part(run_dir / "compacted/w00000/g00000.parquet").to_pylist()
    name = next(row["unit"] for row in index if row["folder"] == "images")
    part = run_dir / f"images/{name}.parquet"
    late = Receipt(stage="download", unit=name, config="c", counts=Counts())
    assert write_part(part, OUTCOMES, [], late) == read_receipt(part) != late
    assert not part.exists()
    assert index_of(part) == run_dir / "compacted/w00000/g00000.parquet"
