"""A journal is followed: what is appended is told once, and only when it is whole."""

from pathlib import Path

from cah_dask.run.folder.journal import Commit, Journal, LastLines, Void
from cah_dask.run.folder.lock import held, is_held
from cah_dask.run.stages import DOWNLOAD
from tests.run.watch.loads import NOW
from tests.run.watch.test_history import commit


def test_what_is_appended_is_told_once_and_when_it_is_whole(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    entries: list[Commit | Void] = [commit(DOWNLOAD, ago) for ago in (9.0, 8.0, 7.0)]
    journal.record(entries[0])
    lines = LastLines(path)
    assert list(lines.commits()) == entries[:1]
    assert lines.later() == []
    journal.record(entries[1])
    journal.record(Void(NOW, "download", "x"))
    assert lines.later() == [entries[1], Void(NOW, "download", "x")]
    journal.record(entries[2])
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])  # a line that is being written
    assert lines.later() == []
    path.write_bytes(whole)
    assert lines.later() == entries[2:]
    assert lines.later() == []


def test_a_limit_leaves_later_lines_to_others(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.record(commit(DOWNLOAD, 9.0))
    size = path.stat().st_size
    journal.record(commit(DOWNLOAD, 8.0))
    journal.close()
    assert [each.unit for each in LastLines(path, size).commits()] == ["w00000/b00000-l00009"]
    assert len(list(LastLines(path).commits())) == 2


def test_a_lock_tells_whether_somebody_drives(tmp_path: Path):
    path = tmp_path / "driver.lock"
    assert not is_held(path)
    with held(path):
        assert is_held(path)
    assert not is_held(path)
