"""Tables of people: which files, and the keys of their rows."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cah_dask.curate.care.tables import Key, TableFile, Tables, pair_keys
from cah_dask.errors import InputError
from cah_dask.keys import of_texts

UIDS = [f"{n:032x}" for n in (3, 1, 2)]
URLS = [f"https://h.example/{n}" for n in (3, 1, 2)]


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
    ],
)
@pytest.mark.parametrize(("on", "values"), [("uid", UIDS), ("url", URLS)])
def test_keys_may_be_of_any_type_of_text(kind: pa.DataType, on: Key, values: list[str]):
    expected = pair_keys(pa.chunked_array([pa.array(values)]), on, "")
    column = pa.array(values).cast(kind) if kind != pa.string_view() else pa.array(values, kind)
    assert pair_keys(pa.chunked_array([column]), on, "").tolist() == expected.tolist()
    if on == "url":
        assert expected.tolist() == of_texts(URLS).tolist()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array(["x", None]), "a row has no url"),
        (pa.array(["x", None]).dictionary_encode(), "a row has no url"),
        (pa.array([1, 2]), "column url is int64, not text"),
    ],
)
def test_what_is_no_url_is_told(column: pa.Array, message: str):
    with pytest.raises(InputError, match=f"people: {message}"):
        pair_keys(pa.chunked_array([column]), "url", "people")


def test_files_are_those_of_all_folders_but_hidden_ones(tmp_path: Path):
    names = ["a/x.csv", "b/x.csv", ".h/x.csv", "_temporary/0/x.csv", "c/.x.csv", "c/_x.csv"]
    for name in names:
        path = tmp_path / "_people" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("uid,a\n")
    tables = Tables(tmp_path / "_people", "uid", {"a": "a"})
    assert [tables.name_of(file) for file in tables.files] == ["a/x.csv", "b/x.csv"]


def test_a_dictionary_is_read_as_its_values(tmp_path: Path):
    path = tmp_path / "people.parquet"
    labels = pa.array(["a", "b", "a"]).dictionary_encode()
    pq.write_table(pa.table({"uid": pa.array(UIDS).dictionary_encode(), "label": labels}), path)
    tables = Tables(path, "uid", {"name": "label"})
    ((keys, columns),) = TableFile(path, "uid", tables.columns, tables.released).batches()
    assert keys["f1"].tolist() == [3, 1, 2]
    assert columns.to_pydict() == {"name": ["a", "b", "a"]}
