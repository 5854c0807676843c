"""A release is published only when every byte of it is what was written."""

import random
import shutil
from pathlib import Path

import pytest

from cah_dask.errors import DamageError, RetryableError, RunError
from cah_dask.release import verify
from cah_dask.release.layout import LAYOUT, Layout, part_path, read_layout
from tests.release.test_pack import pack

ROWS, CHUNK, CHUNKS = 10, 2, 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("run"), [[True] * ROWS], CHUNK, CHUNKS)


@pytest.fixture
def release(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "release"))


def layout_of(release: Path) -> Layout:
    layout = read_layout(release)
    assert layout is not None
    return layout


def files(release: Path) -> list[Path]:
    return sorted(path for path in release.rglob("*") if path.is_file())


def test_a_whole_release_is_told_by_its_rows(release: Path):
    assert verify.verify_release(release).kept == ROWS
    assert verify.is_whole(release, layout_of(release))


def flipped(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    at = rng.randrange(4, len(data))
    damaged[at] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def test_a_wrong_bit_in_any_file_is_found(release: Path):
    rng = random.Random(3)
    for path in files(release):
        if path.name == LAYOUT:
            continue
        data = path.read_bytes()
        for _ in range(12):
            path.write_bytes(flipped(data, rng))
            with pytest.raises(RunError, match=path.name):
                verify.verify_release(release)
        path.write_bytes(data)
    assert verify.verify_release(release).kept == ROWS


def test_a_wrong_bit_in_the_layout_makes_it_that_of_another_release(release: Path):
    rng = random.Random(3)
    path = release / LAYOUT
    layout, data = layout_of(release), path.read_bytes()
    values = [at for at, byte in enumerate(data) if chr(byte).isalnum()]
    for at in rng.sample(values, 60):
        damaged = bytearray(data)
        damaged[at] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        assert read_layout(release) != layout


def test_a_file_that_is_missing_short_or_longer_is_found(release: Path):
    for path in files(release):
        if path.name == LAYOUT:
            continue  # whitespace behind it means nothing
        data = path.read_bytes()
        for other in (None, b"", data[:-1], data + b"\0"):
            path.unlink(missing_ok=True)
            if other is not None:
                path.write_bytes(other)
            with pytest.raises((RunError, RetryableError), match=path.name):
                verify.verify_release(release)
        path.write_bytes(data)


def test_a_glance_tells_that_files_are_missing_or_cut(release: Path):
    layout = layout_of(release)
    for path in files(release):
        if path.name == LAYOUT:
            continue
        data = path.read_bytes()
        path.unlink()
        assert not verify.is_whole(release, layout), path
        path.write_bytes(data[:-1])
        assert not verify.is_whole(release, layout), path
        path.write_bytes(data)
    shard = release / "embeddings.zarr/clip/image/c.1.0"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert not verify.is_whole(release, layout)


def test_only_what_is_damaged_is_made_again(release: Path):
    layout = layout_of(release)
    (release / "embeddings.zarr/clip/text/c.0.0").unlink()
    part = part_path(release, 2)
    damaged = bytearray(part.read_bytes())
    damaged[40] ^= 1
    part.write_bytes(damaged)
    verify.drop_unsound(release, layout)
    assert [path.name for path in sorted(part.parent.iterdir())] == ["part-00001.parquet"]


def test_a_torn_layout_is_that_of_no_release(release: Path):
    (release / LAYOUT).write_bytes(b'{"rows": 1')
    assert read_layout(release) is None
    with pytest.raises(RunError, match="holds no release"):
        verify.verify_release(release)


def test_more_or_fewer_rows_than_promised_are_found(release: Path, whole: Path):
    shutil.copy(part_path(whole, 2), part_path(release, 0))
    with pytest.raises(RunError, match=f"holds 8 rows, {ROWS} were promised"):
        verify.verify_release(release)


def test_damage_names_its_file(release: Path):
    path = release / "embeddings.zarr" / "clip" / "image" / "c.0.0"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(DamageError) as caught:
        verify.verify_release(release)
    assert caught.value.path == path
