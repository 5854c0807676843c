"""A run is followed by its files: also by those beside the journal, and to where it ends."""

import io
import os
import shutil
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from cah_dask.counts import Counts
from cah_dask.release.layout import LAYOUT, Layout, part_path
from cah_dask.release.pack import create_release
from cah_dask.release.summary import funnel
from cah_dask.run.folder.journal import Commit
from cah_dask.run.folder.lost import LATE_FILE
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.folder.run_settings import ARCHIVES_FILE, settle
from cah_dask.run.publish import layout_of
from cah_dask.run.settings.identity import variants
from cah_dask.run.settings.loading import Loaded
from cah_dask.run.stages import DEDUP, DOWNLOAD, EMBED, EXTRACT, PACK, SELECT, Stage
from cah_dask.run.watch import terminal
from cah_dask.run.watch.figures import AT_WORK, NOT_DRIVEN, PACKED, PUBLISHED, Figures, ListsFigures
from cah_dask.run.watch.from_files import FromFiles
from cah_dask.storage import Receipt
from tests.commands import cah
from tests.run.test_run_folder import ARCHIVES, loaded
from tests.run.watch.loads import NOW
from tests.run.watch.test_lists import write

LIST = "w00000/b00000-l00000"


@pytest.fixture
def told(tmp_path: Path) -> Loaded:
    return loaded(
        tmp_path / "run",
        archives_per_wave=2,
        dedup={"buckets": 1},
        select={"thresholds": {"en": 0.25}},
        compact=False,
    )


@pytest.fixture
def folder(tmp_path: Path, told: Loaded) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    with made.driving(told, ARCHIVES):
        pass
    return made


def done(folder: RunFolder, told: Loaded, *units: tuple[Stage, str], kept: int = 5) -> None:
    """Have a driver write down that some units are done."""
    with folder.driving(told, ARCHIVES):
        for number, (stage, unit) in enumerate(units):
            notes = {"lists": 1, "late_lists": 0} if stage == DEDUP else {}
            counts = Counts(kept, kept, notes=notes)
            receipt = Receipt(stage=stage.name, unit=unit, config="c", counts=counts)
            at = NOW + timedelta(seconds=number)
            folder.record(Commit(at, stage.name, unit, "n/cpu-0", 1.0, receipt))


def all_units(folder: RunFolder) -> list[tuple[Stage, str]]:
    """Return all units of the run, the shards of its release last."""
    mine = variants(folder.config())
    return [
        *((EXTRACT, f"w00000/{archive}") for archive in ("a", "b")),
        (DEDUP, "w00000/b00000"),
        (DOWNLOAD, LIST),
        (EMBED, LIST),
        (SELECT, f"{mine['select']}/{LIST}"),
        (PACK, f"{mine['pack']}/part-00000"),
    ]


def release(folder: RunFolder, settings: str, shards: int = 1) -> None:
    """Have a release in the folder, of its settings and so many shards."""
    layout = Layout(5 * shards, (), "clip", settings, rows_per_shard=5, rows_per_chunk=5,
                    slices_sha256="")  # fmt: skip
    folder.release.mkdir(exist_ok=True)
    (folder.release / LAYOUT).write_bytes(msgspec.json.encode(layout))
    for number in range(shards):
        shard = part_path(folder.release, number)
        shard.parent.mkdir(exist_ok=True)
        shard.touch()


def settle_thresholds(folder: RunFolder) -> None:
    select = folder.config().select
    settle(folder.path, msgspec.structs.replace(select, thresholds={"en": 0.5}))


def more_archives(folder: RunFolder) -> None:
    lines = [msgspec.json.encode(name) + b"\n" for name in (*ARCHIVES, "c.warc.wat.gz")]
    (folder.path / ARCHIVES_FILE).write_bytes(b"".join(lines))


def late_archives(folder: RunFolder) -> None:
    (folder.path / LATE_FILE).write_bytes(msgspec.json.encode([["a.warc.wat.gz"]]))


