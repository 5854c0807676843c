"""DataComp's metadata: what is looked at, and the rows that a release gets."""

import itertools
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cah_dask.curate.datacomp import MetadataRows, layout_of, open_metadata
from cah_dask.curate.datacomp_look import FOREIGN_UIDS, REASONS, Looked, look
from cah_dask.errors import InputError, RunError
from cah_dask.schema import uid
from tests.curate.datacomp_folder import BOX, ZEROS, File, write_folder

ROWS = 120


@pytest.fixture
def files(tmp_path: Path) -> list[File]:
    return write_folder(tmp_path, files=2, rows=ROWS)


def change(file: File, **cells: Any) -> None:
    """Write a file anew, with other cells in its row 5."""
    rows = file.table.to_pylist()
    rows[5] |= cells
    pq.write_table(pa.Table.from_pylist(rows, file.table.schema), file.path)


def change_vectors(file: File, **arrays: Any) -> None:
    np.savez(file.path.with_suffix(".npz"), **(file.vectors | arrays))


def with_row(vectors: np.ndarray, value: float) -> np.ndarray:
    changed = vectors.copy()
    changed[5] = value
    return changed


def found(folder: Path, number: int = 0) -> Looked:
    return look(open_metadata(folder), number)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_all_rows_of_sound_metadata_are_chosen_in_their_order(tmp_path: Path, dtype: str):
    files = write_folder(tmp_path, files=4, rows=ROWS, parts=2, dtype=dtype, dedup=True)
    pool = open_metadata(tmp_path)
    assert pool.units == [str(file.path.relative_to(tmp_path)) for file in files]
    for number, file in enumerate(files):
        looked = look(pool, number)
        assert looked.faults == ()
        assert (looked.counts.seen, looked.counts.kept) == (ROWS, ROWS)
        assert looked.counts.notes[FOREIGN_UIDS] == 0
        rows = pa.concat_tables(looked.chosen)
        assert rows["row"].to_pylist() == list(range(ROWS))
        assert [each.hex() for each in rows["uid"].to_pylist()] == file.table["uid"].to_pylist()
        assert {*rows["part"].to_pylist()} == {pool.units[number]}


@pytest.mark.parametrize(
    ("reason", "cells"),
    [
        ("bad_uid", {"uid": "A" * 32}),
        ("bad_uid", {"uid": "a" * 31}),
        ("bad_uid", {"uid": "a" * 32 + "\n"}),
        ("bad_uid", {"uid": None}),
        ("no_pair", {"text": None}),
        ("no_pair", {"url": None}),
        ("bad_digest", {"sha256": ""}),
        ("bad_digest", {"sha256": "g" * 64}),
        ("bad_value", {"original_width": 1 << 40}),
        ("bad_similarity", {"clip_b32_similarity_score": float("nan")}),
        ("bad_similarity", {"clip_l14_similarity_score": None}),
        ("other_vector", {"clip_l14_similarity_score": 0.99}),
    ],
)
def test_a_bad_cell_is_told_by_its_row(tmp_path: Path, files: list[File], reason, cells):
    change(files[0], **cells)
    looked = found(tmp_path)
    assert looked.faults == (f"{files[0].path}: 1 row with {REASONS[reason]}, the first is row 5",)
    assert looked.counts.rejected == {reason: 1}
    assert (looked.counts.seen, looked.counts.kept) == (ROWS, ROWS - 1)
    assert 5 not in pa.concat_tables(looked.chosen)["row"].to_pylist()


def test_sizes_may_be_floats_with_nan_but_no_fractions(tmp_path: Path, files: list[File]):
    widths: list[float] = [512.0] * ROWS
    widths[3], widths[5], widths[9] = float("nan"), 0.5, float("inf")
    at = files[0].table.schema.get_field_index("original_width")
    table = files[0].table.set_column(at, "original_width", pa.array(widths))
    pq.write_table(table, files[0].path)
    looked = found(tmp_path)
    assert looked.counts.rejected == {"bad_value": 2}
    assert "2 rows with a value that its column cannot have" in looked.faults[0]
    made = rows_of(tmp_path, 0, [2, 3, 4])
    assert made["original_width"].to_pylist() == [512, None, 512]


