"""How many files a run has, and late texts of waves that are compacted: a plan, simulated."""

import heapq
import itertools
import random
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from benchmarks.late_texts import Bucket, Sizes
from cah_dask.counts import Counts
from cah_dask.errors import ConfigError
from cah_dask.pairs.options import EmbedOptions
from cah_dask.run.before.estimate import (
    IMAGE_SHARE,
    LINKS_PER_ARCHIVE,
    OPEN_WAVES,
    describe,
    inodes,
    over_quota,
)
from cah_dask.run.before.node_checks import _space
from cah_dask.run.plan import Plan
from cah_dask.run.settings.config import Config
from cah_dask.run.stages import COMPACT, DEDUP, DOWNLOAD, EMBED, EXTRACT, PACK, SELECT
from cah_dask.run.tasks import pairs
from cah_dask.run.tasks.compaction import compact_task
from cah_dask.run.unit import Unit
from cah_dask.storage import Receipt, SideFile, read_part
from tests.encoders import hash_encoder

SNAPSHOT = 90_000
"""WATs of a snapshot of Common Crawl."""
QUOTA = 1_000_000
"""Files that CSCS's scratch takes."""
SLOTS = {EXTRACT: 64, DEDUP: 64, DOWNLOAD: 64, EMBED: 8, SELECT: 64, COMPACT: 64, PACK: 64}
SECONDS = {
    EXTRACT: 90.0, DEDUP: 30.0, DOWNLOAD: 300.0, EMBED: 10.0, SELECT: 5.0, COMPACT: 60.0,
    PACK: 60.0,
}  # fmt: skip
LEAVES = {EXTRACT: 1, DEDUP: 1, DOWNLOAD: 3, EMBED: 0, SELECT: 1, COMPACT: 5, PACK: 3}
"""Files more after a unit, but for keys: embed writes one and has the image shard dropped."""
COMPACTED = {DEDUP: 1, DOWNLOAD: 2, EMBED: 1}
"""Files of a unit that are compacted."""
OF_A_WAVE = 256 * (1 + 3 * 13)
"""Files of a wave that are compacted."""
LIST_BYTES = 240_000_000
"""Of the images of a list."""


def config(**changes) -> Config:
    given = Config(
        run_dir="run", inputs=("x",), keep_images=False, compact=True,
        embed=EmbedOptions(model="tiny"),
    )  # fmt: skip
    return msgspec.structs.replace(given, **changes)


class Folder:
    """How many files and folders a run folder has while units leave theirs."""

    def __init__(self, buckets: int) -> None:
        self.n_files = 2 * buckets  # robots, and a folder of keys for each bucket
        self.peak = 0
        self.own: Counter[tuple[int, int]] = Counter()
        """Files of each group that compacting it takes away."""
        self.most_own = 0
        self._folders: set[tuple[str, int]] = set()

    def add(self, unit: Unit) -> None:
        """Count what a unit leaves and takes."""
        if unit.stage.folder:
            self._folders.add((unit.stage.folder, unit.wave))
        group = unit.wave, unit.number if unit.stage == COMPACT else unit.bucket // 16
        self.n_files += LEAVES[unit.stage]
        self.own[group] += COMPACTED.get(unit.stage, 0)
        if unit.stage == DEDUP:
            self.n_files += 2 * ((unit.wave + 1).bit_count() - unit.wave.bit_count())
        if unit.stage == COMPACT:
            self.n_files -= self.own.pop(group)
        self.peak = max(self.peak, self.n_files + len(self._folders))
        self.most_own = max(self.most_own, self.own.total())

    @property
    def inodes(self) -> int:
        return self.n_files + len(self._folders)


