"""Damage of every kind, planted in a release whose bytes agree with its receipts or do not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cah_dask.counts import Counts
from cah_dask.release.check import (
    FAULTS_NAMED,
    check_part,
    damaged_metadata,
    repeated,
    stray_files,
)
from cah_dask.release.layout import Layout, Slice, deal, fingerprint, part_path, read_layout
from cah_dask.release.pack import create_release, pack_shard
from cah_dask.schema import PAIRS, SELECTED, scored, uid
from cah_dask.storage import RECEIPT_KEY, Receipt, read_part, read_receipt, write_part
from tests.encoders import released_encoder

DIM, ROWS, CHUNK, SHARD = 8, 20, 4, 8


def vectors(rows: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def make_release(folder: Path) -> Path:
    """Pack a release of unit vectors, right uids and right similarities."""
    images, texts = vectors(ROWS, 1), vectors(ROWS, 2)
    made = {
        "text": [f"text {n}" for n in range(ROWS)],
        "url": [f"http://a.example/{n}.jpg" for n in range(ROWS)],
        "similarity_clip": np.einsum("nd,nd->n", images, texts),
        "image/clip": [row.astype("<f2").tobytes() for row in images],
        "text/clip": [row.astype("<f2").tobytes() for row in texts],
    }
    made["uid"] = [uid(text, url) for text, url in zip(made["text"], made["url"], strict=True)]
    fill = {pa.string(): "x", pa.int64(): 0, pa.int32(): 0, pa.float32(): 0.0, pa.bool_(): False}
    schema = scored({"clip": DIM})
    columns = [pa.array(made.get(f.name, [fill.get(f.type)] * ROWS), f.type) for f in schema]
    receipt = Receipt(stage="embed", unit="u", config="c", counts=Counts(ROWS, ROWS))
    table = pa.table(columns, schema=schema)
    write_part(folder / "scored.parquet", schema, [table], receipt)
    rows = pa.array(range(ROWS), pa.int32())
    selected = pa.table([pa.repeat("scored.parquet", ROWS), rows, table["uid"]], schema=SELECTED)
    write_part(folder / "selected.parquet", SELECTED, [selected], receipt)
    dealt: list[list[Slice]] = deal([("selected.parquet", ROWS)], SHARD)
    layout = Layout(
        ROWS, (released_encoder("clip", DIM),), "clip", "hash", SHARD, CHUNK, fingerprint(dealt)
    )
    release = folder / "release"
    create_release(release, layout)
    for number, slices in enumerate(dealt):
        pack_shard(folder, release, number, slices)
    for name in ("README.md", "report.html"):
        (release / name).touch()
    return release


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("run"))


@pytest.fixture
def release(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "release"))


def faults(release: Path) -> tuple[list[str], dict[str, int]]:
    """Return all that is wrong, and the rows that are, by reason."""
    layout = read_layout(release)
    assert layout is not None
    found = stray_files(release, layout) + damaged_metadata(release, layout)
    total, uids = Counts(), []
    for number in range(layout.shards):
        checked = check_part(release, number, layout)
        checked.counts.require_balance("check")
        found += checked.faults
        total += checked.counts
        uids.append(checked.uids)
    n_again, some = repeated(uids)
    found += [f"twice: {each}" for each in some]
    assert total.seen == ROWS
    return found, total.rejected | ({"repeated": n_again} if n_again else {})


def rewrite(release: Path, number: int, change: Callable[[list[dict]], None]) -> None:
    """Write a part anew with other rows: sealed, with a receipt that fits its bytes."""
    path = part_path(release, number)
    rows, receipt = read_part(path).to_pylist(), read_receipt(path)
    change(rows)
    table = pa.Table.from_pylist(rows, schema=PAIRS)
    write_part(path, PAIRS, [table], receipt, replace=True)


def set_in(place: int, **values) -> Callable[[list[dict]], None]:
    return lambda rows: rows[place].update(values)


def swap(rows: list[dict]) -> None:
    """Let two rows stand beside each other's vectors."""
    first, second = rows[0], rows[1]
    first["row"], second["row"] = second["row"], first["row"]
    rows[0], rows[1] = second, first


def copy(rows: list[dict]) -> None:
    rows[1].update({name: rows[0][name] for name in ("uid", "text", "url")})


def test_a_sound_release_has_no_fault(release: Path):
    assert faults(release) == ([], {})


@pytest.mark.parametrize(
    ("change", "reasons", "line"),
    [
        (set_in(2, row=99), {"row_number": 1}, "row 10: the column `row` says another number"),
        (set_in(2, text="another"), {"uid": 1}, "row 10: its uid is not the md5 of its text"),
        (set_in(2, uid="no uid"), {"uid": 1}, "row 10: its uid is not the md5"),
        (set_in(2, encoder="else"), {"encoder": 1}, "row 10: it names another encoder"),
        (set_in(2, similarity=0.9), {"similarity": 1}, "row 10: its similarity is not that of"),
        (set_in(2, similarity=float("nan")), {"similarity": 1}, "its similarity is not that of"),
        (swap, {"similarity": 2}, "row 8: its similarity is not that of its vectors"),
        (copy, {"repeated": 1}, "twice: "),
        (
            lambda rows: rows.pop(),
            {"missing": 1},
            "it has 7 rows, its receipt says 8",
        ),
        (lambda rows: rows.append(rows[0]), {"repeated": 1}, "it has 9 rows, its receipt says 8"),
    ],
)
def test_rows_that_are_not_what_they_say_are_named(release: Path, change, reasons, line):
    rewrite(release, 1, change)
    found, rejected = faults(release)
    assert rejected == reasons
    assert any(line in fault for fault in found), found
    assert all("part-00001" in fault or fault.startswith("twice") for fault in found)


