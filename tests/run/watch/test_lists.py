"""The lists at work: added up from what each wrote down lately, safe to show."""

import os
import time
from pathlib import Path
from typing import Any

import msgspec

from cah_dask.images.list_progress import ListProgress
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.watch.figures import ListsFigures
from cah_dask.run.watch.lists import FORGOTTEN_S, lists_at_work
from cah_dask.run.watch.terminal import at_work


def write(folder: RunFolder, unit: str, age_s: float = 0.0, **changes) -> None:
    values: dict[str, Any] = {
        "urls": 100,
        "done": 40,
        "again": 2,
        "n_bytes": 3_000_000,
        "seconds": 10.0,
        "hosts": {"a.test": 50},
    }
    path = folder.progress_path(unit)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(msgspec.json.encode(ListProgress(**(values | changes))))
    os.utime(path, (time.time() - age_s,) * 2)


def test_lists_are_added_up_and_those_of_dead_workers_left_out(tmp_path: Path):
    folder = RunFolder(tmp_path)
    assert lists_at_work(folder) == ListsFigures()
    write(folder, "w00000/b00000-l00000")
    write(folder, "w00000/b00001-l00000", seconds=0.0, hosts={"a.test": 5, "b.test": 20})
    write(folder, "w00000/b00002-l00000", age_s=2 * FORGOTTEN_S)
    folder.progress_path("w00000/b00003-l00000").write_bytes(b"torn")
    assert lists_at_work(folder) == ListsFigures(
        lists=2, urls=200, done=80, again=4, n_bytes=6_000_000, bytes_per_s=3_300_000.0,
        hosts={"a.test": 55, "b.test": 20},
    )  # fmt: skip


def test_they_are_told_in_a_line_that_a_terminal_may_show(tmp_path: Path):
    folder = RunFolder(tmp_path)
    write(folder, "w00000/b00000-l00000", hosts={"a\x1b[31m.test": 50})
    assert at_work(lists_at_work(folder)) == (
        "in 1 list at work: 40 of 100 urls done, 2 wait to be asked again (download.retry_delay_s, "
        "download.hosts.rest_s), 3.0 MB, 0.30 MB/s; most to go: a\\x1b[31m.test 50"
    )
    write(folder, "w00000/b00000-l00000", hosts={}, again=0)
    assert at_work(lists_at_work(folder)) == (
        "in 1 list at work: 40 of 100 urls done, 3.0 MB, 0.30 MB/s"
    )
