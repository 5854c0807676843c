"""Parts appear whole or not at all, and the first attempt wins."""

import errno
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask import storage
from cah_dask.counts import Counts, merge
from cah_dask.errors import RetryableError, RunError
from cah_dask.storage import Receipt

SCHEMA = pa.schema([pa.field("n", pa.int64())])

counts = st.builds(
    lambda kept, rejected: Counts(kept + sum(rejected.values()), kept, rejected, {"bytes": kept}),
    st.integers(0, 10**9),
    st.dictionaries(st.text(max_size=8), st.integers(0, 10**9), max_size=4),
)


def receipt(**changes) -> Receipt:
    return Receipt(**{"stage": "s", "unit": "u", "config": "c", "counts": Counts(), **changes})


def rows(*values: int) -> pa.Table:
    return pa.table({"n": values}, schema=SCHEMA)


def test_a_part_carries_its_receipt(tmp_path: Path):
    written = receipt(counts=Counts(3, 2, {"bad": 1}), inputs=("a",), seconds=0.5)
    storage.write_part(tmp_path / "deep" / "p.parquet", SCHEMA, [rows(1), rows(2)], written)
    assert storage.read_receipt(tmp_path / "deep" / "p.parquet") == written
    assert pq.ParquetFile(tmp_path / "deep" / "p.parquet").num_row_groups == 2


def test_the_first_attempt_wins_and_the_second_learns_it(tmp_path: Path):
    part = tmp_path / "p.parquet"
    storage.write_part(part, SCHEMA, [rows(1)], receipt(unit="first"))
    counted = storage.write_part(part, SCHEMA, [rows(2)], receipt(unit="second"))
    assert counted.unit == "first"
    assert pq.read_table(part)["n"].to_pylist() == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]


def test_rows_that_do_not_balance_are_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(RunError, match="5 rows came in but 4 are accounted for"):
        storage.write_part(tmp_path / "p", SCHEMA, [], receipt(counts=Counts(5, 3, {"bad": 1})))
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path):
    target = tmp_path / "f"
    storage.write_atomic(target, b"old")
    with pytest.raises(ValueError, match="half-way"), storage.staged(target) as path:
        path.write_bytes(b"new")
        raise ValueError("half-way")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path):
    with pytest.raises(RunError, match="no space left on device"), storage.disk_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_swept_temporary_may_be_tried_again(tmp_path: Path):
    with pytest.raises(RetryableError), storage.staged(tmp_path / "f") as path:
        path.write_bytes(b"x")
        assert storage.sweep(tmp_path) == 1


def test_a_damaged_part_is_named(tmp_path: Path):
    part = tmp_path / "p.parquet"
    storage.write_part(part, SCHEMA, [rows(1)], receipt())
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(RunError, match=r"p\.parquet is damaged: it has no parquet footer"):
        storage.read_receipt(part)


def test_a_side_file_is_described_by_size_and_checksum(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"abc")
    side = storage.side_file(tmp_path / "f")
    assert (side.name, side.n_bytes) == ("f", 3)
    assert side.sha256.startswith("ba7816bf")


@given(counts, counts)
def test_counts_add_up_and_stay_balanced(a: Counts, b: Counts):
    total = a + b
    total.require_balance("here")
    assert total.seen == a.seen + b.seen
    assert total == b + a
    assert merge(a.rejected, b.rejected) == total.rejected