def seen(figures: Figures) -> Figures:
    return msgspec.structs.replace(figures, at=NOW)


@pytest.mark.parametrize("change", [settle_thresholds, more_archives, late_archives])
def test_what_changes_beside_the_journal_is_learnt(
    folder: RunFolder, told: Loaded, change: Callable[[RunFolder], None]
):
    done(folder, told, *all_units(folder)[:-1])
    source = FromFiles(folder)
    before = source.figures()
    change(folder)
    assert seen(source.figures()) == seen(FromFiles(folder).figures()) != seen(before)


def test_a_release_that_is_packed_anew_is_counted_once(folder: RunFolder, told: Loaded):
    units = all_units(folder)
    done(folder, told, *units)
    source = FromFiles(folder)
    source.figures()
    done(folder, told, units[-1])
    pack = source.figures().stage("pack")
    assert pack is not None
    assert (pack.done, pack.known, pack.kept) == (1, 1, 5)


def release_of(folder: RunFolder, place: Path, n_shards: int, n_there: int = 0) -> None:
    """Create a release of the run of so many shards, of which the first are there."""
    config = folder.config()
    rows = n_shards * config.pack.rows_per_shard
    layout = layout_of(config, config.select)
    create_release(
        place, msgspec.structs.replace(layout, rows=rows, config=variants(config)["pack"])
    )
    for number in range(n_there):
        shard = part_path(place, number)
        shard.parent.mkdir(exist_ok=True)
        shard.touch()


def packed(source: FromFiles) -> tuple[int, int, int]:
    """Return done, known and kept of pack."""
    pack = source.figures().stage("pack")
    assert pack is not None
    return pack.done, pack.known, pack.kept


def test_of_a_release_that_is_made_anew_what_is_there_counts(folder: RunFolder, told: Loaded):
    *before, shard = all_units(folder)
    shards = [(PACK, f"{shard[1][:-1]}{number}") for number in range(3)]
    release_of(folder, folder.release, 3, n_there=3)
    done(folder, told, *before, *shards)
    source = FromFiles(folder)
    assert packed(source) == (3, 3, 15)
    shutil.rmtree(folder.release)
    with folder.driving(told, ARCHIVES):
        for each in (source, FromFiles(folder)):
            assert packed(each) == (0, 0, 0), "nothing is begun"
            assert not each.figures().verdict[0].startswith("all tasks are done")
        release_of(folder, folder.unfinished_release, 3)
        assert packed(source) == (0, 3, 0)
    release_of(folder, folder.unfinished_release, 3, n_there=1)
    done(folder, told, shards[0], kept=4)
    for each in (source, FromFiles(folder)):
        assert packed(each) == (1, 3, 4)


def test_the_release_of_another_selection_is_not_that_of_this_one(folder: RunFolder, told: Loaded):
    units = all_units(folder)
    release_of(folder, folder.release, 1, n_there=1)
    done(folder, told, *units)
    settle_thresholds(folder)
    assert packed(FromFiles(folder)) == (0, 0, 0)


def test_packing_anew_has_no_line_of_the_journal_read_again(folder: RunFolder, told: Loaded):
    units = all_units(folder)
    done(folder, told, *units)
    source = FromFiles(folder)
    source.figures()
    done(folder, told, units[-1])
    journal = folder.journal_file
    size, lines = journal.stat().st_size, journal.read_bytes().splitlines(keepends=True)
    with journal.open("r+b") as file:  # what was read before is not there any more
        file.write(b" " * (size - len(lines[-1]) - 1))
    assert [stage.done for stage in source.figures().stages] == [2, 1, 1, 1, 1, 1]


def test_a_run_whose_release_went_elsewhere_is_no_run_to_go_on_with(
    folder: RunFolder, told: Loaded
):
    units = all_units(folder)
    done(folder, told, *units[:-1])
    source = FromFiles(folder)
    assert source.figures().state == NOT_DRIVEN
    done(folder, told, units[-1])
    assert source.figures().state == PACKED
    folder.unfinished_release.mkdir()
    assert source.figures().state == NOT_DRIVEN
    folder.unfinished_release.rmdir()
    release(folder, variants(folder.config())["pack"])
    assert source.figures().state == PUBLISHED


