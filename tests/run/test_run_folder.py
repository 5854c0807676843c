"""A run folder knows whose it is, what is done, and lets one driver in."""

import zlib
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from cah_dask.counts import Counts
from cah_dask.errors import ConfigError, DamageError, RunError
from cah_dask.run.folder.journal import Commit
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.settings.config import Config
from cah_dask.run.settings.loading import Loaded
from cah_dask.run.stages import DEDUP, DOWNLOAD, EMBED, EXTRACT, SELECT
from cah_dask.run.task import Done
from cah_dask.run.unit import Unit
from cah_dask.schema import CANDIDATES
from cah_dask.storage import Receipt, SideFile, write_part

ARCHIVES = ["a.warc.wat.gz", "b.warc.wat.gz"]


def loaded(folder: Path, **settings) -> Loaded:
    tree = {"run_dir": str(folder), "inputs": ["*.wat.gz"], **settings}
    return Loaded(msgspec.convert(tree, Config), {})


def receipt(unit: Unit, **details) -> Receipt:
    return Receipt(
        stage=unit.stage.name, unit=unit.name, config="c", counts=Counts(3, 3), **details
    )


def commit(unit: Unit, **details) -> Commit:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Commit(at, unit.stage.name, unit.name, "host/cpu-0", 1.5, receipt(unit, **details))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_a_run_can_be_left_and_taken_up_again(folder: RunFolder):
    with folder.driving(loaded(folder.path), ARCHIVES):
        pass
    with folder.driving(loaded(folder.path), ARCHIVES):
        assert folder.archives() == ARCHIVES


def test_a_config_that_would_change_results_is_refused_and_the_key_named(folder: RunFolder):
    with folder.driving(loaded(folder.path), ARCHIVES):
        pass
    with (
        pytest.raises(ConfigError, match=r"dedup\.buckets: 256, now it is 7"),
        folder.driving(loaded(folder.path, dedup={"buckets": 7}), ARCHIVES),
    ):
        pass


def test_other_pools_may_go_on_with_a_run(folder: RunFolder):
    with folder.driving(loaded(folder.path), ARCHIVES):
        pass
    with folder.driving(loaded(folder.path, pools={"cpu": {"workers": 7}}), ARCHIVES):
        pass


def test_other_inputs_are_refused(folder: RunFolder):
    with folder.driving(loaded(folder.path), ARCHIVES):
        pass
    with (
        pytest.raises(ConfigError, match="was begun with other inputs"),
        folder.driving(loaded(folder.path), [*ARCHIVES, "c.warc.wat.gz"]),
    ):
        pass


@pytest.mark.parametrize("data", [b'"a.warc.wat.gz"\n"b.wa', b'"a\xff"\n', b"1\n", None])
def test_a_damaged_list_of_archives_is_one_clear_error(folder: RunFolder, data: bytes | None):
    with folder.driving(loaded(folder.path), ARCHIVES):
        pass
    path = folder.path / "archives.jsonl"
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    with (
        pytest.raises(DamageError, match=r"archives\.jsonl is damaged: .* restore it"),
        folder.driving(loaded(folder.path), ARCHIVES),
    ):
        pass


def test_a_damaged_count_of_barren_attempts_begins_anew(folder: RunFolder):
    assert [folder.count_barren(has_committed=False) for _ in range(2)] == [1, 2]
    (folder.path / "logs/barren").write_bytes(b"\xff")
    assert folder.count_barren(has_committed=False) == 1


def test_a_folder_with_other_files_is_not_taken(folder: RunFolder):
    folder.path.mkdir()
    (folder.path / "thesis.tex").touch()
    with (
        pytest.raises(ConfigError, match="holds other files"),
        folder.driving(loaded(folder.path), ARCHIVES),
    ):
        pass
    assert [path.name for path in folder.path.iterdir()] == ["thesis.tex"]


def test_a_driver_that_died_before_its_config_does_not_block_the_folder(folder: RunFolder):
    folder.path.mkdir()
    (folder.path / ".tmp-0123-config.yaml").touch()
    (folder.path / "driver.lock").touch()
    with folder.driving(loaded(folder.path), ARCHIVES):
        assert not list(folder.path.glob(".tmp-*"))


