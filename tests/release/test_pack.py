"""Row i of the Zarr arrays is row i of the parquet parts, whatever the sizes."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from cah_dask.counts import Counts
from cah_dask.release.layout import Layout, Slice, deal, fingerprint, part_path
from cah_dask.release.pack import create_release, pack_shard
from cah_dask.release.verify import verify_release
from cah_dask.schema import PAIRS, SELECTED, scored
from cah_dask.storage import Receipt, write_part
from tests.encoders import released_encoder

DIM = 4


def scored_part(path: Path, kept: list[bool], first: int) -> None:
    """Write a scored part whose vectors and texts spell the number of the row; select some."""
    n = len(kept)
    numbers = np.arange(first, first + n)
    vectors = np.repeat(numbers[:, None], DIM, axis=1).astype("<f2")
    made = {
        "uid": [int(number).to_bytes(16, "big") for number in numbers],
        "text": [f"text {number}" for number in numbers],
        "similarity_clip": np.full(n, 0.5, np.float32),
        "image/clip": [row.tobytes() for row in vectors],
        "text/clip": [(-row).tobytes() for row in vectors],
    }
    fill = {pa.string(): "x", pa.int64(): 0, pa.int32(): 0, pa.float32(): 0.0, pa.bool_(): False}
    schema = scored({"clip": DIM})
    columns = [
        pa.array(made.get(field.name, [fill.get(field.type)] * n), field.type) for field in schema
    ]
    table = pa.table(columns, schema=schema)
    receipt = Receipt(stage="embed", unit="u", config="c", counts=Counts(n, n))
    write_part(path, schema, [table], receipt)
    rows = np.flatnonzero(kept).astype(np.int32)
    columns = [pa.repeat(f"scored/{path.name}", len(rows)), pa.array(rows), table["uid"].take(rows)]
    selected = pa.table(columns, schema=SELECTED)
    write_part(path.parents[1] / "selected" / path.name, SELECTED, [selected], receipt)


def layout(dealt: list[list[Slice]], shard: int, chunk: int) -> Layout:
    rows = sum(part.stop - part.start for parts in dealt for part in parts)
    return Layout(
        rows, (released_encoder("clip", DIM),), "clip", "hash", shard, chunk, fingerprint(dealt)
    )


def pack(folder: Path, parts: list[list[bool]], chunk: int, chunks: int) -> Path:
    """Make a release of the given parts (one flag per row: is it kept) and check it."""
    first = 0
    for number, kept in enumerate(parts):
        scored_part(folder / f"scored/{number}.parquet", kept, first)
        first += len(kept)
    dealt = deal(
        [(f"selected/{number}.parquet", sum(kept)) for number, kept in enumerate(parts)],
        chunk * chunks,
    )
    release = folder / "release"
    create_release(release, layout(dealt, chunk * chunks, chunk))
    for number, slices in enumerate(dealt):
        pack_shard(folder, release, number, slices)
    verify_release(release)
    return release


def stored(root: zarr.Group, name: str) -> zarr.Array:
    array = root[name]
    assert isinstance(array, zarr.Array)
    return array


def first_column(root: zarr.Group, name: str) -> list[float]:
    return np.asarray(stored(root, name)[:, 0]).tolist()


@settings(max_examples=25)
@given(
    st.lists(st.lists(st.booleans(), max_size=12), max_size=5),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_parquet_and_zarr_hold_the_same_rows_in_the_same_order(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[bool]], chunk: int, chunks: int
):
    release = pack(tmp_path_factory.mktemp("run"), parts, chunk, chunks)
    expected = [number for number, kept in enumerate(itertools.chain(*parts)) if kept]
    table = ds.dataset(release / "pairs").to_table().sort_by("row")
    assert table.schema.equals(PAIRS)
    assert table["row"].to_pylist() == list(range(len(expected)))
    assert [int(uid, 16) for uid in table["uid"].to_pylist()] == expected
    root = zarr.open_group(release / "embeddings.zarr", mode="r")
    assert first_column(root, "clip/image") == expected
    assert first_column(root, "clip/text") == [-number for number in expected]
    for number, path in enumerate(sorted((release / "pairs").iterdir())):
        assert set(pq.read_table(path)["row"].to_pylist()) <= set(
            range(number * chunk * chunks, (number + 1) * chunk * chunks)
        )


def test_a_flipped_bit_is_found_when_vectors_are_read(tmp_path: Path):
    release = pack(tmp_path, [[True] * 8], 2, 2)
    shard = release / "embeddings.zarr" / "clip" / "image" / "c.0.0"
    data = bytearray(shard.read_bytes())
    data[3] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ValueError, match="checksum"):
        stored(zarr.open_group(release / "embeddings.zarr", mode="r"), "clip/image")[:]


def test_a_torn_shard_and_leftovers_of_a_killed_attempt_are_replaced(tmp_path: Path):
    release = pack(tmp_path, [[True] * 8], 2, 2)
    shard = release / "embeddings.zarr" / "clip" / "image" / "c.1.0"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:5])
    part_path(release, 1).unlink()
    dealt = deal([("selected/0.parquet", 8)], 4)
    pack_shard(tmp_path, release, 1, dealt[1])
    assert shard.read_bytes() == whole
    assert {path.name for path in shard.parent.iterdir()} == {"zarr.json", "c.0.0", "c.1.0"}
    assert not list(release.rglob(".tmp-*"))


def test_packing_twice_gives_the_same_bytes(tmp_path: Path):
    kept = [[True, False, True] * 5] * 3
    a, b = (pack(tmp_path / name, kept, 2, 3) for name in "ab")
    files = sorted(path.relative_to(a) for path in a.rglob("*") if path.is_file())
    assert len(files) > 10
    for file in files:
        assert (a / file).read_bytes() == (b / file).read_bytes(), file


def test_attributes_name_models_and_normalisation(tmp_path: Path):
    root = zarr.open_group(pack(tmp_path, [[True]], 1, 1) / "embeddings.zarr", mode="r")
    assert (root.attrs["encoder"], root.attrs["normalisation"]) == ("clip", "l2")
    assert root["clip"].attrs["image"] == {"name": "clip", "checksums": {"weights": "0" * 64}}
    assert stored(root, "clip/image").dtype == np.float16
