"""The folders that other tests read hold what they are made for."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.curate.datacomp_folder import ONES, SCHEMA, THRESHOLDS, ZEROS, uid, write_folder


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_scores_are_those_of_the_vectors_and_lie_around_the_thresholds(tmp_path: Path, dtype: str):
    files = write_folder(tmp_path, dtype=dtype)
    for file in files:
        vectors = np.load(file.path.with_suffix(".npz"))
        assert {vectors[key].dtype for key in vectors} == {np.dtype(dtype)}
        for encoder in ("b32", "l14"):
            scores = file.table[f"clip_{encoder}_similarity_score"].to_numpy()
            images, texts = (vectors[f"{encoder}_{kind}"].astype(float) for kind in ("img", "txt"))
            assert np.abs(np.linalg.norm(images, axis=1) - 1).max() < 2e-3
            assert np.abs((images * texts).sum(axis=1) - scores).max() < 2e-3
            for threshold in map(np.float32, THRESHOLDS):
                assert {threshold, np.nextafter(threshold, np.float32(1))} <= {*scores}
            assert sum(np.float32(np.float16(score)) == score for score in scores) > len(scores) / 2


def test_uids_repeat_within_and_across_files_and_begin_with_zeros_and_high_bits(tmp_path: Path):
    files = write_folder(tmp_path, given=[{"uid": ZEROS}, {"uid": ONES}, {"text": "given"}])
    uids = [file.table["uid"].to_pylist() for file in files]
    assert all(max(Counter(each).values()) == 2 for each in uids)
    shared = set.intersection(*map(set, uids))
    assert len(shared) == 1
    everything = set().union(*uids)
    assert {ZEROS, ONES} <= everything
    assert any(each.startswith("000") and each != ZEROS for each in everything)
    assert any(each[0] in "89abcde" for each in everything)
    rows = [row for file in files for row in file.table.to_pylist()]
    assert sum(row["uid"] != uid(row["text"], row["url"]) for row in rows) == 2


def test_a_folder_is_read_as_it_was_returned_and_made_again_alike(tmp_path: Path):
    files = write_folder(tmp_path / "a", files=4, parts=2, dedup=True)
    again = write_folder(tmp_path / "b", files=4, parts=2, dedup=True)
    assert {file.path.parent.name for file in files} == {"part_0", "part_1"}
    assert [file.path for file in files] == sorted(tmp_path.glob("a/*/*.parquet"))
    for one, other in zip(files, again, strict=True):
        table = pq.read_table(one.path)
        assert table.schema.remove_metadata() == SCHEMA
        assert table == one.table == other.table
        arrays = np.load(one.path.with_suffix(".npz"))
        assert [*arrays] == ["b32_img", "b32_txt", "l14_img", "l14_txt", "dedup"]
        assert all((arrays[key] == one.vectors[key]).all() for key in one.vectors)


def test_without_vectors_there_is_no_npz(tmp_path: Path):
    (file,) = write_folder(tmp_path, files=1, rows=5, dims={})
    assert [path.name for path in tmp_path.iterdir()] == [file.path.name]
    assert len(file.table) == 5
    assert hashlib.md5(b"0 0").hexdigest() == file.path.stem