def test_image_shards_of_attempts_that_died_are_deleted(folder: RunFolder):
    done, open_ = Unit(DOWNLOAD), Unit(DOWNLOAD, bucket=1)
    side = (SideFile("b00000-l00000-aa.h5", 1, ""),)
    with folder.driving(loaded(folder.path), ARCHIVES):
        write_part(folder.path / done.part, CANDIDATES, [], receipt(done, side=side))
        images = (folder.path / done.part).parent
        for name in ("b00000-l00000-aa.h5", "b00000-l00000-bb.h5", "b00001-l00000-cc.h5"):
            (images / name).touch()
        existing = folder.existing()
        assert existing(done) == receipt(done, side=side)
        assert existing(open_) is None
        assert [path.name for path in images.glob("*.h5")] == ["b00000-l00000-aa.h5"]


def test_a_path_that_is_no_folder_is_one_clear_error(folder: RunFolder):
    folder.path.write_text("a file")
    with (
        pytest.raises(ConfigError, match="cannot be written"),
        folder.driving(loaded(folder.path), ARCHIVES),
    ):
        pass


def test_a_second_driver_is_kept_out_and_told_who_is_at_work(folder: RunFolder):
    with (
        folder.driving(loaded(folder.path), ARCHIVES),
        pytest.raises(RunError, match=r"another driver \(pid \d+ on .+\) is at work"),
        RunFolder(folder.path).driving(loaded(folder.path), ARCHIVES),
    ):
        pass


def test_the_journal_survives_a_torn_last_line(folder: RunFolder):
    unit = Unit(EXTRACT, archive="a")
    with folder.driving(loaded(folder.path), ARCHIVES):
        folder.record(commit(unit))
    with (folder.path / "journal.jsonl").open("ab") as file:
        file.write(b'{"at": "2026-')
    with folder.driving(loaded(folder.path), ARCHIVES):
        folder.record(commit(unit))
    assert len(list(folder.commits())) == 2


def test_a_part_is_done_and_a_journal_line_alone_is_not(folder: RunFolder):
    done, lost = (Unit(EXTRACT, archive=name) for name in ARCHIVES)
    with folder.driving(loaded(folder.path), ARCHIVES):
        write_part(folder.path / done.part, CANDIDATES, [], receipt(done))
        folder.record(commit(done))
        folder.record(commit(lost))
        existing = folder.existing()
        assert existing(done) == receipt(done)
        assert existing(lost) is None


def test_a_part_that_the_journal_missed_is_found_and_written_down(folder: RunFolder):
    unit = Unit(EXTRACT, archive="a")
    with folder.driving(loaded(folder.path), ARCHIVES):
        write_part(folder.path / unit.part, CANDIDATES, [], receipt(unit, seconds=2.0))
        assert folder.existing()(unit) == receipt(unit, seconds=2.0)
        assert [line.unit for line in folder.commits()] == [unit.name]


def test_images_that_are_gone_before_they_were_embedded_are_downloaded_again(folder: RunFolder):
    unit = Unit(DOWNLOAD)
    side = (SideFile("b00000-l00000-aa.h5", 1, ""),)
    with folder.driving(loaded(folder.path), ARCHIVES):
        write_part(folder.path / unit.part, CANDIDATES, [], receipt(unit, side=side))
        assert folder.existing()(unit) is None
        assert not (folder.path / unit.part).exists()


def test_images_that_were_dropped_after_they_were_embedded_stay_done(folder: RunFolder):
    download, embed = Unit(DOWNLOAD), Unit(EMBED)
    side = (SideFile("b00000-l00000-aa.h5", 1, ""),)
    with folder.driving(loaded(folder.path), ARCHIVES):
        write_part(folder.path / download.part, CANDIDATES, [], receipt(download, side=side))
        write_part(folder.path / embed.part, CANDIDATES, [], receipt(embed))
        assert folder.existing()(download) == receipt(download, side=side)


def test_a_summary_counts_a_repeated_unit_once(folder: RunFolder):
    unit = Unit(EXTRACT, archive="a")
    with folder.driving(loaded(folder.path), ARCHIVES):
        folder.record(commit(unit, inputs=("a",), errors=("cut short",)))
        folder.record(commit(unit, inputs=("a",), errors=("cut short",)))
    summary = folder.summary()
    assert summary.stages["extract"].tasks == 1
    assert summary.counts("extract") == Counts(3, 3)
    assert summary.lost == ["a: cut short"]