def test_a_column_of_another_kind_is_one_clear_line(tmp_path: Path, files: list[File]):
    at = files[0].table.schema.get_field_index("face_bboxes")
    table = files[0].table.set_column(at, "face_bboxes", pa.array([{"x": 1}] * ROWS))
    pq.write_table(table, files[0].path)
    looked = found(tmp_path)
    (fault,) = looked.faults
    assert fault.startswith(f"{files[0].path}: column face_bboxes is struct<x: int64>, not list<")
    assert not looked.is_readable


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), 0.5])
def test_a_bad_vector_is_told_by_its_row(tmp_path: Path, files: list[File], value: float):
    change_vectors(files[0], l14_txt=with_row(files[0].vectors["l14_txt"], value))
    assert found(tmp_path).counts.rejected == {"bad_vector": 1}


def test_vectors_that_are_not_those_of_their_rows_are_told(tmp_path: Path, files: list[File]):
    images = files[0].vectors["b32_img"]
    change_vectors(files[0], b32_img=np.roll(images, 1, axis=0))
    rejected = found(tmp_path).counts.rejected
    assert rejected["other_vector"] > ROWS * 0.9


def test_a_row_that_is_wrong_in_many_ways_counts_once(tmp_path: Path, files: list[File]):
    change(files[0], uid=None, text=None, clip_b32_similarity_score=float("nan"))
    change_vectors(files[0], l14_txt=with_row(files[0].vectors["l14_txt"], 0))
    assert found(tmp_path).counts.rejected == {"bad_uid": 1}


def test_a_uid_of_something_else_is_counted_only(tmp_path: Path):
    write_folder(tmp_path, files=1, rows=9, given=[{"uid": ZEROS}])
    looked = found(tmp_path)
    assert looked.counts.notes[FOREIGN_UIDS] == 1
    assert (looked.counts.kept, looked.faults) == (9, ())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.path.with_suffix(".npz").unlink(), r"\.npz is not there"),
        (lambda file: cut(file.path.with_suffix(".npz")), r"\.npz cannot be read as \.npz"),
        (
            lambda file: flip(file.path.with_suffix(".npz")),
            r"\.npz cannot be read as \.npz: Bad CRC",
        ),
        (lambda file: cut(file.path), r"\.parquet cannot be read as parquet"),
        (
            lambda file: change_vectors(file, b32_txt=file.vectors["b32_txt"][:-1]),
            r"\.npz: b32_txt has 119 rows, its table has 120",
        ),
        (
            lambda file: change_vectors(file, b32_txt=file.vectors["b32_txt"][:, :-1]),
            r"b32/text has vectors of length 15, those of .* have 16",
        ),
        (
            lambda file: pq.write_table(file.table.drop_columns("text"), file.path),
            r"\.parquet has no column text; it has uid, url",
        ),
        (
            lambda file: np.savez(file.path.with_suffix(".npz"), b32_img=file.vectors["b32_img"]),
            r"\.npz cannot be read as \.npz: .*b32_txt",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_line(
    tmp_path: Path, files: list[File], damage, message
):
    pool = open_metadata(tmp_path)
    damage(files[1])
    looked = look(pool, 1)
    assert looked.counts.seen == 0
    (fault,) = looked.faults
    assert re.search(message, fault), fault
    assert "\n" not in fault


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.path.with_suffix(".npz").unlink(), r"is not there or holds no b32_img"),
        (lambda file: np.savez(file.path.with_suffix(".npz"), x=np.ones(3)), "holds no b32_img"),
        (
            lambda file: np.savez(file.path.with_suffix(".npz"), b32_img=file.vectors["b32_img"]),
            "b32_img and b32_txt do not pair",
        ),
        (lambda file: change_vectors(file, l14_txt=file.vectors["b32_txt"]), "l14_txt do not pair"),
        (
            lambda file: pq.write_table(file.table.drop_columns("uid"), file.path),
            r"has no column uid; it has url",
        ),
    ],
)
def test_a_folder_of_other_things_is_refused_at_once(
    tmp_path: Path, files: list[File], damage, message
):
    damage(files[0])
    with pytest.raises(InputError, match=message):
        open_metadata(tmp_path)


