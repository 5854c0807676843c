"""Files that are not what was written: found, named, and made again at the least cost."""

import random
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from benchmarks.opened import opened
from cah_dask.candidates.late_texts import own_groups
from cah_dask.candidates.seen import fetched_keys, held_waves, kept_keys, waves_to_read
from cah_dask.counts import Counts
from cah_dask.errors import DamageError
from cah_dask.keys import merged
from cah_dask.run.folder.journal import Commit, Journal, LastLines, Void
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.stages import DEDUP, DOWNLOAD, EMBED, EXTRACT, SELECT
from cah_dask.run.task import Failed, run_task
from cah_dask.run.tasks.candidates import dedup_task
from cah_dask.run.tasks.crawl_task import CrawlTask
from cah_dask.run.unit import Unit
from cah_dask.schema import CANDIDATES, uid
from cah_dask.storage import Receipt, open_part, read_part, write_part
from tests import runs
from tests.run.test_tasks import job
from tests.webserver import WebServer


def flip(path: Path, at: int) -> None:
    """Turn one bit of a file round; `at` is a byte, from the end if negative."""
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def candidates(run_dir: Path, wave: int, numbers: range, text: str) -> str:
    rows = [
        {
            "bucket": 0, "uid": uid(text, f"http://h.test/{n}"), "url": f"http://h.test/{n}",
            "text": text, "split": "en", "lang": "en", "lang_confidence": 1.0,
            "lang_is_reliable": True, "text_is_filename": False, "page_url": "http://p.test/",
            "archive": "a", "record_offset": n, "link_index": 0,
        }
        for n in numbers
    ]  # fmt: skip
    unit = Unit(EXTRACT, wave=wave, archive="a")
    receipt = Receipt(stage="extract", unit="u", config="c", counts=Counts(len(rows), len(rows)))
    table = pa.Table.from_pylist(rows, schema=CANDIDATES)
    write_part(run_dir / unit.part, CANDIDATES, [table], receipt)
    return unit.part


WAVES = 6


@pytest.fixture(params=["uid", "url"])
def deduped(request, tmp_path: Path) -> CrawlTask:
    """A run folder with a bucket of some waves, and the job of the last one."""
    options: dict[str, Any] = {"dedup": {"buckets": 1, "list_urls": 7, "key": request.param}}
    for wave in range(WAVES):
        unit = Unit(DEDUP, wave=wave)
        part = candidates(tmp_path, wave, range(wave * 10, wave * 10 + 20), f"text {wave % 2}")
        given = msgspec.structs.replace(job(tmp_path, unit, **options), inputs=(part,))
        if wave < WAVES - 1:
            dedup_task(given)
    return msgspec.structs.replace(given, late_waves=tuple(range(WAVES)))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("suffix", [".npy", ".urls.npy"])
@pytest.mark.parametrize("harm", ["flipped", "cut", "gone"])
@pytest.mark.parametrize("wave", waves_to_read(WAVES - 1))
def test_what_earlier_waves_kept_is_rebuilt_from_their_lists(
    deduped: CrawlTask, tmp_path: Path, suffix: str, harm: str, wave: int
):
    path = deduped.folder.seen_path(0, wave).with_suffix(suffix)
    before = shutil.copytree(path.parent, tmp_path / "before")
    undisturbed = dedup_task(deduped)
    rows, keys = read_part(deduped.part), contents(path.parent)
    deduped.part.unlink()
    shutil.copytree(before, path.parent, dirs_exist_ok=True)
    whole = path.read_bytes()
    if harm == "gone":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(whole[:-5])
    else:
        flip(path, -3)
    assert dedup_task(deduped).counts == undisturbed.counts
    assert read_part(deduped.part).equals(rows)
    assert contents(path.parent) == keys


def test_rebuilt_keys_are_those_that_dedup_wrote(deduped: CrawlTask):
    dedup_task(deduped)
    parts = [Path(deduped.run_dir) / Unit(DEDUP, wave=wave).part for wave in range(WAVES)]
    left = waves_to_read(WAVES)
    assert len(list(deduped.folder.seen_path(0, 0).parent.iterdir())) == 2 * len(left)
    for wave in left:
        held = held_waves(wave)
        kept = [kept_keys(parts[number], deduped.config.dedup.key) for number in held]
        fetched = [fetched_keys(parts[number], number) for number in held]
        for keys, path in (
            (kept, deduped.folder.seen_path(0, wave)),
            (fetched, deduped.folder.fetched_path(0, wave)),
        ):
            assert np.concatenate(list(merged(keys))).tolist() == np.load(path).tolist()