def test_work_is_that_of_the_workers_that_did_it_whatever_the_pools_are_now(folder: RunFolder):
    workers = {0: "n1/io-0-3", 1: "n2/io-1-0", 2: "n1/cpu-0", 3: ""}
    with folder.driving(loaded(folder.path, pools={"cpu": {}, "gpu": {}}), ARCHIVES):
        for number, worker in workers.items():
            found = commit(Unit(DOWNLOAD, number=number))
            folder.record(msgspec.structs.replace(found, worker=worker))
    summary = folder.summary()
    assert summary.stages["download"].pools == {"cpu": 3.0, "io": 3.0}
    assert summary.pools["embed"] == "gpu", "that of the config, where nothing is done yet"
    with folder.driving(loaded(folder.path, pools={"cpu": {}}), ARCHIVES):
        folder.record(msgspec.structs.replace(commit(Unit(DOWNLOAD, number=4)), worker="n/io-7"))
    assert folder.summary().pools["download"] == "io"


def test_a_folder_that_is_no_run_folder_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="is not a run folder"):
        RunFolder(tmp_path).summary()


def test_a_line_is_not_believed_of_a_part_that_was_made_again(folder: RunFolder):
    unit = Unit(EMBED)
    with folder.driving(loaded(folder.path), ARCHIVES):
        write_part(folder.path / unit.part, CANDIDATES, [], receipt(unit))
        folder.record(commit(unit))
    (folder.path / unit.part).unlink()  # "delete it and run again"
    again = msgspec.structs.replace(receipt(unit), counts=Counts(7, 7))
    with folder.driving(loaded(folder.path), ARCHIVES):
        assert folder.existing()(unit) is None
        write_part(folder.path / unit.part, CANDIDATES, [], again)  # and the driver is killed
    with folder.driving(loaded(folder.path), ARCHIVES):
        assert folder.existing()(unit) == again
    with folder.driving(loaded(folder.path), ARCHIVES):
        (folder.path / unit.part).write_bytes(b"")  # so the line is read
        assert folder.existing()(unit) == again


def test_images_of_a_list_that_was_made_again_are_kept(folder: RunFolder):
    unit = Unit(DOWNLOAD)
    old, new = ((SideFile(f"b00000-l00000-{name}.h5", 1, ""),) for name in ("aa", "bb"))
    with folder.driving(loaded(folder.path), ARCHIVES):
        write_part(folder.path / unit.part, CANDIDATES, [], receipt(unit, side=old))
        folder.record(commit(unit, side=old))
        assert folder.existing()(unit) is None, "its images are gone"
        write_part(folder.path / unit.part, CANDIDATES, [], receipt(unit, side=new))
        shard = (folder.path / unit.part).with_name(new[0].name)
        shard.touch()
    with folder.driving(loaded(folder.path), ARCHIVES):
        assert folder.existing()(unit) == receipt(unit, side=new)
        assert shard.exists()


def test_versions_are_written_once_and_known_of_every_line(folder: RunFolder):
    versions = [{"python": "3.11"}, {"python": "3.12"}]
    units = [Unit(EXTRACT, archive=str(number)) for number in range(6)]
    commits = [commit(unit, versions=versions[number % 2]) for number, unit in enumerate(units)]
    for some in (commits[:4], commits[4:]):
        with folder.driving(loaded(folder.path), ARCHIVES):
            for each in some:
                write_part(
                    folder.path / f"candidates/{each.unit}.parquet", CANDIDATES, [], each.receipt
                )
                folder.record(each)
    assert list(folder.entries(EXTRACT)) == commits
    text = (folder.path / "journal.jsonl").read_text()
    assert [text.count(each["python"]) for each in versions] == [2, 2], "once for each driver"
    with folder.driving(loaded(folder.path), ARCHIVES):
        existing = folder.existing()
        assert [existing(unit) for unit in units] == [each.receipt for each in commits]


def test_lines_that_repeat_their_versions_are_read_as_well(folder: RunFolder):
    unit = Unit(EXTRACT, archive="a")
    written = commit(unit, versions={"python": "3.11"})
    with folder.driving(loaded(folder.path), ARCHIVES):
        line = msgspec.json.encode(written).removesuffix(b"}")
        with (folder.path / "journal.jsonl").open("ab") as file:
            file.write(b'%s,"crc32":"%08x"}\n' % (line, zlib.crc32(line)))
    assert list(folder.commits()) == [written]
    assert folder.summary().versions == {"python": "3.11"}


