"""A run is followed by its files: also by those beside the journal, and to where it ends."""

import io
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from cah_dask.counts import Counts
from cah_dask.release.summary import funnel
from cah_dask.run.folder.journal import Commit
from cah_dask.run.folder.lost import LATE_FILE
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.folder.run_settings import ARCHIVES_FILE, settle
from cah_dask.run.settings.identity import variants
from cah_dask.run.settings.loading import Loaded
from cah_dask.run.stages import DEDUP, DOWNLOAD, EMBED, EXTRACT, PACK, SELECT, Stage
from cah_dask.run.watch import terminal
from cah_dask.run.watch.figures import AT_WORK, NOT_DRIVEN, PACKED, PUBLISHED, Figures
from cah_dask.run.watch.from_files import FromFiles
from cah_dask.storage import Receipt
from tests.commands import cah
from tests.run.test_run_folder import ARCHIVES, loaded
from tests.run.watch.loads import NOW

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
        (PACK, f"{mine['pack']}/s00000"),
    ]


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
    folder.unfinished_release.rename(folder.release)
    assert source.figures().state == PUBLISHED


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


def told_by_all(folder: RunFolder) -> tuple[str, str, str]:
    """Return the state that `cah status`, the figures and `cah runs` tell."""
    code, lines, _ = cah("status", folder.path)
    assert code == 0
    first = lines[[line.startswith("run: ") for line in lines].index(True)]
    _, rows, _ = cah("runs", folder.path.parent, env=os.environ | {"COLUMNS": "300"})
    return first, FromFiles(folder).figures().state, rows[1].rstrip()


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
    assert first == f"run: {state}; left: {'0 s' if state == PACKED else '-'}"
    assert of_figures == state
    assert row.endswith(f" -     {state}")
    assert then in " ".join(cah("status", folder.path)[1])


def test_of_a_run_at_work_all_tell_who_drives_it_and_the_time_left(folder: RunFolder, told: Loaded):
    done(folder, told, *all_units(folder)[:5])
    with folder.driving(told, ARCHIVES):
        first, of_figures, row = told_by_all(folder)
        lines = cah("status", folder.path)[1]
    assert first == "run: at work; left: 0 s"
    assert of_figures == AT_WORK
    assert row.endswith(f" 0 s   at work: pid {os.getpid()} on {socket.gethostname()}")
    assert any(line.startswith(f"driver: pid {os.getpid()} on ") for line in lines)


def test_the_funnel_of_the_files_is_that_of_the_summary(folder: RunFolder, told: Loaded):
    done(folder, told, *all_units(folder))
    assert FromFiles(folder).figures().funnel() == funnel(folder.summary())
