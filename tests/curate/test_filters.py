"""Each predicate keeps the rows that it should, joined or not; what is wrong is one line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from cah_dask.curate.filters.file import PREDICATES, load_filter, made_from, shipped
from cah_dask.errors import CahError, ConfigError, InputError, RunError
from tests.curate import jobs
from tests.curate.texts.lid import LID_FTZ

ROWS = [
    # uid, url, page_url, text, width, height, similarity, split, license, sha256, phash
    (0, "http://a.example/1.jpg", "http://blog.org/x", "a photo of a dog", 200, 600, 0.30, "en"),
    (1, "http://www.a.example/2.jpg", None, "zwei Hunde\nim Garten", 199, 600, 0.28, "multi"),
    (2, "http://b.example/3.jpg", "http://c.test/", "geese and GEESE", 300, 100, 0.28, "en"),
    (3, "http://c.test/4.jpg", "http://sub.blog.org/", "", 0, 0, 0.10, "nolang"),
    (4, "not a url", "http://a.example/", "x y z", 5000, 5000, 0.55, "en"),
]
NAMES = (
    *("uid", "url", "page_url", "text", "original_width", "original_height"),
    *("similarity", "split"),
)


def uid(number: int) -> str:
    return f"{number:032x}"


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    columns = dict(zip(NAMES, map(list, zip(*ROWS, strict=True)), strict=True))
    table = pa.table({**columns, "uid": [uid(row[0]) for row in ROWS]})
    table = table.set_column(6, "similarity", table["similarity"].cast(pa.float32()))
    table = table.append_column("license", pa.array(["CC0", None, "CC-BY", "CC0", None]))
    table = table.append_column("sha256", pa.array([f"{n:02x}" * 32 for n in range(5)]))
    table = table.append_column("phash", pa.array([f"{n:016x}" for n in range(4)] + [None]))
    table = table.append_column("faces", pa.array([0, 1, 2, 0, None], pa.int64()))
    path = tmp_path / "pool.parquet"
    pq.write_table(table, path)
    return path


def kept(pool: Path, keep: Mapping[str, Any], tmp_path: Path, **options: Any) -> list[int]:
    job = jobs.job_of(pool, keep, tmp_path / "job", **options)
    found = np.frombuffer(jobs.subset(job, tmp_path / "subset.npy")[128:], "<u8").reshape(-1, 2)
    return [int(number) for number in found[:, 1]]


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ({"score": {"at_least": 0.28}}, [0, 1, 2, 4]),
        ({"score": {"above": 0.28}}, [0, 4]),
        ({"score": {"below": 0.28}}, [3]),
        ({"score": {"at_least": 0.1, "at_most": 0.28}}, [1, 2, 3]),
        ({"score": {"column": "original_width", "above": 199}}, [0, 2, 4]),
        ({"top_fraction": {"fraction": 0.5}}, [0, 1, 2, 4]),
        ({"top_fraction": {"fraction": 0.2}}, [0, 4]),
        ({"top_fraction": {"fraction": 0.4, "by": "split"}}, [0, 1, 3, 4]),
        ({"top_fraction": {"fraction": {"en": 0.01, "multi": 0.5}, "by": "split"}}, [1, 4]),
        ({"min_side": {"at_least": 200}}, [0, 4]),
        ({"min_side": {"above": 200}}, [4]),
        ({"max_side": {"at_most": 600}}, [0, 1, 2, 3]),
        ({"aspect": {"at_most": 3.0}}, [0, 2, 4]),
        ({"aspect": {"below": 3.0}}, [4]),
        ({"words": {"above": 3}}, [0, 1]),
        ({"words": {"tokeniser": "fasttext", "above": 4}}, [0, 1]),
        ({"chars": {"at_most": 5}}, [3, 4]),
        ({"regex": {"pattern": "(?i)geese$"}}, [2]),
        ({"regex": {"pattern": "^http://b", "column": "page_url"}}, [0]),
        ({"is": {"column": "split", "in": ["en", "nolang"]}}, [0, 2, 3, 4]),
        ({"is": {"column": "faces", "in": [0, 2]}}, [0, 2, 3]),
        ({"license": {"in": ["CC0"]}}, [0, 3]),
        ({"not": {"license": {"in": ["CC0"]}}}, [1, 2, 4]),
        ({"host": {"in": ["a.example"]}}, [0, 1]),
        ({"page": {"in": ["blog.org"]}}, [0, 3]),
        ({"language": {"column": "split", "in": ["multi"]}}, [1]),
        ({"language": {"detector": "cld3", "in": ["de"]}}, [1]),
        ({"language": {"detector": "fasttext", "model": "lid", "in": ["de"]}}, [1]),
        ({"sample": {"fraction": 1.0}}, [0, 1, 2, 3, 4]),
        ({"all": []}, [0, 1, 2, 3, 4]),
        ({"any": []}, []),
        ({"any": [{"chars": {"at_most": 0}}, {"score": {"above": 0.5}}]}, [3, 4]),
        ({"not": {"any": [{"chars": {"at_most": 0}}, {"score": {"above": 0.5}}]}}, [0, 1, 2]),
        (
            {"all": [{"words": {"above": 2}}, {"not": {"all": [{"score": {"above": 0.29}}]}}]},
            [1, 2],
        ),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
def test_predicates(keep: Any, expected: list[int], pool: Path, tmp_path: Path) -> None:
    assert kept(pool, keep, tmp_path, assets={"lid": str(LID_FTZ)}) == expected


@pytest.mark.parametrize(
    ("predicate", "lines", "expected"),
    [
        ("uids", [uid(1), uid(4), uid(9)], [1, 4]),
        ("urls", ["http://b.example/3.jpg", "http://elsewhere.test/"], [2]),
        ("host", ["a.example", "c.test"], [0, 1, 3]),
        ("hashes", ["03" * 32], [3]),
        ("phrases", ["geese", "photo of"], [0, 2]),
    ],
)
def test_lists(
    predicate: str, lines: list[str], expected: list[int], pool: Path, tmp_path: Path
) -> None:
    path = tmp_path / "list.txt"
    path.write_text("\n".join(lines) + "\n")
    assert kept(pool, {predicate: {"file": str(path)}}, tmp_path) == expected


def test_a_phash_is_looked_up_as_what_it_is(pool: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"{2:016x}\n")
    assert kept(pool, {"hashes": {"file": str(path), "column": "phash"}}, tmp_path) == [2]


def test_a_subset_file_is_a_uid_list_if_it_is_sorted(pool: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.npy"
    keys = np.array([(0, 3), (0, 1), (0, 1)], dtype="u8,u8")
    np.save(path, keys)
    with pytest.raises((InputError, RunError), match="is not sorted"):
        kept(pool, {"uids": {"file": str(path)}}, tmp_path)
    np.save(path, np.sort(keys))
    assert kept(pool, {"uids": {"file": str(path)}}, tmp_path) == [1, 3]
    np.save(path, np.zeros(3))
    with pytest.raises((InputError, RunError), match=r"holds float64; expected two uint64 a row"):
        kept(pool, {"uids": {"file": str(path)}}, tmp_path)


def test_near_duplicates_are_those_that_their_job_names(pool: Path, tmp_path: Path) -> None:
    folder = tmp_path / "duplicates"
    folder.mkdir()
    np.save(folder / "uids.npy", np.array([(0, 2), (0, 4)], dtype="u8,u8"))
    keep = {"not": {"near_duplicate": {"folder": str(folder)}}}
    assert kept(pool, keep, tmp_path) == [0, 1, 3]
    with pytest.raises(ConfigError, match=r"list .*nowhere.uids\.npy cannot be read"):
        kept(pool, {"near_duplicate": {"folder": "nowhere"}}, tmp_path)


def test_samples_are_nested_and_of_the_size_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "pool.parquet"
    pq.write_table(pa.table({"uid": [uid(n) for n in range(20_000)]}), path)

    def sample(fraction: float, seed: int = 0) -> set[int]:
        return set(kept(path, {"sample": {"fraction": fraction, "seed": seed}}, tmp_path))

    small, large, other = sample(0.1), sample(0.3), sample(0.3, 1)
    assert small < large
    assert len(small) == pytest.approx(2000, rel=0.1)
    assert len(large) == pytest.approx(6000, rel=0.05)
    assert len(large & other) == pytest.approx(1800, rel=0.15)


def test_counts_say_what_each_rule_keeps_alone_and_in_order(pool: Path, tmp_path: Path) -> None:
    keep = {
        "all": [{"words": {"above": 2}}, {"score": {"at_least": 0.28}}, {"chars": {"above": 5}}]
    }
    trial = jobs.carry_out(jobs.job_of(pool, keep, tmp_path / "a", "counts"))
    assert trial.notes == {"alone/chars": 3, "alone/score": 4, "alone/words": 4}
    real = jobs.carry_out(jobs.job_of(pool, keep, tmp_path / "b"))
    assert real.rejected == trial.rejected == {"chars": 1, "score": 1}
    assert (real.seen, real.kept) == (trial.seen, trial.kept) == (5, 3)


def test_rows_with_empty_cells_end_the_job_or_are_counted(pool: Path, tmp_path: Path) -> None:
    table = pq.read_table(pool)
    table = table.set_column(3, "text", pa.array(["a b c", None, "d e f", "", "g h i"]))
    scores = pa.array([0.3, 0.3, float("nan"), None, 0.3], pa.float32())
    pq.write_table(table.set_column(6, "similarity", scores), pool)
    keep = {"all": [{"chars": {"above": 1}}, {"score": {"above": 0}}]}
    with pytest.raises(RunError, match=r"parquet: row 2 has no similarity; with `nulls: drop`"):
        kept(pool, keep, tmp_path)
    with pytest.raises(RunError, match="row 2 has no similarity"):
        kept(pool, {"top_fraction": {"fraction": 0.1}}, tmp_path)
    job = jobs.job_of(pool, keep, tmp_path / "other", nulls="drop")
    assert jobs.carry_out(job).rejected == {"empty_cell": 3}
    assert kept(pool, {"top_fraction": {"fraction": 0.9}}, tmp_path, nulls="drop") == [0, 1, 4]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"chars": {"over": 5}}, "keep.chars: unknown key over; there are above, at_least, below"),
        (
            {"characters": {"above": 5}},
            "there is no predicate characters; there are all, any",
        ),
        ({"chars": 5}, "keep.chars: expected a mapping of above"),
        ({"chars": {"above": "five"}}, "keep.chars: Expected `float | null`, got `str`"),
        ({"chars": {}}, "keep.chars: expected a limit"),
        ({"all": {"chars": {"above": 5}}}, "keep.all: expected a list of predicates"),
        ({"all": [{"chars": {"above": 1}}, {}]}, r"keep\.all\[1\]: expected one predicate"),
        ({"not": {"x": 1}}, "keep.not.x: there is no predicate x"),
        ({"top_fraction": {"fraction": 1.0}}, "expected a number above 0 and below 1"),
        ({"top_fraction": {"fraction": {"en": 0.1}}}, "needs `by`, the column that tells them"),
        ({"regex": {"pattern": "("}}, r"keep\.regex: .*missing \)"),
        ({"language": {"in": ["en"]}}, "expected column, or else detector"),
        ({"license": {"in": []}}, "expected in: what a row is compared with"),
        ({"hashes": {"file": "x", "column": "crc"}}, "expected md5, sha1, sha256 or phash"),
        ({"score": {"column": "$none", "above": 1}}, r"\$none is not among its parameters"),
    ],
)
def test_a_mistake_in_a_filter_is_one_line(tree: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "filter.yaml"
    path.write_text(yaml.safe_dump({"keep": tree}))
    with pytest.raises(ConfigError, match=message) as caught:
        made_from(load_filter(str(path)), "filter.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keep: {all: []}\nkeeps: 1", "unknown key keeps; there are keep, about, parameters"),
        ("all: []", "expected a mapping with `keep`"),
        ("- 1", "expected a mapping with `keep`"),
        ("keep: [", "is no YAML"),
        ("keep: {all: []}\nnulls: ignore", "Invalid enum value 'ignore'"),
    ],
)
def test_a_file_that_is_no_filter_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "filter.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_filter(str(path))
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_named(pool: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no-such is no filter file .* \(basic, clip-score-"):
        load_filter("no-such")
    with pytest.raises(ConfigError, match="has no parameter limit; it has column, threshold"):
        load_filter("clip-score-threshold", {"limit": "1"})
    with pytest.raises(ConfigError, match=r"has no column aesthetic; it has uid, url, text, "):
        kept(pool, {"score": {"column": "aesthetic", "above": 1}}, tmp_path)
    with pytest.raises(ConfigError, match=r"--asset lid\.176\.bin=PATH; it comes from https"):
        kept(pool, {"language": {"detector": "fasttext", "in": ["en"]}}, tmp_path)
    with pytest.raises(ConfigError, match=r"list .*nowhere\.txt cannot be read: No such file"):
        kept(pool, {"uids": {"file": "nowhere.txt"}}, tmp_path)
    with pytest.raises(CahError, match=r"column text holds string, not numbers"):
        kept(pool, {"score": {"column": "text", "above": 1}}, tmp_path)
    with pytest.raises(CahError, match=r"column faces holds int64, which is not compared with 'x'"):
        kept(pool, {"is": {"column": "faces", "in": ["x"]}}, tmp_path)


def test_all_shipped_filters_are_filters() -> None:
    assert {"basic", "laion2b", "no-filter"} <= shipped().keys()
    for name in shipped():
        file = load_filter(name)
        assert made_from(file).rules is not None
        assert file.about


def test_every_predicate_says_what_it_is_for() -> None:
    assert [name for name, kind in PREDICATES.items() if not kind.__doc__] == []


def test_the_page_about_filters_names_all_of_them() -> None:
    page = (Path(__file__).parents[2] / "docs" / "filters.md").read_text()
    assert [
        name for name in PREDICATES if f"`{name} " not in page and f"`{name}`" not in page
    ] == []
    assert [name for name in shipped() if f"`{name}`" not in page] == []
