import subprocess
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.errors import RunError
from cah_dask.images.shards import ShardReader, ShardWriter

IMAGES = st.lists(st.binary(max_size=200), max_size=30)


def write(path: Path, images: list[bytes]) -> Path:
    with ShardWriter(path) as writer:
        for image in images:
            writer.add(image)
    return path


@given(images=IMAGES, order=st.randoms())
def test_what_is_written_is_read_in_any_order(tmp_path_factory, images, order):
    path = write(tmp_path_factory.mktemp("shard") / "a.h5", images)
    rows = [order.randrange(len(images)) for _ in range(40)] if images else []
    with ShardReader(path) as shard:
        assert len(shard) == len(images)
        assert shard.read(range(len(images))) == images
        assert shard.read(rows) == [images[row] for row in rows]


@given(images=IMAGES, order=st.randoms())
def test_the_file_does_not_depend_on_the_order_of_arrival(tmp_path_factory, images, order):
    folder = tmp_path_factory.mktemp("shard")
    arrivals = list(range(len(images)))
    order.shuffle(arrivals)
    with ShardWriter(folder / "shuffled.h5") as writer:
        row_of = {index: writer.add(images[index]) for index in arrivals}
        writer.arrange([row_of[index] for index in range(len(images))])
    straight = write(folder / "straight.h5", images)
    assert (folder / "shuffled.h5").read_bytes() == straight.read_bytes()


def test_images_larger_than_the_copy_buffer_are_written_whole(tmp_path):
    images = [bytes([n]) * 5_000_000 for n in range(9)]
    with ShardReader(write(tmp_path / "a.h5", images)) as shard:
        assert shard.read([8, 0, 4]) == [images[8], images[0], images[4]]
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_images_lie_packed_and_contiguous(tmp_path):
    with h5py.File(write(tmp_path / "a.h5", [b"abc", b"", b"de"])) as file:
        assert bytes(file["bytes"][:]) == b"abcde"
        assert file["offsets"][:].tolist() == [0, 3, 3, 5]
        assert file["offsets"].dtype == np.int64
        assert file["bytes"].chunks is None


def test_an_order_that_loses_rows_is_refused(tmp_path):
    with (
        pytest.raises(ValueError, match="not an order of 2 rows"),
        ShardWriter(tmp_path / "a") as w,
    ):
        w.add(b"a")
        w.add(b"b")
        w.arrange([0, 0])


def test_a_writer_that_fails_writes_nothing(tmp_path):
    with pytest.raises(KeyError), ShardWriter(tmp_path / "a.h5") as writer:
        writer.add(b"abc")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_image_is_named(tmp_path):
    path = write(tmp_path / "a.h5", [b"first image", b"second image"])
    data = path.read_bytes()
    path.write_bytes(data.replace(b"second", b"sEcond"))
    with ShardReader(path) as shard:
        assert shard.read([0]) == [b"first image"]
        with pytest.raises(RunError, match=r"a\.h5 is damaged: the checksum of row 1 differs"):
            shard.read([1])


@pytest.mark.parametrize("row", [-1, 1])
def test_a_row_that_does_not_exist_is_an_error(tmp_path, row):
    with ShardReader(write(tmp_path / "a.h5", [b"x"])) as shard, pytest.raises(IndexError):
        shard.read([row])


def test_a_file_that_is_no_shard_is_named(tmp_path):
    (tmp_path / "text.h5").write_text("not HDF5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["bytes"] = [1, 2]
    whole = write(tmp_path / "a.h5", [b"x" * 10_000]).read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[:5000])
    for name in ("text.h5", "other.h5", "cut.h5", "absent.h5"):
        with pytest.raises(RunError, match=name), ShardReader(tmp_path / name):
            pass


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("sizes", [[3_000_000], [1_000_000] * 3, [20_000_000] * 2])
def test_a_full_disk_stops_the_run(small_disk, sizes):
    with pytest.raises(RunError, match="no space left"), ShardWriter(small_disk / "a.h5") as writer:
        for size in sizes:
            writer.add(bytes(size))
