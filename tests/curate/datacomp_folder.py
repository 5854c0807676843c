"""Folders of metadata as DataComp publishes them: parquet, npz of the same name, made anew.

Scores are chosen and vectors made for them, so that a folder has rows at, just above and just below
the thresholds in use, and its scores are nevertheless those of its vectors.
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        pa.field("uid", pa.string()),
        pa.field("url", pa.string()),
        pa.field("text", pa.string()),
        pa.field("original_width", pa.int64()),
        pa.field("original_height", pa.int64()),
        pa.field("clip_b32_similarity_score", pa.float32()),
        pa.field("clip_l14_similarity_score", pa.float32()),
        pa.field("face_bboxes", pa.list_(pa.list_(pa.float64()))),
        pa.field("sha256", pa.string()),
    ]
)
DIMS = {"b32": 16, "l14": 24}
"""Length of vectors; those of DataComp have 512 and 768."""

THRESHOLDS = (0.28, 0.3, 0.243, 0.281, 0.247, 0.203, 0.325, 0.7)
SIDES = (1, 199, 200, 201, 599, 600, 601, 602, 4096)
TEXTS = (
    "a photo of a dog",
    "a photo\nof a dog\nin two lines",
    "abcde\n",
    "one\u00a0two",
    "one two\u2003three four",
    "three words here",
    "only two",
    "ünïcödé",
    "日本語の説明",
    "dog, cat. geese!",
    "__label__en a photo of a label",
    'quoted "text", with\ttabs',
    "  blanks at both ends  ",
    "caf&eacute; &amp; bar",
    "word " * 300,
)
"""Texts at the borders of the rules for texts."""

ZEROS, ONES = "0" * 32, "f" * 32
BOX = [0.1, 0.2, 0.5, 0.75]

Vectors = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class File:
    """One parquet file of a folder and what stands beside it."""

    path: Path
    table: pa.Table
    """`SCHEMA`."""
    vectors: dict[str, Vectors]
    """By the key of the npz, such as ``b32_img``: ``(rows, dim)``."""


def uid(text: str, url: str) -> str:
    """Return the uid of DataComp."""
    return hashlib.md5((text + url).encode()).hexdigest()


def write_folder(
    folder: Path,
    *,
    files: int = 3,
    rows: int = 120,
    given: Sequence[Mapping[str, Any]] = (),
    dims: Mapping[str, int] = DIMS,
    dtype: str = "float16",
    parts: int = 0,
    dedup: bool = False,
    seed: int = 0,
) -> list[File]:
    """Write a folder of metadata and return its files in the order of their paths.

    Parameters
    ----------
    rows
        Of each file. A row of each is there twice, one of the first file is in all others too.
    given
        Columns of the first rows of all, over those that are made; a uid that is not given is that
        of text and url.
    dims
        Length of vectors by encoder; none for a folder without npz.
    dtype
        Of the npz, float16 or float32.
    parts
        In so many subfolders ``part_0`` ..., as xlarge is; 0 for none.
    dedup
        Whether the npz have the fifth key that third-party readers know.
    """
    rng = np.random.default_rng(seed)
    waiting, names, made = iter(given), [], []
    for number in range(files):
        name = hashlib.md5(f"{seed} {number}".encode()).hexdigest()
        names.append(f"part_{number % parts}/{name}" if parts else name)
        made.append(_columns(number, rows, list(itertools.islice(waiting, rows)), rng))
    _repeat_rows(made, len(given))
    written = []
    for name, columns in zip(names, made, strict=True):
        table = pa.table(columns, schema=SCHEMA)
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        vectors = _vectors(table, dims, dtype, rng)
        if dims:
            arrays: dict[str, Any] = dict(vectors)
            if dedup:
                arrays["dedup"] = rng.normal(size=(rows, 8)).astype(dtype)
            np.savez(path.with_suffix(".npz"), **arrays)
        written.append(File(path, table, vectors))
    return sorted(written, key=lambda file: file.path)


def _columns(
    number: int, rows: int, given: Sequence[Mapping[str, Any]], rng: np.random.Generator
) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        "url": [f"http://h{row % 17}.example/{number}/{row}.jpg" for row in range(rows)],
        "text": [f"a photo of thing {number} {row}" for row in range(rows)],
        "original_width": rng.choice(SIDES, rows).tolist(),
        "original_height": rng.choice(SIDES, rows).tolist(),
        "clip_b32_similarity_score": _scores(rows, rng),
        "clip_l14_similarity_score": _scores(rows, rng),
        "face_bboxes": [[BOX] * (row % 3) for row in range(rows)],
        "sha256": [hashlib.sha256(b"%d %d" % (number, row)).hexdigest() for row in range(rows)],
    }
    columns["text"][: len(TEXTS)] = TEXTS[:rows]
    columns["uid"] = [""] * rows
    for row, cells in enumerate(given):
        for name, value in cells.items():
            columns[name][row] = value
    if rows > len(given):
        columns["url"][-1] = _with_leading_zeros(columns["text"][-1], columns["url"][-1])
    pairs = zip(columns["uid"], columns["text"], columns["url"], strict=True)
    columns["uid"] = [known or uid(text, url) for known, text, url in pairs]
    return columns


def _with_leading_zeros(text: str, url: str) -> str:
    """Return a url like `url` whose pair has a uid that begins with three zeros."""
    urls = (f"{url}?{number}" for number in itertools.count())
    return next(each for each in urls if uid(text, each).startswith("000"))


def _scores(rows: int, rng: np.random.Generator) -> list[float]:
    """Return scores that are float16 numbers, and some float32 ones around each threshold."""
    scores = rng.normal(0.24, 0.06, rows).clip(-0.1, 0.9).astype(np.float16).astype(np.float32)
    exact = np.array(THRESHOLDS, np.float32)
    around = np.concatenate(
        [exact, np.nextafter(exact, np.float32(0)), np.nextafter(exact, np.float32(1))]
    )
    scores[: len(around)] = around[:rows]
    return rng.permutation(scores).tolist()


def _repeat_rows(made: Sequence[dict[str, list[Any]]], n_given: int) -> None:
    """Have a pair of each file be there twice, and one of the first file in all others."""
    rows = len(made[0]["uid"]) if made else 0
    for number, columns in enumerate(made):
        first_free = max(0, n_given - number * rows)
        for name in ("uid", "url", "text"):
            if rows - first_free > 3:
                columns[name][-2] = columns[name][-4]
                columns[name][-3] = made[0][name][-1] if number else columns[name][-3]


def _vectors(
    table: pa.Table, dims: Mapping[str, int], dtype: str, rng: np.random.Generator
) -> dict[str, Vectors]:
    """Return unit vectors of both towers whose inner products are the scores of the table."""
    vectors: dict[str, Vectors] = {}
    for encoder, dim in dims.items():
        scores = table[f"clip_{encoder}_similarity_score"].to_numpy(zero_copy_only=False)
        cosine = np.nan_to_num(scores.astype(np.float64)).clip(-1, 1)[:, None]
        images, other = rng.normal(size=(2, len(table), dim))
        images /= np.linalg.norm(images, axis=1, keepdims=True)
        other -= (other * images).sum(axis=1, keepdims=True) * images
        other /= np.linalg.norm(other, axis=1, keepdims=True)
        texts = cosine * images + np.sqrt(1 - cosine**2) * other
        vectors[f"{encoder}_img"] = images.astype(dtype)
        vectors[f"{encoder}_txt"] = texts.astype(dtype)
    return vectors
