"""Pools of each kind give the same rows as their own readers, and say what is wrong in a line."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cah_dask.curate.pools.opening import open_pool
from cah_dask.curate.pools.uids import hex_of, keys_of
from cah_dask.errors import ConfigError, InputError
from tests.curate.datacomp_folder import DIMS, ONES, ZEROS, write_folder


def test_a_folder_of_datacomp_gives_its_rows_with_their_vectors(tmp_path: Path) -> None:
    files = write_folder(tmp_path, files=2, rows=90, parts=2)
    pool = open_pool(tmp_path)
    assert pool.units == [str(file.path.relative_to(tmp_path)) for file in files]
    assert pool.vectors == {f"{e}/{m}": dim for e, dim in DIMS.items() for m in ("image", "text")}
    assert pool.most_rows == 180
    for number, file in enumerate(files):
        batches = list(pool.batches(number, ["uid", "similarity_l14"], ["b32/image", "l14/text"]))
        rows = pa.concat_tables(batch.table for batch in batches)
        assert rows["uid"].to_pylist() == file.table["uid"].to_pylist()
        assert rows["similarity_l14"].equals(file.table["clip_l14_similarity_score"])
        assert [*itertools.chain.from_iterable(batch.rows for batch in batches)] == list(range(90))
        for name, key in (("b32/image", "b32_img"), ("l14/text", "l14_txt")):
            found = np.concatenate([batch.vectors[name] for batch in batches])
            assert np.array_equal(found, file.vectors[key])


def test_vectors_stay_beside_their_rows_whatever_the_row_groups(tmp_path: Path) -> None:
    (file,) = write_folder(tmp_path, files=1, rows=100)
    pq.write_table(file.table, file.path, row_group_size=7)
    batches = list(open_pool(tmp_path).batches(0, ["uid"], ["b32/image"]))
    assert all(len(batch.vectors["b32/image"]) == len(batch.table) for batch in batches)
    found = np.concatenate([batch.vectors["b32/image"] for batch in batches])
    assert np.array_equal(found, file.vectors["b32_img"])


def test_only_the_files_that_are_tables_count_and_the_others_are_named(tmp_path: Path) -> None:
    files = write_folder(tmp_path, files=1, dims={})
    (tmp_path / ".b.parquet.crc").write_bytes(b"crc")
    (tmp_path / "c.parquet.tmp").write_bytes(b"PAR1")
    pool = open_pool(tmp_path)
    assert pool.units == [files[0].path.name]
    assert [note.split()[0] for note in pool.notes] == [".b.parquet.crc", "c.parquet.tmp"]


def test_another_pool_has_another_fingerprint_and_a_copy_the_same(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_folder(tmp_path / name, files=1, seed=seed)
    a, b, c = (open_pool(tmp_path / name).fingerprint for name in "abc")
    assert a == b != c


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [ZEROS], "alt": ["a"], "score": [0.5]}), tmp_path / "a.parquet")
    pool = open_pool(tmp_path / "a.parquet", {"uid": "id"})
    assert set(pool.columns) == {"uid", "text", "score"}
    (batch,) = pool.batches(0, ["uid", "text", "score"])
    assert batch.table.to_pylist() == [{"uid": ZEROS, "text": "a", "score": 0.5}]
    with pytest.raises(ConfigError, match=r"no column key, which --column uid=key names; it has"):
        _ = open_pool(tmp_path / "a.parquet", {"uid": "key"}).columns


def _empty(path: Path) -> None:
    path.mkdir()


def _no_npz(path: Path) -> None:
    for file in write_folder(path, files=2)[1:]:
        file.path.with_suffix(".npz").unlink()


def _other_npz(path: Path) -> None:
    file = write_folder(path, files=2)[1]
    np.savez(file.path.with_suffix(".npz"), b32_img=file.vectors["b32_img"][1:])


def _cut_npz(path: Path) -> None:
    npz = write_folder(path, files=2)[1].path.with_suffix(".npz")
    npz.write_bytes(npz.read_bytes()[:-4000])


def _no_parquet(path: Path) -> None:
    write_folder(path, files=2)[1].path.write_bytes(b"PAR1")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_empty, "holds no .parquet file"),
        (_no_npz, r"\.npz is not there, which holds the vectors of its table"),
        (_other_npz, "b32_img has 119 rows, its table has 120"),
        (_cut_npz, "cannot be read as .npz"),
        (_no_parquet, "cannot be read as parquet"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(make, message: str, tmp_path: Path) -> None:
    make(tmp_path / "pool")
    with pytest.raises(InputError, match=message) as caught:
        pool = open_pool(tmp_path / "pool")
        for number in range(len(pool.units)):
            for _ in pool.batches(number, ["uid"], ["b32/image"]):
                pass
    assert "\n" not in str(caught.value)


def test_uids_are_keys_whether_they_are_hex_or_bytes() -> None:
    uids = [ZEROS, ONES, "00" * 8 + "80" + "00" * 7, "0123456789abcdef" * 2]
    texts = pa.chunked_array([pa.array(["x" * 32, *uids]).slice(1)])
    digests = pa.chunked_array([pa.array([bytes.fromhex(uid) for uid in uids], pa.binary(16))])
    for column in (texts, digests, texts.cast(pa.large_string())):
        keys = keys_of(column, "a.parquet")
        assert keys["f0"].tolist() == [int(uid[:16], 16) for uid in uids]
        assert keys["f1"].tolist() == [int(uid[16:], 16) for uid in uids]
        assert hex_of(keys) == uids


@pytest.mark.parametrize("bad", ["", "0" * 31, "0" * 33, "g" + "0" * 31, "é" * 16, None, " " * 32])
def test_what_is_no_uid_is_named(bad: str | None) -> None:
    with pytest.raises(InputError, match=r"a\.parquet: .* is no uid, which has 32 hex digits"):
        keys_of(pa.chunked_array([[ZEROS, bad]], pa.string()), "a.parquet")
