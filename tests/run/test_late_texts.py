"""Late texts find their images, and reading those again costs the same however many waves."""

from collections.abc import Iterator

import pytest

from benchmarks.late_texts import Bucket, Reads, Sizes, simulate
from cah_dask.run.stages import DEDUP, EMBED
from cah_dask.run.tasks import pairs
from cah_dask.run.unit import Unit
from cah_dask.storage import read_part
from tests.encoders import hash_encoder

URLS, LIST_URLS = 40, 20


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, tuple[Bucket, Reads]]]:
    """A bucket after 10 and one after 40 waves; the images are dropped once embedded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "load_encoders", lambda *_, **__: [hash_encoder()])
        yield {
            waves: simulate(tmp_path_factory.mktemp("late"), Sizes(waves, URLS, 10, LIST_URLS))
            for waves in (10, 40)
        }


def test_a_part_is_read_again_once_or_twice_however_many_waves_come_after_it(carried):
    for waves, (bucket, reads) in carried.items():
        assert reads.texts == 10 * (waves - 1)
        assert {unit.wave for unit in bucket.late} == {waves - 1}
        assert reads.texts / LIST_URLS <= len(bucket.late) <= reads.texts / LIST_URLS + 2
        assert max(reads.opens.values()) <= 2, "lists of late texts begin within another's"
        assert sum(reads.opens.values()) <= reads.parts + 2 * len(bucket.late)
    short, long = (reads.bytes_read / reads.bytes_written for _, reads in carried.values())
    assert long < 1.5 * short


def test_every_late_text_meets_its_own_image_and_no_row_is_lost(carried):
    for waves, (bucket, reads) in carried.items():
        scored = [read_part(bucket.folder / unit.part) for unit in bucket.late]
        assert sum(map(len, scored)) == reads.texts
        assert min(min(table["similarity_hash"].to_pylist()) for table in scored) > 0.99
        counts = bucket.plan.counts
        assert counts[DEDUP].kept == counts[EMBED].seen == counts[EMBED].kept
        assert counts[DEDUP].kept == URLS * waves + 10 * (waves - 1)


def test_the_lists_of_late_texts_are_the_same_when_made_again(carried):
    bucket, _ = carried[40]
    last = bucket.folder / Unit(DEDUP, 39).part
    before = read_part(last)
    scored = [read_part(bucket.folder / unit.part) for unit in bucket.late]
    for part in (last, *(bucket.folder / unit.part for unit in bucket.late)):
        part.unlink()
    bucket.carry_out(Unit(DEDUP, 39))
    assert read_part(last).equals(before)
    for unit, table in zip(bucket.late, scored, strict=True):
        bucket.carry_out(unit)
        assert read_part(bucket.folder / unit.part).equals(table)
