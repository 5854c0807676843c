"""What was changed between two releases, told by digests of columns and vectors."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cah_dask.curate.care.digests import (
    compared,
    differences,
    kinds_of,
    of_values,
    record,
    records,
)
from cah_dask.errors import DamageError
from cah_dask.keys import sort_order
from tests import releases


def all_records(release: Path, columns: list[str]) -> np.ndarray:
    layout = releases.layout_of(release)
    found = [records(release, n, layout, columns) for n in range(layout.shards)]
    joined = np.concatenate(found)
    return joined[sort_order(joined)]


def compare(one: Path, other: Path) -> tuple[int, int, int, dict[str, int]]:
    columns = compared(releases.layout_of(one), releases.layout_of(other))
    left, right, changed, n_of = differences(
        all_records(one, columns), all_records(other, columns), columns
    )
    return len(left), len(right), len(changed), dict(n_of)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return releases.make(tmp_path_factory.mktemp("digests"), range(20))


def test_equal_pairs_in_another_order_are_equal(whole: Path, tmp_path: Path):
    other = releases.make(tmp_path, range(20)[::-1])
    assert compare(whole, other) == (0, 0, 0, {})


def test_pairs_of_one_only_are_counted(whole: Path, tmp_path: Path):
    assert compare(whole, releases.make(tmp_path, range(5, 28))) == (5, 8, 0, {})
    assert compare(whole, releases.make(tmp_path / "none", [])) == (20, 0, 0, {})


def repeated(*rows: tuple[int, int, int]) -> np.ndarray:
    """Return records: a uid and two digests each."""
    found = np.zeros(len(rows), record(["a", "b"]))
    for at, (key, *digests) in enumerate(rows):
        found[at] = (key, key, digests)
    return found


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([(1, 5, 5), (1, 6, 6)], [(1, 6, 6), (1, 5, 5)], ([], [], [], {})),
        ([(1, 5, 5), (1, 6, 6)], [(1, 6, 6), (1, 7, 5)], ([], [], [1], {"a": 1})),
        ([(1, 5, 5), (1, 5, 5), (2, 0, 0)], [(1, 5, 5)], ([1, 2], [], [], {})),
        ([(1, 5, 5)], [(1, 5, 5), (1, 5, 5), (1, 5, 5)], ([], [1, 1], [], {})),
        ([(1, 5, 5), (1, 5, 5)], [(1, 5, 6), (1, 6, 5), (1, 7, 7)],
         ([], [1], [1, 1], {"a": 1, "b": 1})),
    ],
)  # fmt: skip
def test_a_uid_that_is_there_more_than_once_is_matched_by_its_values(one, other, expected):
    *found, n_of = differences(repeated(*one), repeated(*other), ["a", "b"])
    assert ([each["f1"].tolist() for each in found], n_of) == ([*expected[:3]], expected[3])


def test_each_changed_value_and_vector_is_told(whole: Path, tmp_path: Path):
    made = releases.pairs(range(20))
    images = list(made["image/clip"])
    images[7] = images[8]
    changed: dict[str, list[Any]] = {
        "license": [None] * 19 + ["cc"],
        "lang_is_reliable": [True] + [False] * 19,
        "original_width": [0] * 7 + [1] + [0] * 12,
        "image/clip": images,
    }
    other = releases.make(tmp_path, range(20), columns=changed)
    assert compare(whole, other) == (
        0, 0, 3,
        {"lang_is_reliable": 1, "license": 1, "original_width": 1, "image/clip": 1},
    )  # fmt: skip


def test_every_column_and_array_is_compared_but_where_a_pair_stands(whole: Path):
    layout = releases.layout_of(whole)
    names = compared(layout, layout)
    assert {*names} == {*layout.schema.names, "image/clip", "text/clip"} - {"row", "uid"}
    assert kinds_of(layout)["image/clip"] == "vectors of 8"


def test_damage_is_no_difference(whole: Path, tmp_path: Path):
    other = releases.make(tmp_path, range(20))
    path = other / "embeddings.zarr" / "clip" / "text" / "c.1.0"
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamageError, match=r"c\.1\.0 is damaged"):
        compare(whole, other)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.string(), ["a", "b", "", None]),
        (pa.large_string(), ["a", "b", "", None]),
        (pa.int8(), [-1, 0, 1, None]),
        (pa.uint64(), [2**64 - 1, 0, 1, None]),
        (pa.float16(), [np.float16(1), np.float16(0), np.float16(-1), None]),
        (pa.float32(), [1.0, 0.0, float("nan"), None]),
        (pa.float64(), [1.0, -0.0, 0.0, None]),
        (pa.bool_(), [True, False, None]),
        (pa.date32(), [1, 0, None]),
        (pa.timestamp("ms"), [1, 0, None]),
        (pa.list_(pa.list_(pa.float64())), [[[0.5, 1.0]], [[0.5], [1.0]], [], None]),
    ],
)
def test_values_differ_by_their_digests_and_equal_ones_do_not(kind: pa.DataType, values: list):
    array = pa.array([*values, *values], kind)
    column = pa.chunked_array([array.slice(0, 3), array.slice(3)])
    found = of_values(column)
    assert len({*found.tolist()}) == len(values)
    assert found[: len(values)].tolist() == found[len(values) :].tolist()
    assert len(of_values(column.slice(0, 0))) == 0
