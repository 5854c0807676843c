"""Files of uids that say which rows are wanted."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cah_dask.candidates.subset import check_subset, read_subset
from cah_dask.errors import InputError
from cah_dask.keys import from_digests, unique

UIDS = [bytes([n]) * 16 for n in (0, 1, 128, 200, 255)]
KEYS = unique(from_digests(b"".join(UIDS)))


def test_an_npy_of_datacomp_stays_on_the_disk(tmp_path: Path):
    halves = [(int.from_bytes(uid[:8]), int.from_bytes(uid[8:])) for uid in UIDS]
    np.save(tmp_path / "s.npy", np.array([*halves, halves[-1]], "u8,u8"))
    found = read_subset(tmp_path / "s.npy")
    assert isinstance(found, np.memmap)
    assert found.tolist() == [*halves, halves[-1]]
    check_subset(tmp_path / "s.npy")


@pytest.mark.parametrize("name", ["s.txt", "s.parquet"])
def test_uids_may_be_a_text_or_a_column_in_any_order(tmp_path: Path, name: str):
    lines = [uid.hex() for uid in reversed(UIDS)]
    if name == "s.txt":
        (tmp_path / name).write_text("\n".join(["# mine", *lines]))
    else:
        pq.write_table(pa.table({"uid": lines}), tmp_path / name)
    assert read_subset(tmp_path / name).tolist() == KEYS.tolist()
    check_subset(tmp_path / name)


def test_an_npy_that_is_not_sorted_is_refused_wherever_it_falls(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("cah_dask.candidates.subset._HELD", 2)
    for row in range(1, len(KEYS)):
        keys = KEYS.copy()
        keys[[row - 1, row]] = keys[[row, row - 1]]
        np.save(tmp_path / "s.npy", keys)
        with pytest.raises(InputError, match=rf"s\.npy is not sorted: row {row} is less"):
            check_subset(tmp_path / "s.npy")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.npy", None, r"subset .*s\.npy does not exist"),
        ("s.txt", None, r"subset .*s\.txt does not exist"),
        ("s.npy", b"no npy", r"subset .*s\.npy is no \.npy file"),
        ("s.txt", b"0" * 31, "is not 32 hex digits"),
    ],
)
def test_what_is_no_subset_is_a_clear_error(tmp_path: Path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        check_subset(tmp_path / name)


def test_an_npy_of_other_numbers_is_refused(tmp_path: Path):
    np.save(tmp_path / "s.npy", np.zeros((3, 2), np.uint64))
    with pytest.raises(InputError, match=r"holds uint64 \(3, 2\); expected two uint64 a row"):
        check_subset(tmp_path / "s.npy")
