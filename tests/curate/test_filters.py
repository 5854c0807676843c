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

from cah_dask.curate.filters.file import PREDICATES, load_filter, located, made_from, shipped
from cah_dask.errors import CahError, ConfigError, InputError, RunError
from cah_dask.run import pool_task
from tests import jobs_here
from tests.curate import jobs
from tests.curate.datacomp_folder import write_folder
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
        ({"is": {"column": "lang", "in": ["en", False]}}, "in YAML no is false, write 'no'"),
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
    with pytest.raises(InputError, match=r"list nowhere\.txt does not exist"):
        kept(pool, {"uids": {"file": "nowhere.txt"}}, tmp_path)
    with pytest.raises(CahError, match=r"column text holds string, not numbers"):
        kept(pool, {"score": {"column": "text", "above": 1}}, tmp_path)
    with pytest.raises(CahError, match=r"column faces holds int64, which is not compared with 'x'"):
        kept(pool, {"is": {"column": "faces", "in": ["x"]}}, tmp_path)


def test_a_pool_of_one_file_is_that_file_for_workers_too(pool: Path, tmp_path: Path) -> None:
    """Another file in its folder, which sorts before it, is none of it."""
    other = pa.table({"uid": [uid(77)], "url": [""], "text": [""]})
    pq.write_table(other, pool.with_name("a.parquet"))
    assert kept(pool, {"all": []}, tmp_path) == [0, 1, 2, 3, 4]


def test_a_url_is_normalised_before_it_is_looked_up(pool: Path, tmp_path: Path) -> None:
    table = pq.read_table(pool)
    urls = ["HTTP://A.example:80/a b.jpg", *table["url"].to_pylist()[1:]]
    pq.write_table(table.set_column(1, "url", pa.array(urls)), pool)
    listed = tmp_path / "urls.txt"
    listed.write_text("http://a.example/a%20b.jpg\n")
    assert kept(pool, {"urls": {"file": str(listed)}}, tmp_path) == [0]


def test_a_list_of_other_digests_is_refused(pool: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("00" * 16 + "\n")
    with pytest.raises(InputError, match=r"list\.txt holds no sha256; set column to its kind"):
        kept(pool, {"hashes": {"file": str(path)}}, tmp_path)
    path = tmp_path / "other.txt"
    path.write_text("00" * 32 + "\n")
    table = pq.read_table(pool)
    at = table.schema.get_field_index("sha256")
    pq.write_table(table.set_column(at, "sha256", pa.array(["x"] * 5)), pool)
    with pytest.raises(RunError, match="column sha256 holds what is no sha256 in hex"):
        kept(pool, {"hashes": {"file": str(path)}}, tmp_path)


def test_each_threshold_counts_the_rows_of_its_own_column(tmp_path: Path) -> None:
    """Rows without the score of one node are rows of another one, in both looks."""
    n = 1000
    a = np.float32(0.25) + np.arange(n, dtype=np.float32) * np.float32(1e-7)
    b = np.where(np.arange(n) % 2, np.nan, 0.5).astype(np.float32)
    path = tmp_path / "pool.parquet"
    pq.write_table(pa.table({"uid": [uid(i) for i in range(n)], "a": a, "b": b}), path)
    keep = {
        "all": [
            {"top_fraction": {"column": "a", "fraction": 0.3}},
            {"top_fraction": {"column": "b", "fraction": 0.5}},
        ]
    }
    threshold = np.sort(a)[::-1][int(n * 0.3)]
    expected = np.flatnonzero((a >= threshold) & ~np.isnan(b)).tolist()
    assert kept(path, keep, tmp_path, nulls="drop") == expected


def test_another_column_another_list_or_other_vectors_are_another_job(tmp_path: Path) -> None:
    (file,) = write_folder(tmp_path / "pool", files=1)
    for name, text in (("a", uid(1)), ("b", uid(2))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "list.txt").write_text(text + "\n")

    def name_of(*lists: str, **columns: str) -> str:
        rules = [{"uids": {"file": str(tmp_path / each / "list.txt")}} for each in lists]
        keep = {"any": [*rules, {"chars": {"above": 5}}]}
        return jobs.job_of(tmp_path / "pool", keep, tmp_path / "job", columns=columns).name

    names = [name_of("a", "b"), name_of("a", "b", text="url"), name_of("b", "a"), name_of("a", "a")]
    vectors = {key: np.roll(each, 1, axis=0) for key, each in file.vectors.items()}
    np.savez(file.path.with_suffix(".npz"), allow_pickle=False, **vectors)
    names.append(name_of("a", "b"))
    assert len(set(names)) == len(names)


def test_a_pool_that_changes_meanwhile_ends_the_job(tmp_path: Path) -> None:
    write_folder(tmp_path / "pool", files=3, dims={})
    job = jobs.job_of(tmp_path / "pool", {"all": []}, tmp_path / "job")
    jobs_here.carry_out(job, at_most=1)
    write_folder(tmp_path / "pool" / "0", files=1, dims={}, seed=1)
    pool_task._pool.cache_clear()  # as in a worker that begins now
    with pytest.raises(RunError, match="has changed since the job began"):
        jobs_here.carry_out(job)


def test_nothing_is_written_into_a_pool(tmp_path: Path) -> None:
    write_folder(tmp_path / "pool", files=1, dims={})
    with pytest.raises(ConfigError, match=r"--to .* lies in the pool .*pool; set another"):
        jobs.job_of(tmp_path / "pool", {"all": []}, tmp_path / "pool" / "job")


def test_an_asset_that_lies_elsewhere_must_be_the_same(tmp_path: Path) -> None:
    path = tmp_path / "filter.yaml"
    tree = {"nearest_centroid": {"centroids": "c", "targets": "t"}}
    assets = {"c": {"file": "c.npy", "sha256": "0" * 64}, "t": "t.npy"}
    path.write_text(yaml.safe_dump({"keep": tree, "assets": assets}))
    np.save(tmp_path / "c.npy", np.ones((2, 3)))
    with pytest.raises(ConfigError, match=r"c\.npy has SHA-256 .* it should have 000"):
        located(load_filter(str(path), {}, {"c": str(tmp_path / "c.npy")}))
    path.write_text(yaml.safe_dump({"keep": tree, "assets": {"c": str(tmp_path / "c.npy")}}))
    with pytest.raises(ConfigError, match=r"asset t: .*nowhere cannot be read: No such file"):
        located(load_filter(str(path), {}, {"t": "nowhere"}))
    with pytest.raises(ConfigError, match="a parameter is no YAML"):
        load_filter("clip-score-threshold", {"threshold": "@y"})


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