def test_every_row_is_kept_once_and_knows_its_list_through_merged_keys(deduped: CrawlTask):
    dedup_task(deduped)
    key, kept = deduped.config.dedup.key, []
    fetched_by: dict[str, tuple[int, int]] = {}
    for wave in range(WAVES):
        with open_part(Path(deduped.run_dir) / Unit(DEDUP, wave=wave).part) as part:
            n_lists = part.receipt.counts.notes["lists"]
            rows = [
                (group, row) for group in own_groups(part) for row in part.read([group]).to_pylist()
            ]
        kept += [row[key] for _, row in rows]
        fetched_by |= {row["url"]: (wave, group) for group, row in rows if group < n_lists}
        assert all(
            (row["image_wave"], row["image_list"]) == fetched_by[row["url"]] for _, row in rows
        )
    assert len(fetched_by) == 10 * WAVES + 10
    assert len(kept) == len(set(kept)) == (20 * WAVES if key == "uid" else len(fetched_by))


def test_a_wave_opens_a_few_files_of_those_before_it(tmp_path: Path):
    for wave in range(33):
        part = candidates(tmp_path, wave, range(wave, wave + 3), "text")
        given = job(tmp_path, Unit(DEDUP, wave=wave), dedup={"buckets": 1})
        with opened() as paths:
            dedup_task(msgspec.structs.replace(given, inputs=(part,)))
        earlier = {
            path
            for path in paths
            if path.startswith((f"{tmp_path}/seen/", f"{tmp_path}/fetch/"))
            and f"w{wave:05d}" not in path
            and path.endswith((".npy", ".parquet"))
        }
        assert len(earlier) == 3 * wave.bit_count(), "a part and two files of keys"


def test_a_part_whose_keys_were_merged_is_made_again_as_it_was(deduped: CrawlTask):
    part = Path(deduped.run_dir) / Unit(DEDUP, wave=2).part
    rows = read_part(part)
    part.unlink()
    unit = Unit(DEDUP, wave=2)
    inputs = (Unit(EXTRACT, wave=2, archive="a").part,)
    again = msgspec.structs.replace(deduped, unit=unit, inputs=inputs, late_waves=())
    assert not again.folder.seen_path(0, 1).exists()
    dedup_task(again)
    assert read_part(part).equals(rows)


def test_damage_that_a_task_meets_is_told_with_the_unit_that_must_be_done_again(
    deduped: CrawlTask,
):
    part = Path(deduped.run_dir) / deduped.inputs[0]
    flip(part, 60)
    failed = run_task(deduped, "here")
    assert isinstance(failed, Failed)
    assert "is damaged" in failed.message
    assert failed.damaged == str(part)


def test_the_maker_of_a_part_is_told_by_its_path(tmp_path: Path):
    unit = Unit(EMBED, 3, 5, 7)
    folder = RunFolder(tmp_path)
    assert folder.maker_of(tmp_path / unit.part) == (EMBED, unit.name)
    selected = Unit(SELECT, 3, 5, variant="0123abcd")
    assert folder.maker_of(tmp_path / selected.part) == (SELECT, selected.name)
    assert folder.maker_of(tmp_path / "release/pairs/part-00000.parquet") is None
    assert folder.maker_of(Path("/elsewhere/scored/x.parquet")) is None


def commit(number: int) -> Commit:
    unit = Unit(DOWNLOAD, number=number)
    counts = Counts(10 + number, 10, {"http_404": number} if number else {})
    receipt = Receipt(stage="download", unit=unit.name, config="c", counts=counts)
    return Commit(
        datetime(2026, 1, 1, tzinfo=UTC), unit.stage.name, unit.name, "h/cpu-0", 1.5, receipt
    )


def latest(path: Path) -> dict[tuple[str, str], Commit]:
    return {(commit.stage, commit.unit): commit for commit in LastLines(path).commits()}


