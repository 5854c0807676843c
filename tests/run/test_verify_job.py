"""`cah verify` as a user types it: sound, damaged, interrupted, mended."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from cah_dask.counts import Counts
from cah_dask.curate.uid_ranges import MOST_RANGES, ROWS_PER_RANGE, UIDS, n_ranges
from cah_dask.run.folder.job_folder import JobFolder
from cah_dask.run.folder.journal import Void
from cah_dask.run.stages import Stage
from cah_dask.run.stagewise import Stagewise
from cah_dask.run.task import Done
from cah_dask.run.unit import Unit
from cah_dask.run.verify import CHECK, UNIQUE, VERIFY, VerifyJob, _Sound, check_task
from cah_dask.storage import Receipt, read_part, read_receipt, write_part
from tests import releases, runs
from tests.release.test_check import damage_bytes
from tests.webserver import WebServer

LINKS = 60


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> Path:
    """A release of sixty pairs in fifteen parts."""
    folder = tmp_path_factory.mktemp("verify")
    with WebServer() as web:
        links = [
            (web.url(f"/ok-{n}.jpg", host=f"h{n % 7}.test"), f"A picture of thing {n}")
            for n in range(LINKS)
        ]
        inputs = runs.write_inputs(folder / "wats", links, archives=1)
        path = runs.write_config(
            folder / "run.yaml",
            inputs=inputs,
            model=random_model,
            port=web.port,
            pack={"rows_per_shard": 4, "rows_per_chunk": 2},
        )
        assert runs.finish(path) == 0, runs.output(path)
    return folder / "run" / "release"


@pytest.fixture
def release(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "release"))


def start(release: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cah_dask", "verify", str(release), *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def verify(release: Path, *options: str) -> tuple[int, list[str], str]:
    """Verify a release; return the exit code, the faults, and what else was printed."""
    process = start(release, *options)
    faults, said = process.communicate(timeout=120)
    return process.returncode, faults.splitlines(), said


def test_a_sound_release_is_called_sound_and_nothing_stays_behind(release: Path):
    code, faults, said = verify(release)
    assert (code, faults) == (0, []), said
    assert f"sound: {LINKS} pairs" in said
    assert f"check 15/15 tasks, {LINKS} of {LINKS} rows" in said
    assert [path.name for path in release.parent.iterdir()] == ["release"]


def test_ten_damages_at_once_are_each_named(release: Path):
    (vectors,) = release.glob("embeddings.zarr/*/")
    (release / "pairs" / "draft.txt").touch()
    (release / "report.html").unlink()
    (vectors / "image" / "c.0.0").unlink()
    (release / "pairs" / "part-00001.parquet").unlink()
    damage_bytes(vectors / "text" / "c.2.0")
    damage_bytes(release / "pairs" / "part-00003.parquet")
    damage_bytes(vectors.parent / "zarr.json")
    (vectors / "image" / "c.4.0").write_bytes(b"")
    shutil.copy(release / "pairs" / "part-00006.parquet", release / "pairs" / "part-00005.parquet")
    shutil.copy(vectors / "text" / "c.8.0", vectors / "text" / "c.7.0")
    code, faults, said = verify(release)
    assert code == 5, said
    expected = [
        "pairs/draft.txt: it does not belong to the release",
        "report.html: it is not there",
        f"embeddings.zarr/{vectors.name}/image/c.0.0: it is not there",
        "pairs/part-00001.parquet: it is not there",
        f"embeddings.zarr/{vectors.name}/text/c.2.0 is damaged: its bytes are not those written",
        "pairs/part-00003.parquet is damaged",
        "embeddings.zarr/zarr.json: it is not what layout.json asks for",
        f"embeddings.zarr/{vectors.name}/image/c.4.0 is damaged: it has 0 bytes",
        "pairs/part-00005.parquet: its receipt is that of pack part-00006",
        f"embeddings.zarr/{vectors.name}/text/c.7.0 is damaged: its bytes are not those written",
    ]
    for line in expected:
        assert any(fault.startswith(line) for fault in faults), (line, faults)
    numbers = "01234578"
    assert not [fault for fault in faults if "part-" in fault and fault[11:16][-1] not in numbers]
    assert "Traceback" not in said
    assert not release.with_name("release.verify").exists()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_what_was_checked_before_an_end_is_not_checked_again(
    release: Path, tmp_path: Path, kind: signal.Signals
):
    scratch = tmp_path / "scratch"
    options = ("--scratch", str(scratch), "--set", "pools.cpu.workers=1")
    first = start(release, *options)

    def n_done() -> int:
        return sum(len(path.read_bytes().splitlines()) for path in scratch.glob("*/journal.jsonl"))

    assert runs.wait_for(lambda: n_done() >= 3)
    first.send_signal(kind)
    _, said = first.communicate(timeout=60)
    if kind is signal.SIGINT:
        assert first.returncode == 75
        assert "run the same command again to resume" in said
    (journal,) = scratch.glob("*/journal.jsonl")
    before = {json.loads(line)["unit"] for line in journal.read_text().splitlines()}
    assert 3 <= len(before) < 15
    parts = {path.stem: path.stat().st_mtime_ns for path in scratch.glob("*/checked/*")}
    second = start(release, *options)
    assert runs.wait_for(lambda: n_done() > len(before) or second.poll() is not None)
    times = {path.stem: path.stat().st_mtime_ns for path in scratch.glob("*/checked/*")}
    assert all(times.get(name, time) == time for name, time in parts.items())
    _, said = second.communicate(timeout=120)
    assert second.returncode == 0, said
    assert not scratch.exists()


def test_what_was_mended_meanwhile_is_looked_at_again(release: Path, tmp_path: Path):
    part = release / "pairs" / "part-00000.parquet"
    data = part.read_bytes()
    part.unlink()
    options = ("--scratch", str(tmp_path / "s"), "--set", "pools.cpu.workers=1")
    first = start(release, *options)
    assert runs.wait_for(lambda: bool(list(tmp_path.glob("s/*/checked/part-0000[0-2]*"))))
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert first.returncode == 75
    part.write_bytes(data)
    code, faults, said = verify(release, *options)
    assert (code, faults) == (0, []), said


def without_urls(rows: pa.Table) -> pa.Table:
    return rows.drop("url")


def without_hex(rows: pa.Table) -> pa.Table:
    place = rows.column_names.index("uid")
    return rows.set_column(place, rows.schema.field("uid"), pa.array(["no uid"] * len(rows)))


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (without_urls, "pairs/part-00000.parquet: its columns are not those of a release"),
        (
            without_hex,
            "pairs/part-00000.parquet: row 0: its uid is not the md5 of its text and url",
        ),
    ],
)
def test_faults_are_named_where_lists_cannot_be_compared(tmp_path: Path, spoil, line: str):
    folder = releases.make(tmp_path, range(4))
    part = folder / "pairs" / "part-00000.parquet"
    rows = spoil(read_part(part))
    write_part(part, rows.schema, [rows], read_receipt(part), replace=True)
    lists = {"uids": tmp_path / "uids", "urls": tmp_path / "urls"}
    lists["uids"].write_text("ab" * 16 + "\n")
    lists["urls"].write_text("http://a.example/\n")
    job = VerifyJob(folder, tmp_path / "scratch", lists)
    task = job.task_of(Unit(CHECK, number=0), is_last_attempt=False)
    assert line in check_task(task).errors


def test_a_folder_that_is_no_release_is_refused(tmp_path: Path):
    code, _, said = verify(tmp_path)
    assert code == 4
    assert said.startswith(f"error: {tmp_path} is no release")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_option_is_refused(release: Path):
    code, _, said = verify(release, "--set", "pools.cpu.wokers=1")
    assert code == 3
    assert "did you mean pools.cpu.workers" in said


def test_ranges_grow_with_the_rows():
    sizes = [0, 1, ROWS_PER_RANGE, ROWS_PER_RANGE + 1, 5 * ROWS_PER_RANGE, 10**11]
    ranges = [n_ranges(size) for size in sizes]
    assert ranges == [1, 1, 1, 2, 8, MOST_RANGES]


def receipt(unit: Unit, *errors: str) -> Receipt:
    return Receipt(
        stage=unit.stage.name, unit=unit.name, config="", counts=Counts(1, 1), errors=errors
    )


def write(folder: JobFolder, unit: Unit, *errors: str) -> None:
    done = receipt(unit, *errors)
    write_part(folder.path / unit.part, UIDS, [], done)
    folder.commit(unit, Done(done, 0.0, ""))


def test_each_faulty_part_and_each_range_of_uids_is_voided_once(tmp_path: Path):
    folder = JobFolder(tmp_path, VERIFY)
    checks = [Unit(CHECK, number=number) for number in range(5)]
    ranges = [Unit(UNIQUE, bucket=number) for number in range(3)]
    with folder.held():
        for unit in checks:
            write(folder, unit, *["a fault"] * (unit.number > 1))
        for unit in ranges:
            write(folder, unit)
    with folder.held():
        sound = _Sound(folder)
        assert [sound(unit) is not None for unit in checks] == [True, True, False, False, False]
        assert [sound(unit) for unit in ranges] == [None] * 3
    voids = [
        entry.unit for stage in VERIFY for entry in folder.entries(stage) if isinstance(entry, Void)
    ]
    assert sorted(voids) == sorted(unit.name for unit in (*checks[2:], *ranges))
    assert [path.stem for path in sorted(tmp_path.rglob("*.parquet"))] == [
        unit.name for unit in checks[:2]
    ]


def test_of_ranges_of_uids_only_the_faulty_ones_are_compared_again(tmp_path: Path):
    folder = JobFolder(tmp_path, VERIFY)
    ranges = [Unit(UNIQUE, bucket=number) for number in range(3)]
    with folder.held():
        for unit in ranges:
            write(folder, unit, *["twice"] * (unit.bucket == 1))
        sound = _Sound(folder)
        assert [sound(unit) is not None for unit in ranges] == [True, False, True]


def take(plan: Stagewise, stage: Stage) -> Unit:
    unit = plan.take([stage])
    assert unit is not None
    return unit


def test_a_stage_begins_when_the_one_before_is_done():
    plan = Stagewise({CHECK: 3, UNIQUE: 2}, lambda _: None)
    checks = [take(plan, CHECK) for _ in range(3)]
    assert [unit.number for unit in checks] == [0, 1, 2]
    assert plan.take([CHECK, UNIQUE]) is None
    for unit in reversed(checks):
        assert plan.waiting([UNIQUE]) == 0
        plan.complete(unit, receipt(unit, f"fault {unit.number}"))
    assert plan.waiting([UNIQUE]) == 2
    assert plan.waiting([CHECK]) == 0
    assert plan.errors == ["fault 0", "fault 1", "fault 2"]
    assert take(plan, UNIQUE).bucket == 0


def test_a_stage_after_one_that_was_given_up_is_not_begun():
    plan = Stagewise({CHECK: 2, UNIQUE: 1}, lambda _: None)
    one, other = take(plan, CHECK), take(plan, CHECK)
    plan.fail(one, "no way")
    plan.complete(other, receipt(other))
    assert plan.take([UNIQUE]) is None
    assert list(plan.failed.values()) == ["no way"]


def test_units_that_are_done_are_not_offered():
    done = {0, 2}
    plan = Stagewise(
        {CHECK: 3, UNIQUE: 1},
        lambda unit: receipt(unit) if unit.stage == CHECK and unit.number in done else None,
    )
    assert take(plan, CHECK).number == 1
    assert plan.take([CHECK]) is None
    assert (plan.done[CHECK], plan.counts[CHECK].seen) == (2, 2)