def simulate(
    given: Config, n_archives: int, links: int, *, spread: float = 0.2, downloads: int = 64
) -> Folder:
    """Carry out a plan by a clock of its own, and count the files of its units.

    Parameters
    ----------
    spread
        Of how long the lists of different buckets take, as the sigma of its logarithm.
    downloads
        Lists that are downloaded at once.
    """
    waves, buckets = -(-n_archives // given.archives_per_wave), given.dedup.buckets
    n_lists = -(-links // (waves * buckets * given.dedup.list_urls))
    rng = random.Random(8)
    slowness = [rng.lognormvariate(0, spread) for _ in range(buckets)]
    plan = Plan(
        [f"{number}.warc.wat.gz" for number in range(n_archives)],
        archives_per_wave=given.archives_per_wave, buckets=buckets,
        committed=lambda _: None, staged_limit=given.staged_gb * 1e9,
    )  # fmt: skip
    folder, free, number, now = Folder(buckets), Counter(SLOTS), itertools.count(), 0.0
    free[DOWNLOAD] = downloads
    running: list[tuple[float, int, Unit]] = []
    while True:
        for stage in reversed(SLOTS):
            while free[stage] and (unit := plan.take([stage])) is not None:
                free[stage] -= 1
                seconds = SECONDS[stage]
                if stage == DOWNLOAD:
                    seconds *= slowness[unit.bucket] * rng.lognormvariate(0, 0.5)
                heapq.heappush(running, (now + seconds, next(number), unit))
        if not running and plan.known[PACK]:
            return folder
        if not running:
            plan.add_pack(-(-int(links * IMAGE_SHARE) // given.pack.rows_per_shard))
            continue
        now, _, unit = heapq.heappop(running)
        free[unit.stage] += 1
        notes = {"lists": n_lists} if unit.stage == DEDUP else {}
        side = (SideFile("x.h5", LIST_BYTES, ""),) if unit.stage == DOWNLOAD else ()
        counts = Counts(1, 1, {}, notes)
        plan.complete(unit, Receipt(stage="", unit="", config="", counts=counts, side=side))
        folder.add(unit)


def test_a_simulated_snapshot_has_the_files_of_the_estimate():
    """A tenth of the waves; each has as many lists as those of a whole snapshot."""
    n_archives = SNAPSHOT // 10
    given, links = config(), n_archives * LINKS_PER_ARCHIVE
    folder = simulate(given, n_archives, links)
    estimate = inodes(given, n_archives, links)
    assert folder.most_own < OPEN_WAVES * OF_A_WAVE
    assert folder.inodes == estimate.end
    assert 0.5 * estimate.peak <= folder.peak <= estimate.peak


def test_buckets_that_take_three_times_as_long_hold_up_some_of_the_waves():
    """So a snapshot of 300 waves has less than a million files even then."""
    n_archives = SNAPSHOT // 10
    links = n_archives * LINKS_PER_ARCHIVE
    folder = simulate(config(), n_archives, links, spread=0.5, downloads=128)
    share = folder.most_own / (30 * OF_A_WAVE)
    assert 0.1 < share < 0.2
    of_snapshot = inodes(config(), SNAPSHOT, SNAPSHOT * LINKS_PER_ARCHIVE).end
    assert of_snapshot + share * 300 * OF_A_WAVE < QUOTA


def test_a_snapshot_never_has_a_million_files_and_less_than_a_fifth_of_that_in_the_end():
    links = SNAPSHOT * LINKS_PER_ARCHIVE
    found = inodes(config(), SNAPSHOT, links)
    assert found.peak < 300_000
    assert found.end < 200_000
    plain = inodes(config(compact=False), SNAPSHOT, links)
    assert plain.end > 3_000_000


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"compact": False}, "with compact: true 197,"),
        ({"keep_images": True}, "with keep_images: false 197,"),
        ({"compact": False, "keep_images": True}, "with compact: true and keep_images: false 197,"),
        ({"quota_files": 1000}, "take fewer archives, or larger dedup.list_urls"),
    ],
)
def test_a_run_that_exceeds_its_quota_of_files_is_refused_with_what_would_help(
    tmp_path: Path, changes: dict, advice: str
):
    given = config(**{"quota_files": QUOTA, "run_dir": str(tmp_path / "run"), **changes})
    fault = over_quota(given, SNAPSHOT, SNAPSHOT * LINKS_PER_ARCHIVE)
    assert "exceeds quota_files" in fault
    assert advice in fault
    lines = describe(given, ["https://a.example/x.warc.wat.gz"] * SNAPSHOT)
    with pytest.raises(ConfigError, match="exceeds quota_files"):
        list(lines)


def test_a_run_within_its_quota_is_told_both_numbers():
    given = config(quota_files=QUOTA)
    lines = list(describe(given, ["https://a.example/x.warc.wat.gz"] * SNAPSHOT))
    (line,) = [line for line in lines if line.startswith("files at once")]
    assert "(quota_files: 1,000,000)" in line
    assert not over_quota(given, SNAPSHOT, SNAPSHOT * LINKS_PER_ARCHIVE)


@pytest.mark.parametrize(("quota", "level"), [(100, "fail"), (QUOTA, "ok")])
def test_doctor_compares_the_quota_with_the_need(tmp_path: Path, quota: int, level: str):
    archives = tmp_path / "wat.paths"
    archives.write_text("".join(f"https://a.example/{n}.warc.wat.gz\n" for n in range(3)))
    given = config(inputs=(str(archives),), run_dir=str(tmp_path / "run"), quota_files=quota)
    (finding,) = [found for found in _space(given) if "quota_files" in found.what]
    assert finding.level == level


def carried(folder: Path, *, is_compacted: bool) -> Bucket:
    """Carry a bucket through four waves whose images are dropped once embedded."""
    bucket = Bucket(folder, Sizes(waves=4, urls=40, late=10, list_urls=20))
    stages = (COMPACT, SELECT, EMBED, DOWNLOAD, DEDUP, EXTRACT)
    while (unit := bucket.plan.take(stages)) is not None:
        if unit.stage == COMPACT and is_compacted:
            receipt = compact_task(bucket.job(unit))
        elif unit.stage in (SELECT, COMPACT):
            receipt = Receipt(stage="", unit="", config="", counts=Counts())
        else:
            receipt = bucket.carry_out(unit)
        if unit.stage == EMBED:
            fetched = folder / Unit(DOWNLOAD, unit.wave, unit.bucket, unit.number).part
            for shard in fetched.parent.glob(f"{fetched.stem}-*.h5"):
                shard.unlink()
        bucket.plan.complete(unit, receipt)
    return bucket


def test_late_texts_meet_their_images_in_compacted_waves(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(pairs, "load_encoders", lambda *_, **__: [hash_encoder()])
    plain = carried(tmp_path / "plain", is_compacted=False)
    compacted = carried(tmp_path / "compacted", is_compacted=True)
    for stage in (DEDUP, EMBED):
        assert compacted.plan.counts[stage] == plain.plan.counts[stage]
    late = 0
    for path in (plain.folder / "scored").rglob("*.parquet"):
        table = read_part(compacted.folder / path.relative_to(plain.folder))
        assert table.equals(read_part(path))
        if path.parent.name == "w00003":
            late += sum(wave != 3 for wave in table["image_wave"].to_pylist())
    assert late == 30
    assert not list((compacted.folder / "scored").rglob("b*"))