def scored_and_selected(folder: RunFolder) -> tuple[Unit, list[Unit]]:
    """Leave the parts of one list, and of what was made from it in two selections."""
    download, embed = Unit(DOWNLOAD), Unit(EMBED)
    selects = [Unit(SELECT, variant=variant) for variant in ("01234567", "89abcdef")]
    dedup = Unit(DEDUP)
    for unit in (dedup, download, embed, *selects):
        write_part(folder.path / unit.part, CANDIDATES, [], receipt(unit))
        folder.record(commit(unit))
    return embed, selects


def test_what_is_set_aside_stays_in_the_folder(folder: RunFolder):
    with folder.driving(loaded(folder.path), ARCHIVES):
        embed, selects = scored_and_selected(folder)
        folder.set_aside(EMBED, embed.name)
        moved = sorted(
            path.relative_to(folder.path / "damaged").as_posix()
            for path in (folder.path / "damaged").rglob("*.parquet")
        )
        assert moved == sorted([embed.part, *(unit.part for unit in selects)])
        assert {entry.stage for entry in folder.commits()} >= {"dedup", "download"}
        left = {path.parent.parent.name for path in folder.path.glob("*/w*/*.parquet")}
        assert left == {"fetch", "images"}


def test_with_a_scored_part_that_is_gone_go_its_selections(folder: RunFolder):
    with folder.driving(loaded(folder.path), ARCHIVES):
        embed, selects = scored_and_selected(folder)
        (folder.path / embed.part).unlink()
        existing = folder.existing()
        assert existing(Unit(DOWNLOAD)) is not None
        assert existing(embed) is None
        assert [existing(unit) for unit in selects] == [None, None]
        assert existing(Unit(DEDUP)) is not None


def test_a_damaged_part_takes_what_was_made_from_it_along_at_once(folder: RunFolder):
    with folder.driving(loaded(folder.path), ARCHIVES):
        embed, selects = scored_and_selected(folder)
        folder.void("download", Unit(DOWNLOAD).name)
        path = folder.path / Unit(DOWNLOAD).part
        path.write_bytes(path.read_bytes()[:-9])
        existing = folder.existing()
        units = [Unit(DOWNLOAD), embed, *selects]
        assert [existing(unit) for unit in units] == [None] * 4


def test_images_that_a_killed_driver_did_not_drop_are_dropped_at_the_next_start(
    folder: RunFolder,
):
    download, embed = Unit(DOWNLOAD), Unit(EMBED)
    side = (SideFile("b00000-l00000-aa.h5", 1, ""),)
    with folder.driving(loaded(folder.path), ARCHIVES):
        write_part(folder.path / download.part, CANDIDATES, [], receipt(download, side=side))
        write_part(folder.path / embed.part, CANDIDATES, [], receipt(embed))
        shard = (folder.path / download.part).with_name(side[0].name)
        shard.touch()
        for keep_images, is_there in ((True, True), (False, False)):
            existing = folder.existing(keep_images=keep_images)
            assert existing(download) is not None
            assert existing(embed) is not None
            assert shard.exists() is is_there


def test_a_lost_archive_is_not_extracted(folder: RunFolder):
    done, lost = (Unit(EXTRACT, archive=name) for name in ARCHIVES)
    with folder.driving(loaded(folder.path), ARCHIVES):
        for unit, counts in ((done, Counts(1, 1)), (lost, Counts(notes={"lost": 1}))):
            found = receipt(unit, inputs=(unit.archive,))
            found = msgspec.structs.replace(found, counts=counts)
            write_part(folder.path / unit.part, CANDIDATES, [], found)
            folder.commit(unit, Done(found, 1.0, ""))
    assert [folder.extracted()(name) for name in ARCHIVES] == [True, False]


def test_a_release_behind_a_link_is_made_where_the_link_leads(tmp_path: Path):
    (tmp_path / "large").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "release").symlink_to(tmp_path / "large" / "laion")
    folder = RunFolder(tmp_path / "run")
    assert folder.release == tmp_path / "large" / "laion"
    assert folder.unfinished_release.parent == folder.old_release.parent == tmp_path / "large"
