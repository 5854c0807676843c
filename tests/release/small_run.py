"""A run of one list, two of whose three images were had and one of whose pairs is kept."""

import io
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from cah_dask.counts import Counts
from cah_dask.images.shards import ShardWriter
from cah_dask.pairs.select import select_list
from cah_dask.release.summary import StageSummary, Summary
from cah_dask.schema import MODALITIES, OUTCOMES, SAMPLES, SELECTED, scored, vector_of
from cah_dask.storage import Receipt, side_file, write_part

SELECTED_PART = "selected/0123abcd/w00000/g00000.parquet"
LIST = "w00000/b00000-l00000"
HOSTILE = '<script>alert(1)</script> & "quotes"'
COUNTS = {
    "extract": Counts(100, 40, {"no_text": 50, "format": 10}, {"lists": 1}),
    "dedup": Counts(40, 30, {"duplicate": 10}),
    "download": Counts(30, 20, {"http_404": 7, "too_small": 3}),
    "embed": Counts(
        30, 20, {"http_404": 7, "too_small": 3},
        {"long_texts/clip/en": 4, "similarity/clip/en/60": 12, "similarity/clip/en/52": 5,
         "similarity/clip/multi/50": 3},
    ),
    "select": Counts(
        20, 12, {"below_threshold": 8},
        {"scored/en/en": 17, "kept/en/en": 12, "scored/multi/de": 3, "crc32": 1},
    ),
    "pack": Counts(12, 12),
}  # fmt: skip


@pytest.fixture
def summary() -> Summary:
    time = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
    return Summary(
        stages={name: StageSummary(2, counts, 1.5, "rows") for name, counts in COUNTS.items()},
        archives=["x.warc.wat.gz", "y|`z`.warc.wat.gz"],
        lost=["x.warc.wat.gz: cut after 10 records"],
        started=time,
        finished=time,
        versions={"cah_dask": "0.1.0"},
        settings={"embed.model": "tiny"},
        encoder="clip",
        thresholds={"en": 0.2, "multi": 0.1, "nolang": 0.1},
        selected=[SELECTED_PART],
        lists=[LIST],
    )


def jpeg(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (300, 200), colour).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """One scored list of two pairs (one kept) with its image shard."""
    columns = {
        "uid": [b"0" * 16, b"1" * 16, b"2" * 16],
        "text": [HOSTILE, "a dog", "ein Haus"],
        "url": ["http://a.example/1", "javascript:alert(2)", "http://b.example/3"],
        "split": ["en", "en", "multi"],
        "lang": ["en", "en", "de"],
        "status": ["ok", "ok", "http_404"],
        "similarity_clip": [0.25, 0.05, None],
    }
    write_run(tmp_path, columns, [jpeg("red"), jpeg("blue")])
    return tmp_path


def write_run(folder: Path, columns: dict[str, Any], images: Sequence[bytes]) -> None:
    """Write a run of one list; `images` are those of the rows whose status is ok, in order."""
    shard = folder / "images" / "w00000" / "b00000-l00000-a.h5"
    shard.parent.mkdir(parents=True)
    with ShardWriter(shard) as writer:
        for image in images:
            writer.add(image)
    receipt = Receipt(
        stage="download", unit="u", config="c", counts=Counts(), side=(side_file(shard),)
    )
    count = itertools.count()
    ok = [status == "ok" for status in columns["status"]]
    columns = columns | {"image_row": [next(count) if had else None for had in ok]}
    write_part(folder / "images" / f"{LIST}.parquet", OUTCOMES, [_rows(OUTCOMES, columns)], receipt)
    bucket = LIST.partition("-")[0]
    write_part(folder / "fetch" / f"{bucket}.parquet", SAMPLES, [_rows(SAMPLES, columns)], receipt)
    had = {name: list(itertools.compress(column, ok)) for name, column in columns.items()}
    had |= {vector_of("clip", modality): [bytes(4)] * len(images) for modality in MODALITIES}
    path = folder / "scored" / f"{LIST}.parquet"
    table = _rows(schema := scored({"clip": 2}), had)
    write_part(path, schema, [table], receipt)
    name = path.relative_to(folder).as_posix()
    selected, counts = select_list(name, table, "clip", {"en": 0.2})
    receipt = Receipt(stage="select", unit="u", config="c", counts=counts, inputs=(name,))
    write_part(folder / SELECTED_PART, SELECTED, [selected], receipt)


def write_late_texts(folder: Path, urls: Sequence[str]) -> str:
    """Write a list of texts of urls that `LIST` fetched; return its name."""
    columns = {
        "uid": [bytes([200 + number]) * 16 for number in range(len(urls))],
        "text": [f"late text {number}" for number in range(len(urls))],
        "url": urls,
        "image_wave": [0] * len(urls),
        "image_list": [0] * len(urls),
    }
    receipt = Receipt(stage="dedup", unit="u", config="c", counts=Counts())
    bucket = "w00001/b00000"
    write_part(folder / "fetch" / f"{bucket}.parquet", SAMPLES, [_rows(SAMPLES, columns)], receipt)
    return f"{bucket}-l00000"


def _rows(schema: pa.Schema, columns: dict[str, Any]) -> pa.Table:
    fill = {pa.string(): "x", pa.int64(): 0, pa.int32(): 0, pa.int16(): 1, pa.float32(): 0.0,
            pa.bool_(): False, pa.binary(): None, OUTCOMES.field("fetched_at").type: 0}  # fmt: skip
    n = len(columns["url"])
    arrays = [pa.array(columns.get(f.name, [fill.get(f.type, b"")] * n), f.type) for f in schema]
    return pa.table(arrays, schema=schema)