@pytest.mark.parametrize(("n_done", "state"), [(5, NOT_DRIVEN), (6, NOT_DRIVEN), (7, PACKED)])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_release_of_other_settings_does_not_end_a_run(
    folder: RunFolder, told: Loaded, n_done: int, state: str, shards: int
):
    release(folder, "other settings", shards)
    units = all_units(folder)
    done(folder, told, *units[:n_done])
    source = FromFiles(folder)
    figures = source.figures()
    assert figures.state == state
    older = "(older: made with other settings of select or pack than what is told above)"
    assert source.release(figures) == [f"release: {folder.release} {older}"]
    done(folder, told, *units[n_done:])
    release(folder, variants(folder.config())["pack"])
    figures = source.figures()
    assert figures.state == PUBLISHED
    assert source.release(figures) == [f"release: {folder.release}"]


def test_a_release_that_cannot_be_read_is_said_to_be_damaged(folder: RunFolder, told: Loaded):
    release(folder, variants(folder.config())["pack"])
    (folder.release / LAYOUT).write_bytes(b"{")
    done(folder, told, *all_units(folder))
    source = FromFiles(folder)
    (line,) = source.release(source.figures())
    assert line == f"release: {folder.release} (damaged: its layout cannot be read)"


@pytest.mark.parametrize("n_done", [0, 3, 5, 6])
def test_a_release_without_archives_that_came_late_does_not_end_a_run(
    folder: RunFolder, told: Loaded, n_done: int
):
    release(folder, variants(folder.config())["pack"])
    units = all_units(folder)
    done(folder, told, *units)
    late_archives(folder)
    anew = [(stage, unit.replace("w00000", "w00001")) for stage, unit in units if unit[-1] != "b"]
    done(folder, told, *anew[: min(n_done, 5)])
    if n_done == 6:  # all are packed, and the driver was killed before the new release had its name
        done(folder, told, units[-1], kept=10)
        shutil.copytree(folder.release, folder.unfinished_release)
    source = FromFiles(folder)
    figures = source.figures()
    assert figures.state == NOT_DRIVEN
    assert source.release(figures) == [
        f"release: {folder.release} (older: made before what is told above)"
    ]


def test_what_is_left_of_another_release_does_not_keep_a_run_from_its_end(
    folder: RunFolder, told: Loaded
):
    release(folder, "other settings")
    folder.release.rename(folder.unfinished_release)
    release(folder, variants(folder.config())["pack"])
    done(folder, told, *all_units(folder))
    assert FromFiles(folder).figures().state == PUBLISHED


