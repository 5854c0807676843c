"""Subset files of the shipped filters are, byte for byte, those of DataComp's rules."""

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cah_dask.curate.filters.file import AssetOptions, load_filter, located
from cah_dask.curate.pools.opening import open_pool
from cah_dask.curate.texts.assets import WORDNET, digest
from cah_dask.run.filtering.job import FilterJob
from tests.curate import jobs, plain
from tests.curate.datacomp_folder import File, write_folder
from tests.curate.texts.dictionaries import small_wordnet
from tests.curate.texts.lid import LID_FTZ

FRACTIONS = (0.001, 0.1, 0.29, 0.3, 0.5, 0.999)
THRESHOLDS = (0.28, 0.3, 0.243, 0.281, 0.247, 0.203, 0.325, 0.7)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[File]:
    given = [{"text": "two geese on a quiet lake"}, {"text": "a dogs life in the country"}]
    return write_folder(tmp_path_factory.mktemp("pool"), files=3, rows=300, given=given)


@pytest.fixture(scope="module")
def rows(files: list[File]) -> list[plain.Row]:
    return plain.rows_of(files)


def _subset(
    files: list[File],
    name: str,
    tmp_path: Path,
    assets: Mapping[str, AssetOptions] | None = None,
    /,
    **parameters: str,
) -> bytes:
    filter_ = load_filter(name, parameters, {"lid.176.ftz": str(LID_FTZ)})
    known = filter_.assets | dict(assets or {})
    filter_ = located(msgspec.structs.replace(filter_, assets=known))
    to = tmp_path / "subset.npy"
    job = FilterJob(open_pool(files[0].path.parent), filter_, "uids", to, tmp_path / "job")
    return jobs.subset(job, to)


def test_no_filter(files: list[File], rows: list[plain.Row], tmp_path: Path) -> None:
    assert _subset(files, "no-filter", tmp_path) == plain.kept(rows, plain.no_filter)


def test_basic(files: list[File], rows: list[plain.Row], tmp_path: Path) -> None:
    expected = plain.kept(rows, plain.basic)
    assert 128 < len(expected) < 128 + 16 * len(rows)
    assert _subset(files, "basic", tmp_path, model="lid.176.ftz") == expected


def test_text_based(files: list[File], rows: list[plain.Row], tmp_path: Path) -> None:
    folder = tmp_path / "dict"
    folder.mkdir()
    small_wordnet(folder)
    ids = tmp_path / "ids.txt"
    ids.write_text("n02084071\nn01855672\n")
    assets = {
        "wordnet-3.0": AssetOptions(file=str(folder), sha256=digest(WORDNET, folder)),
        "ids": AssetOptions(file=str(ids)),
    }
    synsets = {"dog": 2084071, "dogs": 2084071, "geese": 1855672, "man": 10287213}
    expected = plain.kept(rows, lambda row: plain.text_based(row, synsets, {2084071, 1855672}))
    assert 128 < len(expected) < 128 + 16 * len(rows)
    found = _subset(files, "text-based", tmp_path, assets, model="lid.176.ftz", ids="ids")
    assert found == expected


@pytest.mark.parametrize("share", [None, 0.3])
def test_image_based(
    files: list[File], rows: list[plain.Row], tmp_path: Path, share: float | None
) -> None:
    """Centroids of different lengths, so that the nearest by L2 is another one."""
    vectors = np.concatenate([file.vectors["l14_img"] for file in files]).astype(np.float32)
    rng = np.random.default_rng(1)
    centroids = vectors[rng.choice(len(vectors), 12)] * rng.uniform(0.7, 1.3, (12, 1)).astype("f4")
    np.save(tmp_path / "centroids.npy", centroids)
    np.save(tmp_path / "targets.npy", np.array([9, 1, 4, 5]))
    assets = {
        name: AssetOptions(file=str(tmp_path / f"{name}.npy")) for name in ("centroids", "targets")
    }
    name, parameters = "image-based", {"model": "lid.176.ftz"}
    high: Callable[[plain.Row], bool] = plain.no_filter
    if share is not None:
        name, parameters["fraction"] = "image-based-clip-score", repr(share)
        high = plain.fraction(rows, "clip_l14_similarity_score", share)
    expected = plain.subset(
        [
            row["uid"]
            for row, vector in zip(rows, vectors, strict=True)
            if high(row) and plain.image_based(row, vector, centroids, {1, 4, 5, 9})
        ]
    )
    assert 128 < len(expected) < 128 + 16 * len(rows)
    assert _subset(files, name, tmp_path, assets, **parameters) == expected