def damage_bytes(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


PLANTS = {
    "a stray file": (
        lambda release: (release / "pairs" / "notes.txt").touch(),
        "notes.txt: it does",
    ),
    "a stray link": (
        lambda release: (release / "x").symlink_to("/nowhere"),
        "x: it does not belong",
    ),
    "no card": (lambda release: (release / "README.md").unlink(), "README.md: it is not there"),
    "no part": (
        lambda release: part_path(release, 1).unlink(),
        "part-00001.parquet: it is not there",
    ),
    "a bit of a part": (
        lambda release: damage_bytes(part_path(release, 1)),
        "part-00001.parquet is d",
    ),
    "a cut part": (lambda release: cut(part_path(release, 1)), "part-00001.parquet is damaged"),
    "no shard": (
        lambda release: (release / "embeddings.zarr/clip/image/c.1.0").unlink(),
        "embeddings.zarr/clip/image/c.1.0: it is not there",
    ),
    "a bit of a shard": (
        lambda release: damage_bytes(release / "embeddings.zarr/clip/text/c.1.0"),
        "embeddings.zarr/clip/text/c.1.0 is damaged: its bytes are not those written",
    ),
    "a cut shard": (
        lambda release: cut(release / "embeddings.zarr/clip/text/c.1.0"),
        "embeddings.zarr/clip/text/c.1.0 is damaged: it has",
    ),
    "metadata": (
        lambda release: damage_bytes(release / "embeddings.zarr/clip/image/zarr.json"),
        "embeddings.zarr/clip/image/zarr.json: it is not what layout.json asks for",
    ),
    "a shard of another part": (
        lambda release: shutil.copy(
            release / "embeddings.zarr/clip/image/c.0.0",
            release / "embeddings.zarr/clip/image/c.1.0",
        ),
        "embeddings.zarr/clip/image/c.1.0 is damaged",
    ),
    "a part of another number": (
        lambda release: shutil.copy(part_path(release, 0), part_path(release, 1)),
        "part-00001.parquet: its receipt is that of pack part-00000",
    ),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_files_that_are_not_what_was_written_are_named(release: Path, plant: str):
    harm, line = PLANTS[plant]
    harm(release)
    found, _ = faults(release)
    assert any(line in fault for fault in found), found
    assert not any(str(release) in fault for fault in found)


def test_vectors_that_are_no_unit_vectors_are_found_although_all_checksums_agree(tmp_path: Path):
    release = make_release(tmp_path)
    part = tmp_path / "scored.parquet"
    table = read_part(part)
    column = table["image/clip"].to_pylist()
    column[3] = (2 * np.frombuffer(column[3], "<f2")).astype("<f2").tobytes()
    column[5] = np.full(DIM, np.nan, "<f2").tobytes()
    index = table.schema.get_field_index("image/clip")
    field = table.schema.field("image/clip")
    table = table.set_column(index, field, pa.array(column, field.type))
    write_part(part, table.schema, [table], read_receipt(part), replace=True)
    part_path(release, 0).unlink()
    pack_shard(tmp_path, release, 0, [Slice("selected.parquet", 0, SHARD)])
    found, rejected = faults(release)
    assert rejected == {"norm": 1, "not_finite": 1}
    assert found == [
        "pairs/part-00000.parquet: row 3: a vector of it is not of length 1",
        "pairs/part-00000.parquet: row 5: a vector of it is not finite",
    ]


def test_of_many_wrong_rows_some_are_named_and_all_are_counted(release: Path):
    def spoil(rows: list[dict]) -> None:
        for row in rows:
            row["uid"] = "0" * 32

    rewrite(release, 1, spoil)
    found, rejected = faults(release)
    assert rejected == {"uid": 8, "repeated": 7}
    assert sum(": row " in fault for fault in found) == FAULTS_NAMED
    assert "pairs/part-00001.parquet: 3 more rows are wrong" in found
    assert f"twice: {'0' * 32}" in found


def test_columns_of_another_kind_are_named(release: Path):
    path = part_path(release, 1)
    receipt, table = read_receipt(path), read_part(path).drop_columns("lang")
    write_part(path, table.schema, [table], receipt, replace=True)
    found, rejected = faults(release)
    assert rejected == {"missing": 8}
    assert found == ["pairs/part-00001.parquet: its columns are not those of a release"]


def test_a_part_without_a_receipt_is_named(release: Path):
    path = part_path(release, 1)
    pq.write_table(read_part(path).replace_schema_metadata({RECEIPT_KEY: b"{}"}), path)
    assert any("part-00001.parquet is damaged" in fault for fault in faults(release)[0])


def test_a_release_without_a_row_is_sound(tmp_path: Path):
    layout = Layout(
        0, (released_encoder("clip", DIM),), "clip", "hash", SHARD, CHUNK, fingerprint([[]])
    )
    create_release(tmp_path, layout)
    pack_shard(tmp_path, tmp_path, 0, [])
    for name in ("README.md", "report.html"):
        (tmp_path / name).touch()
    assert stray_files(tmp_path, layout) == []
    checked = check_part(tmp_path, 0, layout)
    assert (checked.faults, checked.counts, len(checked.uids)) == ((), Counts(), 0)
