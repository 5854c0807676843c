"""`cah join` as a user types it: columns of a table beside the pairs that it knows."""

import shutil
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cah_dask.release.manifest import read_manifest
from tests import releases, runs
from tests.commands import cah, refused, start

ROWS = 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of sixty pairs in eight parts."""
    return releases.make(tmp_path_factory.mktemp("join"), range(ROWS))


@pytest.fixture(scope="module")
def table(whole: Path) -> Path:
    """Two files with a row for two of three pairs, and one for none."""
    folder = whole.with_name("scores")
    folder.mkdir()
    uids = releases.rows(whole)["uid"].to_pylist()
    known = [n for n in range(ROWS) if n % 3][::-1]
    for name, numbers in (("a", known[:15]), ("b", known[15:])):
        columns = {
            "uid": [*(uids[n] for n in numbers), "0" * 31 + name],
            "score": pa.array([*(n / 2 for n in numbers), 9.0], pa.float32()),
            "label": pa.array([*(f"label {n}" for n in numbers), None], pa.large_string()),
            "unwanted": [0] * (len(numbers) + 1),
        }
        pq.write_table(pa.table(columns), folder / f"{name}.parquet", row_group_size=4)
    return folder


WANTED = ("--column", "aesthetic=score", "--column", "label")


@pytest.fixture(scope="module")
def joined(whole: Path, table: Path) -> Path:
    to = whole.with_name("joined")
    code, answered, said = cah("join", whole, table, "--to", to, *WANTED)
    assert code == 0, said
    assert answered == [
        f"40 of 60 pairs have a row in {table}",
        f"2 rows of {table}: there is no such pair",
        f"{to}: written",
    ]
    assert {path.name for path in to.parent.iterdir()} == {
        *("joined", "release", "scored.parquet", "scores", "selected.parquet"),
    }
    return to


def test_columns_stand_beside_the_pairs_that_the_table_knows(whole: Path, joined: Path):
    before, after = releases.rows(whole), releases.rows(joined)
    assert after.column_names == [*before.column_names, "aesthetic", "label"]
    assert after.select(before.column_names).equals(before)
    assert after["aesthetic"].type == pa.float32()
    assert after["aesthetic"].to_pylist() == [n / 2 if n % 3 else None for n in range(ROWS)]
    assert after["label"].to_pylist() == [f"label {n}" if n % 3 else None for n in range(ROWS)]
    for name, array in releases.vectors(joined).items():
        assert array.tobytes() == releases.vectors(whole)[name].tobytes()
    assert cah("verify", joined)[:2] == (0, [])


def test_the_manifest_names_the_files_by_what_they_hold(joined: Path):
    manifest = read_manifest(joined)
    assert manifest is not None
    (step,) = manifest.steps
    assert step.rule["columns"] == {"aesthetic": "score", "label": "label"}
    assert {name: len(digest) for name, digest in step.rule["files"].items()} == {
        "a.parquet": 64,
        "b.parquet": 64,
    }
    assert str(joined.parent) not in (joined / "manifest.json").read_text()
    assert "| `aesthetic` | float | joined; null where" in (joined / "README.md").read_text()


def test_what_was_killed_goes_on_to_the_same_bytes(
    whole: Path, table: Path, joined: Path, tmp_path: Path
):
    workers = ("--set", "pools.cpu.workers=1")
    command = ("join", whole, table, "--to", tmp_path / "new", *WANTED, *workers)
    for commits in (5, 12, 21):
        process = start(*command)

        def n_done() -> int:
            found = list(tmp_path.glob("new.join/*/journal.jsonl"))
            return found[0].read_bytes().count(b"\n") if found else 0

        assert runs.wait_for(lambda n=commits: n_done() >= n)  # type: ignore[misc]
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "new").exists()
    code, _, said = cah(*command)
    assert code == 0, said
    assert releases.contents(tmp_path / "new") == releases.contents(joined)


def test_a_csv_is_joined_by_url_and_joined_columns_live_on(joined: Path, tmp_path: Path):
    urls = releases.rows(joined)["url"].to_pylist()
    lines = [f"{urls[n].replace('https', 'HTTPS')},{n},2024-01-0{n % 9 + 1}" for n in range(50)]
    table = tmp_path / "people.csv"
    table.write_text("\n".join(["url,count,day", *lines]) + "\n")
    options = ("--on", "url", "--column", "count", "--column", "day")
    code, answered, said = cah("join", joined, table, "--to", tmp_path / "new", *options)
    assert code == 0, said
    assert answered[0] == f"50 of 60 pairs have a row in {table}"
    after = releases.rows(tmp_path / "new")
    assert after["count"].to_pylist() == [*range(50), *[None] * 10]
    assert str(after["day"].type) == "date32[day]"
    assert after.select(["uid", "aesthetic"]).equals(
        releases.rows(joined).select(["uid", "aesthetic"])
    )
    manifest = read_manifest(tmp_path / "new")
    assert manifest is not None
    assert [step.how for step in manifest.steps] == ["join", "join"]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "options", "code", "line"),
    [
        ("uid,a\n", (), 3, "error: name the columns of the table that are wanted, by --column"),
        ("uid,a\n", ("--column", "b"), 3, "table.csv has no column b; it has uid, a"),
        ("id,a\n", ("--column", "a"), 3, "table.csv has no column uid; it has id, a"),
        ("uid,a\n", ("--column", "a="), 3, "--column a=: expected NAME or NAME=THEIRS"),
        ("uid,text\n", ("--column", "text"), 3, "has a column text already; give it another name"),
        ("uid,part\n", ("--column", "part"), 3, "give it another name: --column NAME=part"),
        ("", ("--column", "a"), 4, "table.csv cannot be read: Empty CSV file"),
        ("uid,a\n", ("--column", "a", "--to", "release/x"), 3, "only read; name a new folder"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(  # noqa: PLR0917
    whole: Path, tmp_path: Path, capsys, text: str, options: tuple[str, ...], code: int, line: str
):
    release = Path(shutil.copytree(whole, tmp_path / "release"))
    table = write(tmp_path / "table.csv", text)
    before = releases.contents(tmp_path)
    given = [str(tmp_path / each) if each.startswith("rel") else each for each in options]
    to = [] if "--to" in options else ["--to", str(tmp_path / "new")]
    found, answered, said = refused(capsys, "join", release, table, *to, *given)
    assert (found, answered) == (code, []), said
    assert line in said
    assert said.count("\n") == 1
    assert releases.contents(tmp_path) == before


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["{0},1", "{1},2", "{0},3"],
            "row 1 of table.csv and row 3 of table.csv have the same uid",
        ),
        (["{0},1", "no,2"], "table.csv: 'no' is no uid, which has 32 hex digits"),
    ],
)
def test_rows_that_mean_no_pair_end_it_with_one_line(
    whole: Path, tmp_path: Path, lines: list[str], message: str
):
    uids = releases.rows(whole)["uid"].to_pylist()
    text = "\n".join(["uid,a", *(line.format(*uids) for line in lines)])
    table = write(tmp_path / "table.csv", text)
    code, _, said = cah("join", whole, table, "--to", tmp_path / "new", "--column", "a")
    assert code == 5, said
    assert message in said.splitlines()[-1]
    assert not (tmp_path / "new").exists()
