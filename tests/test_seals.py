"""One wrong bit anywhere in a part is found, whatever its columns; others read it as ever."""

import random
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from cah_dask import storage
from cah_dask.counts import Counts
from cah_dask.errors import DamageError
from cah_dask.schema import CANDIDATES, OUTCOMES, PAIRS, SAMPLES, scored
from cah_dask.storage import Receipt

FLIPS = 300
SCHEMAS = {
    "candidates": CANDIDATES,
    "fetch": SAMPLES,
    "images": OUTCOMES,
    "scored": scored({"clip": 8}),
    "pairs": PAIRS,
}


def column(field: pa.Field, rng: random.Random, n: int) -> pa.Array:
    kind = field.type
    if pa.types.is_string(kind):
        values: list = [f"text {rng.randrange(20)}" for _ in range(n)]
    elif pa.types.is_fixed_size_binary(kind):
        values = [rng.randbytes(kind.byte_width) for _ in range(n)]
    elif pa.types.is_binary(kind):
        values = [rng.randbytes(32) for _ in range(n)]
    elif pa.types.is_timestamp(kind):
        values = [datetime(2026, 1, 1 + rng.randrange(28), tzinfo=UTC) for _ in range(n)]
    elif pa.types.is_floating(kind):
        values = [rng.random() for _ in range(n)]
    elif pa.types.is_boolean(kind):
        values = [rng.random() < 0.5 for _ in range(n)]
    else:
        values = sorted(rng.randrange(100) for _ in range(n))
    return pa.array([None if field.nullable and rng.random() < 0.2 else v for v in values], kind)


def write(path: Path, schema: pa.Schema, groups: int = 4, rows: int = 15) -> Receipt:
    rng = random.Random(7)
    tables = [
        pa.table([column(field, rng, rows) for field in schema], schema=schema)
        for _ in range(groups)
    ]
    n = groups * rows
    receipt = Receipt(
        stage="s", unit="u", config="c", counts=Counts(n + 2, n, {"bad": 2}), seconds=1.5
    )
    return storage.write_part(path, schema, tables, receipt)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_wrong_bit_is_found_or_changes_nothing(tmp_path: Path, kind: str):
    path = tmp_path / "part.parquet"
    receipt = write(path, SCHEMAS[kind])
    rows, data = storage.read_part(path), path.read_bytes()
    rng = random.Random(kind)
    found = 0
    for _ in range(FLIPS):
        at = rng.randrange(8 * len(data))
        damaged = bytearray(data)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        try:
            with storage.open_part(path) as part:
                assert part.read().equals(rows)
                assert part.receipt == receipt
        except DamageError:
            found += 1
    assert found > 0.98 * FLIPS  # the first four bytes mean nothing to anybody


@pytest.mark.parametrize("kind", SCHEMAS)
def test_damage_within_one_row_group_leaves_the_others_readable(tmp_path: Path, kind: str):
    path = tmp_path / "part.parquet"
    write(path, SCHEMAS[kind])
    second = storage.read_part(path, row_group=1)
    damaged = bytearray(path.read_bytes())
    damaged[20] ^= 1
    path.write_bytes(damaged)
    assert storage.read_part(path, row_group=1).equals(second)
    with pytest.raises(DamageError, match="are not those written"):
        storage.read_part(path, row_group=0)


@pytest.mark.parametrize("keep", [0, 3, 11, 100, -1])
def test_a_part_that_was_cut_is_damaged(tmp_path: Path, keep: int):
    path = tmp_path / "part.parquet"
    write(path, SAMPLES)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DamageError):
        storage.read_receipt(path)


def test_a_parquet_file_that_was_never_sealed_is_no_part(tmp_path: Path):
    pq.write_table(pa.table({"n": [1, 2]}), tmp_path / "other.parquet")
    with pytest.raises(DamageError, match="its footer is damaged"):
        storage.read_receipt(tmp_path / "other.parquet")


def test_a_receipt_that_does_not_balance_is_not_believed(tmp_path: Path):
    path = tmp_path / "part.parquet"
    receipt = Receipt(stage="s", unit="u", config="c", counts=Counts(3, 3))
    storage.write_part(path, SAMPLES, [], receipt)
    lies = path.read_bytes().replace(b'"kept":3', b'"kept":2')
    path.write_bytes(lies)
    with pytest.raises(DamageError):
        storage.read_receipt(path)


def test_other_readers_see_the_same_rows(tmp_path: Path):
    path = tmp_path / "part.parquet"
    write(path, PAIRS)
    rows = storage.read_part(path)
    assert pq.read_table(path, page_checksum_verification=True).equals(rows)
    assert ds.dataset(path).to_table().equals(rows)


def test_a_part_without_rows_can_be_read(tmp_path: Path):
    storage.write_part(
        tmp_path / "p", PAIRS, [PAIRS.empty_table()], Receipt(
            stage="s", unit="u", config="c", counts=Counts()
        )
    )  # fmt: skip
    assert storage.read_part(tmp_path / "p").schema.equals(PAIRS)