def test_a_wrong_bit_in_the_journal_costs_that_line_and_lies_to_nobody(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for number in range(5):
        journal.record(commit(number))
    journal.close()
    truth, data = latest(path), path.read_bytes()
    rng = random.Random(5)
    for _ in range(300):
        path.write_bytes(data)
        flip_at = rng.randrange(len(data))
        flip(path, flip_at)
        believed = latest(path)
        assert believed.items() <= truth.items()
        assert len(believed) >= len(truth) - 2  # a line end is part of two lines


def test_a_line_that_does_not_balance_is_not_believed(tmp_path: Path):
    journal = Journal(tmp_path / "j")
    lies = commit(0)
    counts = Counts(10, 9)
    receipt = Receipt(stage="download", unit=lies.unit, config="c", counts=counts)
    journal.record(Commit(lies.at, lies.stage, lies.unit, "", 0.0, receipt))
    journal.close()
    assert latest(tmp_path / "j") == {}


def test_a_unit_that_was_voided_is_not_done_until_it_is_done_again(tmp_path: Path):
    journal = Journal(tmp_path / "j")
    done = commit(1)
    journal.record(done)
    journal.record(Void(done.at, done.stage, done.unit))
    assert latest(tmp_path / "j") == {}
    journal.record(done)
    journal.close()
    assert list(latest(tmp_path / "j").values()) == [done]


@pytest.fixture(scope="module")
def web():
    with WebServer() as server:
        yield server


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, web: WebServer) -> Path:
    """The config of a finished run."""
    links = [
        (web.url(f"/ok-{number}.jpg", host=f"h{number % 5}.test"), f"A picture of thing {number}")
        for number in range(40)
    ]
    folder = tmp_path_factory.mktemp("damage")
    inputs = runs.write_inputs(folder / "inputs", links)
    config = runs.write_config(folder / "run.yaml", inputs=inputs, port=web.port)
    assert runs.finish(config) == 0, runs.output(config)
    return config


def test_a_run_tells_damage_sets_it_aside_and_ends_in_the_same_release(finished: Path):
    run_dir = finished.with_suffix("")
    before = runs.release_digests(run_dir)
    shutil.rmtree(run_dir / "release")
    scored = sorted((run_dir / "scored").rglob("*.parquet"))[0]
    list_name = scored.stem
    shard = next((run_dir / "images").rglob(f"{list_name}-*.h5"))
    flip(scored, 200)
    flip(shard, -40)

    assert runs.finish(finished) == 5, runs.output(finished)
    said = " ".join(runs.output(finished).split())
    assert f"{list_name}.parquet is damaged" in said
    assert "it was set aside: the same command makes it again" in said
    assert not scored.exists()
    assert (run_dir / "damaged" / scored.relative_to(run_dir)).exists()

    assert runs.finish(finished) == 5, runs.output(finished)  # its images are damaged, too
    assert f"{shard.name} is damaged" in " ".join(runs.output(finished).split())
    assert not shard.with_name(f"{list_name}.parquet").exists()

    assert runs.finish(finished) == 0, runs.output(finished)
    assert runs.release_digests(run_dir) == before
    assert not list(run_dir.rglob(".tmp-*"))

    lost = [
        run_dir / "release/pairs/part-00000.parquet",
        *run_dir.glob("release/embeddings.zarr/*/text/c.0.0"),
    ]
    for path in lost:
        path.unlink()
    assert runs.finish(finished) == 0, runs.output(finished)
    assert runs.release_digests(run_dir) == before


def test_a_damaged_part_that_the_journal_does_not_know_is_made_again_at_once(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    unit = Unit(EXTRACT, archive="a")
    receipt = Receipt(stage="extract", unit=unit.name, config="c", counts=Counts())
    write_part(folder.path / unit.part, CANDIDATES, [], receipt)
    flip(folder.path / unit.part, -20)
    with pytest.raises(DamageError):
        read_part(folder.path / unit.part)
    folder._journal = Journal(folder.path / "journal.jsonl")
    assert folder.existing()(unit) is None
    assert not (folder.path / unit.part).exists()
    folder._journal.close()
