"""`cah diff` as a user types it: what two releases do not share, and why."""

import json
from pathlib import Path

import pytest

from tests import releases
from tests.commands import cah, refused

ROWS = 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of sixty pairs in eight parts."""
    return releases.make(tmp_path_factory.mktemp("diff"), range(ROWS))


@pytest.fixture(scope="module")
def derived(whole: Path) -> Path:
    """The same without two hosts, and with a column more."""
    hosts = whole.with_name("hosts")
    hosts.write_text("h3.example\nh5.example\n")
    redacted, joined = whole.with_name("redacted"), whole.with_name("joined")
    assert cah("redact", whole, "--to", redacted, "--hosts", hosts)[0] == 0
    table = whole.with_name("table.csv")
    table.write_text("uid,score\n" + "0" * 32 + ",0.5\n")
    assert cah("join", redacted, table, "--to", joined, "--column", "score")[0] == 0
    return joined


def test_what_was_left_out_is_told_with_its_reason(whole: Path, derived: Path):
    code, answered, said = cah("diff", whole, derived)
    assert code == 1, said
    assert [line.split() for line in answered[:5]] == [
        ["pairs", "A", "B"],
        ["all", "60", "43"],
        ["equal", "43", "43"],
        ["changed", "0", "0"],
        ["only", "there", "17", "0"],
    ]
    assert answered[5:] == [
        "columns of B only: score",
        "B was made of A by redact: hosts_listed 17",
        "B was made of A by join: nothing left out",
    ]
    assert not whole.with_name("release.diff").exists()


def test_json_says_the_same(whole: Path, derived: Path):
    code, answered, _ = cah("diff", derived, whole, "--json")
    assert code == 1
    assert json.loads("".join(answered)) == {
        "rows": [43, 60],
        "equal": 43,
        "only_in_a": 0,
        "only_in_b": 17,
        "changed": 0,
        "changed_columns": {},
        "columns_only_in_a": ["score"],
        "columns_only_in_b": [],
        "reasons": [
            "A was made of B by redact: hosts_listed 17",
            "A was made of B by join: nothing left out",
        ],
    }


def test_equal_releases_end_with_zero(whole: Path, tmp_path: Path):
    code, answered, said = cah("diff", whole, releases.make(tmp_path, range(ROWS)[::-1]))
    assert code == 0, said
    assert answered[4].split() == ["only", "there", "0", "0"]
    assert answered[5:] == ["both are of one run, with the same settings of select and pack"]


def test_changes_name_their_columns(whole: Path, tmp_path: Path):
    other = releases.make(tmp_path, range(ROWS), "other", {"lang": ["xx"] * 2 + ["de"] * 58})
    expected = sum(n < 2 or n % 3 != 1 for n in range(ROWS))
    code, answered, _ = cah("diff", whole, other)
    assert code == 1
    assert answered[3].split() == ["changed", f"{expected}", f"{expected}"]
    assert answered[5:] == [
        f"changed in lang: {expected}",
        "both are of one run, with other settings of select and pack",
    ]


def test_what_is_no_release_is_one_line(whole: Path, tmp_path: Path, capsys):
    for pair in ((whole, tmp_path), (tmp_path, whole)):
        code, answered, said = refused(capsys, "diff", *pair)
        assert (code, answered) == (4, [])
        assert said.startswith(f"error: {tmp_path} is no release")
        assert said.count("\n") == 1
