"""What the report of a run says of it, from all that its folder holds."""

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from cah_dask.counts import Counts
from cah_dask.release.pool_time import PoolTime, PoolTimes
from cah_dask.run.folder.failures import Then, note
from cah_dask.run.folder.faults import LOST_FOR_NOW
from cah_dask.run.folder.journal import Commit
from cah_dask.run.folder.lost import LATE_FILE
from cah_dask.run.folder.run_folder import LOST, RunFolder
from cah_dask.run.publish import describe
from cah_dask.run.settings.identity import variants
from cah_dask.run.settings.loading import Loaded
from cah_dask.run.stages import DOWNLOAD, EMBED, EXTRACT, SELECT, Stage
from cah_dask.run.task import Failed
from cah_dask.run.unit import Unit
from cah_dask.storage import Receipt
from tests.run.test_run_folder import ARCHIVES, loaded
from tests.run.watch.loads import NOW

REFUSES, FAILS = "shop.example", "dead.example"
OUTCOMES = Counts(1000, 700, {"http_403": 120, "timeout": 180})
HOSTS = {REFUSES: {"http_403": 100}, FAILS: {"timeout": 170, "ok": 1}}


def told(folder: RunFolder) -> Loaded:
    return loaded(folder.path, pools={"cpu": {"workers": 2}, "io": {"workers": 4}, "gpu": {}})


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Return the folder of a run of one list, whose driver was killed."""
    made = RunFolder(tmp_path / "run")
    with made.driving(told(made), ARCHIVES):
        commit(made, EXTRACT, "w00000/a", Counts(2000, 1000, {"no_text": 1000}), 60)
        commit(made, DOWNLOAD, "w00000/b00000-l00000", OUTCOMES, 7000, hosts=HOSTS)
        commit(made, EMBED, "w00000/b00000-l00000", Counts(1000, 700, OUTCOMES.rejected), 1800,
               timings={"worker": 1_800_000, "model": 1_700_000, "input": 9000})  # fmt: skip
    return made


def commit(
    folder: RunFolder, stage: Stage, unit: str, counts: Counts, seconds: float, **facts
) -> None:
    receipt = Receipt(stage=stage.name, unit=unit, config="c", counts=counts, **facts)
    at = NOW + timedelta(seconds=seconds)
    folder.record(Commit(at, stage.name, unit, f"n/{stage.pool}-0", seconds, receipt))


def lose(folder: RunFolder) -> None:
    with folder.driving(told(folder), ARCHIVES):
        commit(folder, EXTRACT, "w00000/b", Counts(notes={LOST: 1}), 1, inputs=("b.warc.wat.gz",),
               errors=(f"{LOST_FOR_NOW}404",))  # fmt: skip


def found(folder: RunFolder) -> str:
    """Return what the report says before the funnel."""
    page = describe(folder, folder.release).read_text()
    return page.partition("<h2>What stands out</h2>")[2].partition("<h2>Funnel</h2>")[0]


def test_a_run_that_is_not_finished_is_judged_so_far(folder: RunFolder):
    text = found(folder)
    assert "the run is not finished and no driver is at work" in text
    assert f"{REFUSES} refused 100 of 100 urls (most are http_403)" in text
    assert "add it to the file OPTOUT of the run" in text
    assert f"{FAILS} alone has 170 of 300 urls that came to nothing" in text
    assert (
        f'<bdi>{FAILS}</bdi></td><td class="number" data-label="Urls in trouble">170</td>' in text
    )


def test_a_host_that_opted_out_is_in_the_table_and_nobody_is_told_to_add_it(folder: RunFolder):
    folder.optout_file.write_text(f"{REFUSES}\n")
    text = found(folder)
    assert f"{REFUSES} refused" not in text
    assert f"<bdi>{REFUSES}</bdi>" in text


def test_tasks_are_given_up_until_they_are_done(folder: RunFolder):
    unit = Unit(EMBED, 0, 0, 1)
    for attempt, then in ((1, Then.AGAIN), (2, Then.GIVEN_UP)):
        note(folder.failures_file, unit, Failed("no"), attempt, then)
    assert "1 task of embed was given up" in found(folder)
    with folder.driving(told(folder), ARCHIVES):
        commit(folder, EMBED, unit.name, Counts(), 10**8)
    assert "given up" not in found(folder)


def test_tasks_of_another_release_are_not_given_up_of_this_one(folder: RunFolder):
    mine = variants(folder.config())[SELECT.name]
    for variant, is_told in (("deadbeef", False), (mine, True)):
        unit = Unit(SELECT, 0, 0, 1, variant=variant)
        note(folder.failures_file, unit, Failed("no"), 1, Then.GIVEN_UP)
        assert ("1 task of select was given up" in found(folder)) is is_told


def test_an_archive_is_lost_until_it_is_asked_for_again(folder: RunFolder):
    assert "gave nothing" not in found(folder)
    lose(folder)
    assert "1 archive of 2 gave nothing" in found(folder)
    (folder.path / LATE_FILE).write_bytes(msgspec.json.encode([["b.warc.wat.gz"]]))
    assert "gave nothing" not in found(folder)


def test_pools_are_judged_by_what_was_held(folder: RunFolder):
    times = PoolTimes(NOW, {
        pool: PoolTime(looked_s=1800, held_s=1800 * n, connected_s=1800 * n,
                       midst_s=1800, midst_workers_s=1800 * n, busy_s=1800 * busy)
        for pool, n, busy in (("gpu", 1, 1.0), ("io", 4, 0.9), ("cpu", 2, 0.1))
    })  # fmt: skip
    folder.pool_times_file.write_bytes(msgspec.json.encode(times))
    assert "embed" not in found(folder), "it had enough to do"
    times.pools["gpu"] = msgspec.structs.replace(times.pools["gpu"], ready_s={"embed": 1800 * 30.0})
    folder.pool_times_file.write_bytes(msgspec.json.encode(times))
    assert "embed holds the run back: its workers are busy 100% of the time" in found(folder)


def test_an_archive_with_many_faults_is_one_archive_and_lists_are_none(folder: RunFolder):
    with folder.driving(told(folder), ARCHIVES):
        for wave in range(3):
            commit(folder, EXTRACT, f"w{wave:05d}/a", Counts(), 1, inputs=("a.warc.wat.gz",),
                   errors=("cut after 9 records", "damaged at byte 70"))  # fmt: skip
        for number in range(1, 50):
            unit = f"w00000/b{number:05d}-l00000"
            commit(folder, DOWNLOAD, unit, Counts(), 1, inputs=(f"fetch/{unit}.parquet",),
                   errors=("a.warc.gz: cut after 9 records",))  # fmt: skip
    text = found(folder)
    assert "1 archive of 2 could not be read whole" in text
    assert "49 lists of 50 lack pictures of archives that could not be read whole" in text


def test_lists_of_late_texts_which_only_embed_has_are_drawn_and_no_list_twice(folder: RunFolder):
    late = ["w00002/b00000-l00000", "w00002/b00000-l00001"]
    with folder.driving(told(folder), ARCHIVES):
        for unit in late:
            commit(folder, EMBED, unit, Counts(), 1)
    every = ["w00000/b00000-l00000", *late]
    assert sorted(folder.lists(7, 10)) == every
    assert sorted(folder.summary().lists) == every
    assert len(folder.lists(7, 2)) == 2


@pytest.mark.parametrize(("midst_s", "is_said"), [(59, False), (61, True)])
def test_that_no_pool_waited_is_said_where_that_is_known(
    tmp_path: Path, midst_s: float, *, is_said: bool
):
    folder = RunFolder(tmp_path / "calm")
    times = {
        pool: PoolTime(looked_s=90, held_s=90, connected_s=90, midst_s=midst_s, busy_s=midst_s)
        for pool in ("gpu", "io")
    }
    with folder.driving(told(folder), ARCHIVES):
        commit(folder, EMBED, "w00000/b00000-l00000", Counts(9, 9), 60)
        folder.pool_times_file.write_bytes(msgspec.json.encode(PoolTimes(NOW, times)))
        text = found(folder)
    assert "Nothing stands out" in text
    assert ("no pool waited long for another" in text) is is_said
