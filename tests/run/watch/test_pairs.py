"""The newest pairs: those that are kept, those just below, and their pictures."""

import base64
import io
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from cah_dask.counts import Counts
from cah_dask.images.shards import ShardWriter
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.stages import DOWNLOAD, EMBED, RUN
from cah_dask.run.unit import Unit
from cah_dask.run.watch.pairs import PAIRS_SHOWN, newest_pairs
from cah_dask.run.watch.view import Facts
from cah_dask.storage import Receipt, side_file, write_part


def receipt(unit: Unit, **details) -> Receipt:
    return Receipt(stage=unit.stage.name, unit=unit.name, config="", counts=Counts(), **details)


def write_list(run_dir: Path, number: int, similarities: list[float], image_list: int) -> str:
    """Write a scored list whose images lie in the shard of another one, or its own."""
    unit = Unit(EMBED, 0, 3, number)
    n = len(similarities)
    table = pa.table(
        {
            "url": [f"http://a.test/{number}-{row}.jpg" for row in range(n)],
            "text": [f"list {number}, row {row}" for row in range(n)],
            "split": ["en"] * n,
            "similarity_x": pa.array(similarities, pa.float32()),
            "image_row": pa.array(range(n), pa.int32()),
            "image_wave": pa.array([0] * n, pa.int32()),
            "image_list": pa.array([image_list] * n, pa.int32()),
        }
    )
    write_part(run_dir / unit.part, table.schema, [table], receipt(unit))
    return unit.name


def write_shard(run_dir: Path, number: int, colours: list[str]) -> Path:
    unit = Unit(DOWNLOAD, 0, 3, number)
    shard = (run_dir / unit.part).with_suffix(".h5")
    shard.parent.mkdir(parents=True, exist_ok=True)
    with ShardWriter(shard) as writer:
        for colour in colours:
            file = io.BytesIO()
            Image.new("RGB", (300, 200), colour).save(file, "JPEG")
            writer.add(file.getvalue())
        writer.arrange(range(len(colours)))
    table = pa.table({"url": [str(n) for n in range(len(colours))]})
    part = run_dir / unit.part
    write_part(part, table.schema, [table], receipt(unit, side=(side_file(shard),)))
    return shard


@pytest.fixture
def known(tmp_path: Path) -> Facts:
    return Facts(
        folder=RunFolder(tmp_path), stages=RUN, encoder="x", thresholds={"en": 0.3},
        staged_bound=0, buckets=4, shows_pairs=True, variants={},
    )  # fmt: skip


def colour_of(thumbnail: str) -> tuple[bool, ...]:
    data = base64.b64decode(thumbnail.removeprefix("data:image/jpeg;base64,"))
    image = Image.open(io.BytesIO(data))
    assert image.size == (112, 75)
    return tuple(np.asarray(image.convert("RGB"))[30, 50] > 127)


def test_late_texts_have_the_pictures_of_the_list_that_fetched_them(known: Facts, tmp_path: Path):
    write_shard(tmp_path, 0, ["red", "blue"])
    lists = [write_list(tmp_path, 0, [0.5, 0.2], 0), write_list(tmp_path, 7, [0.29, 0.31], 0)]
    pairs = newest_pairs(known, lists)
    assert [(pair.text, pair.is_kept) for pair in pairs] == [
        ("list 7, row 1", True), ("list 0, row 0", True),
        ("list 7, row 0", False), ("list 0, row 1", False),
    ]  # fmt: skip
    colours = [colour_of(pair.thumbnail) for pair in pairs]
    assert colours == [(0, 0, 1), (1, 0, 0), (1, 0, 0), (0, 0, 1)]


def test_the_ones_nearest_below_the_threshold_are_shown_and_no_more_than_some(
    known: Facts, tmp_path: Path
):
    lists = [
        write_list(tmp_path, n, [0.30, 0.9, *(0.29 - k / 100 for k in range(20))], n)
        for n in range(9)
    ]
    pairs = newest_pairs(known, lists)
    below = [pair for pair in pairs if not pair.is_kept]
    assert len(below) == len(pairs) - len(below) == PAIRS_SHOWN
    assert {pair.similarity for pair in below} == {0.29, 0.28, 0.27, 0.26}
    assert all(pair.thumbnail == "" for pair in pairs), "there is no shard"


def test_where_rules_drop_pairs_none_is_shown(known: Facts, tmp_path: Path):
    lists = [write_list(tmp_path, 0, [0.5], 0)]
    assert newest_pairs(msgspec.structs.replace(known, shows_pairs=False), lists) == []


def test_lists_and_pictures_that_are_gone_or_damaged_are_passed_over(known: Facts, tmp_path: Path):
    shard = write_shard(tmp_path, 0, ["red"])
    shard.write_bytes(shard.read_bytes()[:100])
    name = write_list(tmp_path, 0, [0.5], 0)
    (pair,) = newest_pairs(known, [name, "w00009/b00003-l00000"])
    assert (pair.text, pair.thumbnail) == ("list 0, row 0", "")
