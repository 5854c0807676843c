"""What commands say of a run folder, however odd what lies in it."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from cah_dask.run.folder.failures import Then, note, read, undone
from cah_dask.run.folder.lock import Lease
from cah_dask.run.folder.lost import write_lost
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.settings.identity import variants
from cah_dask.run.stages import DOWNLOAD, EMBED, EXTRACT, PACK, SELECT, Stage
from cah_dask.run.task import Done, Failed
from cah_dask.run.unit import Unit
from cah_dask.run.watch.figures import NOT_DRIVEN
from cah_dask.schema import CANDIDATES
from cah_dask.storage import write_part
from tests.commands import cah, start
from tests.run.test_run_folder import ARCHIVES, commit, loaded, receipt

LIST = Unit(EMBED, 0, 3, 0)
FIRST, SECOND = (Unit(EXTRACT, 0, archive=name) for name in ARCHIVES)


def begun(path: Path, *done: Unit, errors: tuple[str, ...] = (), lost: str = "") -> RunFolder:
    """A run of which some units are done; the first has errors or is lost."""
    folder = RunFolder(path)
    with folder.driving(loaded(path), ARCHIVES):
        for unit in done:
            if lost and unit == done[0]:
                found = write_lost(folder, unit, "c", lost)
            else:
                faults = errors if unit == done[0] else ()
                found = receipt(unit, inputs=(unit.archive,), errors=faults)
                write_part(path / unit.part, CANDIDATES, [], found)
            folder.commit(unit, Done(found, 1.0, ""))
    return folder


def fail(folder: RunFolder, *thens: Then, message: str = "no memory", unit: Unit = LIST) -> None:
    folder.failures_file.parent.mkdir(exist_ok=True)
    for number, then in enumerate(thens, 1):
        note(folder.failures_file, unit, Failed(message), number, then)


@pytest.mark.parametrize(
    ("thens", "told"),
    [
        ((Then.AGAIN, Then.GIVEN_UP), Then.GIVEN_UP),
        ((Then.GIVEN_UP, Then.AGAIN), Then.GIVEN_UP),
        ((Then.STOPPED, Then.AGAIN, Then.AGAIN), Then.STOPPED),
        ((Then.GIVEN_UP, Then.AGAIN, Then.STOPPED, Then.AGAIN), Then.STOPPED),
        ((Then.AGAIN, Then.AGAIN), None),
    ],
)
def test_what_was_given_up_stays_so_until_it_is_done(tmp_path: Path, thens, told):
    folder = begun(tmp_path / "run")
    fail(folder, *thens)
    failures = list(read(folder.failures_file))
    assert [each.then for each in undone(failures, list, {})] == [told] * (told is not None)
    late = msgspec.structs.replace(commit(LIST), at=datetime.now(UTC) + timedelta(seconds=9))
    assert undone(failures, lambda: [late], {}) == []


@pytest.mark.parametrize("then", [Then.GIVEN_UP, Then.STOPPED])
@pytest.mark.parametrize("stage", [SELECT, PACK])
def test_what_was_given_up_of_another_release_is_told_only_among_all(
    tmp_path: Path, stage: Stage, then: Then
):
    folder = begun(tmp_path / "run")
    mine = variants(folder.config())[stage.name]
    told = {}
    for variant in ("deadbeef", mine):
        fail(folder, then, unit=Unit(stage, 0, 3, 0, variant=variant))
        told[variant] = cah("failures", folder.path)
    assert told["deadbeef"][:2] == (0, ["no task was given up, no archive was lost"])
    code, lines, _ = told[mine]
    assert (code, len(lines)) == (6, 1)
    assert f" {stage.name} {mine}/" in lines[0]
    assert len(cah("failures", folder.path, "--all")[1]) == 2


def test_a_failure_is_a_line_whatever_it_says(tmp_path: Path):
    folder = begun(tmp_path / "run", FIRST, errors=("cut\nlost: x",))
    fail(folder, Then.GIVEN_UP, message="no memory\nlost: a.warc.wat.gz: forged")
    code, lines, _ = cah("failures", folder.path)
    assert (code, len(lines)) == (6, 2)
    assert lines[0].endswith("no memory lost: a.warc.wat.gz: forged")
    assert lines[1] == f"read in part: {ARCHIVES[0]}: cut lost: x"


def test_of_an_archive_that_was_read_in_part_no_retry_is_promised(tmp_path: Path):
    folder = begun(tmp_path / "run", FIRST, SECOND, errors=("cut after 120 records",))
    code, lines, said = cah("failures", folder.path)
    assert code == 0
    assert lines == [
        f"read in part: {ARCHIVES[0]}: cut after 120 records",
        "no task was given up, no archive was lost",
    ]
    assert "cah retry" not in said


def test_of_an_archive_that_is_lost_a_retry_is_promised_until_it_came(tmp_path: Path):
    folder = begun(tmp_path / "run", FIRST, SECOND, lost="HTTP 404")
    code, lines, said = cah("failures", folder.path)
    assert (code, lines) == (6, [f"lost: {ARCHIVES[0]}: lost for now: HTTP 404"])
    assert "cah retry" in said
    late = Unit(EXTRACT, 1, archive=FIRST.archive)
    with folder.driving(loaded(folder.path), ARCHIVES):
        found = receipt(late, inputs=(late.archive,))
        write_part(folder.path / late.part, CANDIDATES, [], found)
        folder.commit(late, Done(found, 1.0, ""))
    assert cah("failures", folder.path)[:2] == (0, ["no task was given up, no archive was lost"])


def test_a_lock_of_another_machine_is_no_driver_until_it_beats(tmp_path: Path):
    folder = begun(tmp_path / "run", FIRST)
    (folder.path / "driver.lock").write_bytes(msgspec.json.encode(Lease("node17", 1, 1.0)))
    _, (line,), _ = cah("retry", folder.path)
    assert line.startswith("no driver is at work: the command that began the run")
    assert not folder.retry_file.exists()
    assert "perhaps at work: pid 1 on node17" in table(tmp_path)[0]
    _, lines, _ = cah("resume", folder.path)
    assert lines[0] == "downloads were not paused"
    assert "cah run CONFIG" in lines[1]


def table(folder: Path) -> list[str]:
    """The rows of `cah runs`."""
    code, lines, _ = cah("runs", folder, env={**os.environ, "COLUMNS": "400"})
    assert code == 0
    return lines[1:]


def test_a_damaged_run_is_a_line_of_the_table_and_what_lies_in_a_run_is_none(tmp_path: Path):
    runs = [begun(tmp_path / "all" / name, FIRST) for name in ("a", "b", "c/d", "e")]
    begun(runs[0].path / "inner", FIRST)
    (runs[1].path / "config.yaml").write_text("inputs: [")
    (runs[3].path / "archives.jsonl").write_text("{")
    rows = table(tmp_path / "all")
    assert [row.split()[0] for row in rows] == [str(run.path) for run in runs]
    assert ["damaged: " in row for row in rows] == [False, True, False, True]
    for number in (0, 2):
        assert rows[number].split()[1:3] == ["1/2", "0"]
        assert rows[number].rstrip().endswith(NOT_DRIVEN)


def test_of_an_endless_line_the_end_is_shown(tmp_path: Path):
    folder = begun(tmp_path / "run")
    folder.log_file.write_bytes(b"first\n" + b"x" * (40 << 20) + b"\nlast\n")
    _, lines, _ = cah("logs", folder.path, "-n", "2")
    assert lines[-1] == "last"
    assert 15 << 20 < len(lines[-2]) <= 16 << 20
    assert cah("logs", folder.path, "-n", "1")[1] == ["last"]


def test_whoever_follows_sees_the_logs_of_later_jobs(tmp_path: Path):
    folder = begun(tmp_path / "run")
    jobs = folder.path / "jobs"
    jobs.mkdir()
    (jobs / "cpu-1.out").write_text("first\n")
    process = start("logs", folder.path, "cpu", "--follow")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        (jobs / "cpu-2.out").write_text("second\n")
        assert [process.stdout.readline() for _ in range(2)] == ["== cpu-2.out\n", "second\n"]
    finally:
        process.kill()
        process.communicate()


def test_lists_of_the_bucket_of_a_host_are_drawn_first(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    with folder.driving(loaded(folder.path), ARCHIVES):
        for bucket in range(256):
            folder.record(commit(Unit(DOWNLOAD, 0, bucket, 0)))
    drawn = folder.lists(0, 256)
    for host, bucket in (("a.example", 175), ("b.example", 121)):
        near = folder.lists(0, 20, host)
        assert near[0] == f"w00000/b{bucket:05d}-l00000"
        assert near[1:] == [name for name in drawn if name != near[0]][:19]
