"""Pictures wait for the disk in their order, and not too many of them."""

import threading
from pathlib import Path

import pytest

from cah_dask.errors import RunError
from cah_dask.images.shard_queue import Backlog
from cah_dask.images.shards import ShardReader, ShardWriter
from tests.images.conftest import wait_until


class Gate(ShardWriter):
    """Writes nothing while it is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.is_open = threading.Event()

    def add(self, data: bytes) -> int:
        assert self.is_open.wait(30)
        return super().add(data)


class Full(ShardWriter):
    """Writes nothing, ever."""

    def add(self, data: bytes) -> int:
        raise RunError(f"no space left on device for {len(data)} bytes")


def test_pictures_are_stored_in_the_order_in_which_they_came(tmp_path: Path):
    pictures = [bytes([n]) * (1 + 300_000 * (n % 3)) for n in range(40)]
    with ShardWriter(tmp_path / "a.h5") as writer, Backlog(writer) as backlog:
        assert [backlog.add(data) for data in pictures] == list(range(40))
    with ShardReader(tmp_path / "a.h5") as reader:
        assert reader.read(range(40)) == pictures


def test_a_disk_that_stands_still_is_waited_for_before_much_memory_is_used(tmp_path: Path):
    n_added = 0
    with Gate(tmp_path / "a.h5") as writer, Backlog(writer) as backlog:
        while not backlog.is_full:
            backlog.add(bytes(1 << 20))
            n_added += 1
        writer.is_open.set()
        assert wait_until(lambda: not backlog.is_full)
    assert n_added == 33
    assert len(writer) == 33


def test_a_disk_that_is_full_ends_the_download(tmp_path: Path):
    with (
        pytest.raises(RunError, match="no space"),
        Full(tmp_path / "a.h5") as writer,
        Backlog(writer) as backlog,
    ):
        backlog.add(bytes(2 << 20))
        assert wait_until(lambda: backlog._thread._error is not None)
        backlog.add(b"more")