def test_laion2b(files: list[File], rows: list[plain.Row], tmp_path: Path) -> None:
    expected = plain.kept(rows, plain.laion2b)
    assert 128 < len(expected) < 128 + 16 * len(rows)
    assert _subset(files, "laion2b", tmp_path) == expected


@pytest.mark.parametrize("column", ["b32", "l14"])
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_threshold(
    files: list[File], rows: list[plain.Row], tmp_path: Path, column: str, threshold: float
) -> None:
    rule = plain.clip_score(f"clip_{column}_similarity_score", threshold)
    ours = {"column": f"similarity_{column}", "threshold": repr(threshold)}
    assert _subset(files, "clip-score-threshold", tmp_path, **ours) == plain.kept(rows, rule)


@pytest.mark.parametrize("column", ["b32", "l14"])
@pytest.mark.parametrize("share", FRACTIONS)
def test_fraction(
    files: list[File], rows: list[plain.Row], tmp_path: Path, column: str, share: float
) -> None:
    rule = plain.fraction(rows, f"clip_{column}_similarity_score", share)
    ours = {"column": f"similarity_{column}", "fraction": repr(share)}
    assert _subset(files, "clip-score-fraction", tmp_path, **ours) == plain.kept(rows, rule)


def _basic(side: int, ratio: float) -> Callable[[plain.Row], bool]:
    """Return the basic rule with sides of more than, and a ratio of less than some."""

    def rule(row: plain.Row) -> bool:
        sides = row["original_width"], row["original_height"]
        return plain.basic(row) and min(sides) > side and max(sides) / min(sides) < ratio

    return rule


MISTAKES: dict[str, tuple[Callable[[plain.Row], bool], Callable[[plain.Row], bool]]] = {
    "side > 200": (plain.basic, _basic(200, 3.1)),
    "aspect < 3": (plain.basic, _basic(199, 3.0)),
    "score > 0.28": (
        plain.clip_score("clip_b32_similarity_score", 0.28),
        lambda row: bool(np.float32(row["clip_b32_similarity_score"]) > np.float32(0.28)),
    ),
    "0.7 in float64": (
        plain.clip_score("clip_b32_similarity_score", 0.7),
        lambda row: row["clip_b32_similarity_score"] >= 0.7,
    ),
}
"""What one can get wrong of sizes and scores; of texts: `texts/test_caption_rules.py`."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_rows_show_a_mistake(mistake: str, rows: list[plain.Row]) -> None:
    right, wrong = MISTAKES[mistake]
    assert plain.kept(rows, right) != plain.kept(rows, wrong)


def test_a_threshold_is_compared_in_float32(files: list[File], tmp_path: Path) -> None:
    """As a float32 0.7 is less than 0.7: a comparison in float64 would lose what equals it."""
    scores = [
        score for file in files for score in file.table["clip_b32_similarity_score"].to_pylist()
    ]
    equal = scores.count(float(np.float32(0.7)))
    assert equal
    keep = {"score": {"column": "similarity_b32", "at_least": 0.7}}
    above = {"score": {"column": "similarity_b32", "above": 0.7}}
    pool = files[0].path.parent
    counts = [
        jobs.carry_out(jobs.job_of(pool, tree, tmp_path / name, "counts")).kept
        for name, tree in (("at least", keep), ("above", above))
    ]
    assert counts[0] - counts[1] == equal
    assert counts[1] > 0


def test_fractions_of_scores_that_are_no_float16_numbers(tmp_path: Path) -> None:
    """All scores near a threshold round to one float16 number; a second look tells them apart."""
    (file,) = write_folder(tmp_path / "pool", files=1, rows=500)
    scores = [0.25 + 1e-6 * (n % 97) for n in range(500)]
    at = file.table.schema.get_field_index("clip_l14_similarity_score")
    field = file.table.schema.field(at)
    table = file.table.set_column(at, field, pa.array(scores, field.type))
    pq.write_table(table, file.path)
    rows = table.to_pylist()
    for share in FRACTIONS:
        keep = {"top_fraction": {"column": "similarity_l14", "fraction": share}}
        job = jobs.job_of(tmp_path / "pool", keep, tmp_path / "job")
        expected = plain.kept(rows, plain.fraction(rows, field.name, share))
        assert jobs.subset(job, tmp_path / f"{share}.npy") == expected