def test_a_file_that_is_no_table_is_noted_and_left_out(tmp_path: Path, files: list[File]):
    (tmp_path / f".{files[0].path.name}.crc").write_bytes(b"crc")
    pool = open_metadata(tmp_path)
    assert len(pool.units) == 2
    (note,) = pool.notes
    assert note.startswith(f".{files[0].path.name}.crc is left out")


def rows_of(folder: Path, number: int, rows: list[int]) -> pa.Table:
    """Return all columns of some rows as a release gets them."""
    pool = open_metadata(folder)
    chosen = pa.concat_tables(look(pool, number).chosen).take(rows)
    names = ["uid", "similarity_l14", "similarity_b32", "image/l14", "text/b32"]
    columns = [name for name in layout_of(pool).schema.names if name not in ("row", "encoder")]
    wanted = list(dict.fromkeys([*names, *columns]))
    wanted.remove("similarity")
    return pa.concat_tables(MetadataRows(folder).take(pool.units[number], chosen, wanted))


def test_rows_are_those_of_the_metadata_bit_by_bit(tmp_path: Path, files: list[File], monkeypatch):
    monkeypatch.setattr("cah_dask.curate.pools.tables.VECTOR_ROWS", 7)
    chosen = [0, 1, 8, 50, 51, 119]
    made = rows_of(tmp_path, 1, chosen)
    theirs = files[1].table.take(chosen)
    for ours, name in {
        "url": "url", "text": "text", "sha256": "sha256", "face_bboxes": "face_bboxes",
        "original_width": "original_width", "original_height": "original_height",
    }.items():  # fmt: skip
        assert made[ours].to_pylist() == theirs[name].to_pylist()
    for encoder in ("b32", "l14"):
        mine = made[f"similarity_{encoder}"].to_numpy().tobytes()
        assert mine == theirs[f"clip_{encoder}_similarity_score"].to_numpy().tobytes()
    assert [each.hex() for each in made["uid"].to_pylist()] == theirs["uid"].to_pylist()
    vectors = np.frombuffer(b"".join(made["image/l14"].to_pylist()), "<f2").reshape(6, -1)
    assert vectors.tobytes() == files[1].vectors["l14_img"][chosen].tobytes()
    assert made["archive"].to_pylist() == [files[1].path.name] * 6
    assert made["record_offset"].to_pylist() == chosen
    assert BOX in itertools.chain.from_iterable(made["face_bboxes"].to_pylist())


def test_what_metadata_do_not_say_is_found_or_empty(tmp_path: Path):
    texts = ["A photo of a dog that plays with a ball in the garden", "DSC_0123.jpg"]
    write_folder(tmp_path, files=1, rows=9, given=[{"text": text} for text in texts])
    made = rows_of(tmp_path, 0, [0, 1]).to_pylist()
    assert [row["split"] for row in made] == ["en", "nolang"]
    assert [row["text_is_filename"] for row in made] == [False, True]
    assert {row["page_url"] for row in made} == {""}
    assert {row["md5"] for row in made} == {None}
    assert all(row["uid"] == uid(row["text"], row["url"]) for row in made)


def test_a_file_that_was_replaced_meanwhile_is_not_taken(tmp_path: Path, files: list[File]):
    pool = open_metadata(tmp_path)
    chosen = pa.concat_tables(look(pool, 0).chosen)
    for suffix in (".parquet", ".npz"):
        shutil.copy(files[1].path.with_suffix(suffix), files[0].path.with_suffix(suffix))
    with pytest.raises(RunError, match="has changed since it was looked at"):
        list(MetadataRows(tmp_path).take(pool.units[0], chosen, ["uid", "url"]))


def test_metadata_of_one_encoder_have_its_similarity(tmp_path: Path):
    write_folder(tmp_path, files=1, rows=9, dims={"b32": 16})
    layout = layout_of(open_metadata(tmp_path))
    assert layout.encoder_names == ["b32"]
    assert "similarity_b32" not in layout.schema.names
    made = rows_of(tmp_path, 0, [0])
    assert len(made) == 1