def test_a_run_that_is_not_compacted_is_published_all_the_same(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    told = loaded(folder.path, archives_per_wave=2, dedup={"buckets": 1}, compact=True)
    with folder.driving(told, ARCHIVES):
        pass
    done(folder, told, *all_units(folder))
    release(folder, variants(folder.config())["pack"])
    assert FromFiles(folder).figures().state == PUBLISHED


@pytest.mark.parametrize("missing", range(6))
def test_while_something_is_to_do_not_all_is_packed(folder: RunFolder, told: Loaded, missing: int):
    units = all_units(folder)
    done(folder, told, *units[:missing], *units[missing + 1 :])
    assert FromFiles(folder).figures().state == NOT_DRIVEN


def test_a_release_of_which_a_shard_is_missing_is_not_packed(folder: RunFolder, told: Loaded):
    *units, shard = all_units(folder)
    done(folder, told, *units)
    done(folder, told, shard, kept=3)
    assert FromFiles(folder).figures().state == NOT_DRIVEN


def test_watching_ends_when_all_is_packed(folder: RunFolder, told: Loaded):
    done(folder, told, *all_units(folder))
    text = io.StringIO()
    terminal.show(folder, Console(file=text), as_json=False, again=True)
    assert len(text.getvalue().splitlines()) == 1
    assert "all is packed, and the release is not in this folder" in text.getvalue()


@pytest.mark.parametrize("n_done", [4, 6, 7])
def test_what_lists_wrote_down_counts_while_a_driver_is_at_work(
    folder: RunFolder, told: Loaded, n_done: int
):
    done(folder, told, *all_units(folder)[:n_done])
    write(folder, LIST)
    assert FromFiles(folder).figures().at_work == ListsFigures()
    with folder.driving(told, ARCHIVES):
        assert FromFiles(folder).figures().at_work.lists == 1
        folder.pause_file.touch()
        assert FromFiles(folder).figures().at_work.lists == 1


def told_by_all(folder: RunFolder) -> tuple[str, str, str]:
    """Return the state that `cah status`, the figures and `cah runs` tell."""
    code, lines, _ = cah("status", folder.path)
    assert code == 0
    first = lines[[line.startswith("run: ") for line in lines].index(True)]
    _, rows, _ = cah("runs", folder.path.parent, env=os.environ | {"COLUMNS": "300"})
    return first, FromFiles(folder).figures().state, " ".join(rows[1].split())


@pytest.mark.parametrize(
    ("n_missing", "state", "then"),
    [
        (0, PACKED, "all is packed, and the release is not in this folder"),
        (1, NOT_DRIVEN, "no driver is at work: run the same command again to go on"),
    ],
)
def test_one_state_is_told_by_all(
    folder: RunFolder, told: Loaded, n_missing: int, state: str, then: str
):
    units = all_units(folder)
    done(folder, told, *units[: len(units) - n_missing])
    first, of_figures, row = told_by_all(folder)
    assert first == f"run: {state}; left to embed: {'0 s' if state == PACKED else '-'}"
    assert of_figures == state
    assert row.endswith(f" - {state}")
    assert then in " ".join(cah("status", folder.path)[1])


def test_a_run_that_makes_another_release_tells_that_the_one_there_is_older(
    folder: RunFolder, told: Loaded
):
    release(folder, "other settings")
    done(folder, told, *all_units(folder)[:5])
    first, of_figures, row = told_by_all(folder)
    assert first == f"run: {NOT_DRIVEN}; left to embed: -"
    assert of_figures == NOT_DRIVEN
    assert row.endswith(f" - {NOT_DRIVEN}")
    lines = cah("status", folder.path)[1]
    assert any(line.startswith(f"release: {folder.release} (older: made with") for line in lines)


@pytest.mark.parametrize("place", ["", "run", "run/../run", "run/extract/.."])
def test_a_run_has_its_name_wherever_one_stands(
    folder: RunFolder, told: Loaded, place: str, monkeypatch: pytest.MonkeyPatch
):
    done(folder, told, *all_units(folder)[:5])
    (folder.path / "extract").mkdir(exist_ok=True)
    monkeypatch.chdir(folder.path.parent if place else folder.path)
    assert FromFiles(RunFolder(Path(place))).figures().run == "run"


def test_of_a_run_at_work_all_tell_who_drives_it_and_the_time_left(folder: RunFolder, told: Loaded):
    done(folder, told, *all_units(folder)[:5])
    with folder.driving(told, ARCHIVES):
        first, of_figures, row = told_by_all(folder)
        lines = cah("status", folder.path)[1]
    assert first == "run: at work; left to embed: 0 s"
    assert of_figures == AT_WORK
    assert row.endswith(f" 0 s at work: pid {os.getpid()} on {socket.gethostname()}")
    assert any(line.startswith(f"driver: pid {os.getpid()} on ") for line in lines)


def test_the_funnel_of_the_files_is_that_of_the_summary(folder: RunFolder, told: Loaded):
    done(folder, told, *all_units(folder))
    assert FromFiles(folder).figures().funnel() == funnel(folder.summary())
