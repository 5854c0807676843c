"""Which rows of a release lists name, and which entries name none."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cah_dask.curate.care.lists import COLUMNS, KINDS, load_lists
from cah_dask.errors import InputError

ROWS = [
    ("00" * 16, "https://a.example/1.jpg", None, "11" * 16, "22" * 32),
    ("01" * 16, "https://img.b.example/2.jpg", "https://cdn.example/2.jpg", None, None),
    ("02" * 16, "https://xb.example/%C3%A9.jpg", "https://xb.example/3.jpg", "33" * 16, "44" * 32),
]
TABLE = pa.table([pa.array(column, pa.string()) for column in zip(*ROWS, strict=True)], COLUMNS)


def found(tmp_path: Path, **lists: str) -> tuple[list[str], dict[str, int]]:
    """Return the kind that names each row, and how many entries name none, by kind."""
    for kind, text in lists.items():
        (tmp_path / kind).write_text(text)
    loaded = load_lists({kind: tmp_path / kind for kind in lists})
    result = loaded.found_in(TABLE)
    left = {kind: size - len(result.entries[kind]) for kind, size in loaded.sizes.items()}
    return [KINDS[n] if n >= 0 else "" for n in result.kind], left


@pytest.mark.parametrize(
    ("kind", "text", "named"),
    [
        ("uids", "01" * 16, [1]),
        ("uids", "# those of May\n" + "00" * 16 + "  # asked by mail\n\n" + "02" * 16, [0, 2]),
        ("uids", ("ab" * 16).upper(), []),
        ("urls", "https://a.example/1.jpg", [0]),
        ("urls", "HTTPS://A.example:443/x/../1.jpg#top", [0]),
        ("urls", "http://a.example/1.jpg", []),
        ("urls", "https://cdn.example/2.jpg", [1]),
        ("urls", "https://xb.example/é.jpg", [2]),
        ("hosts", "b.example", [1]),
        ("hosts", "*.b.example", [1]),
        ("hosts", "EXAMPLE", [0, 1, 2]),
        ("hosts", "https://cdn.example/other.jpg", [1]),
        ("hosts", "example.com", []),
        ("hashes", "22" * 32, [0]),
        ("hashes", "33" * 16, [2]),
        ("hashes", "33" * 32, []),
    ],
)
def test_rows_that_an_entry_names(tmp_path: Path, kind: str, text: str, named: list[int]):
    kinds, left = found(tmp_path, **{kind: text})
    assert kinds == [kind if row in named else "" for row in range(3)]
    assert left == {kind: 0 if named else 1}


def test_a_row_counts_under_the_first_kind_and_all_entries_are_known(tmp_path: Path):
    kinds, left = found(
        tmp_path,
        hosts="a.example\nnowhere.example",
        hashes="22" * 32 + "\n" + "55" * 16,
        uids="00" * 16,
    )
    assert kinds == ["uids", "", ""]
    assert left == {"uids": 0, "hosts": 1, "hashes": 1}


def test_an_entry_that_is_there_twice_is_one(tmp_path: Path):
    assert found(tmp_path, uids=f"{'01' * 16}\n{'01' * 16}\n")[1] == {"uids": 0}
    text = "https://c.example/1\nhttps://c.example:443/1\n"
    assert found(tmp_path, urls=text)[1] == {"urls": 1}


def test_no_rows_are_named_in_an_empty_table(tmp_path: Path):
    (tmp_path / "hosts").write_text("a.example")
    nothing = load_lists({"hosts": tmp_path / "hosts"}).found_in(TABLE.slice(0, 0))
    assert len(nothing.kind) == 0
    assert nothing.entries["hosts"].dtype == np.int64


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("uids", f"{'00' * 16}\nno uid\n", "line 2: 'no uid' is not 32 hex digits"),
        ("urls", "ftp://a.example/1", "line 1: 'ftp://a.example/1' is no http"),
        ("hosts", "a.example b.example", "line 1: 'a.example b.example' is no host name"),
        ("hashes", "123", "line 1: '123' is no md5, sha1, sha256 or phash"),
        ("hashes", "00" * 20, "holds a sha1; a release has sha256 and md5 of its images"),
        ("hashes", "00" * 8, "holds a phash; a release has sha256 and md5 of its images"),
        ("hosts", "\x00\xff", "is no host name"),
    ],
)
def test_what_is_no_entry_is_told_by_its_line(tmp_path: Path, kind: str, text: str, message: str):
    with pytest.raises(InputError, match="list ") as caught:
        found(tmp_path, **{kind: text})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_that_is_not_there_is_named(tmp_path: Path, kind: str):
    with pytest.raises(InputError, match=f"list .*{kind} does not exist"):
        load_lists({kind: tmp_path / kind})
