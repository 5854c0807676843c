"""Carry a bucket through many waves with late texts, and say how often its parts are read again.

    python -m benchmarks.late_texts --folder /scratch/late [--waves 40]

Every wave brings new urls and new texts of old ones. Dedup and embed are the tasks of a run, handed
out by its plan; outcomes and image shards are written as by a download, and shards are dropped once
they are embedded. An image spells the late texts of its url, and the encoder
(`tests.encoders`) gives equal bytes equal vectors: every late text must match its image.
"""

import argparse
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from benchmarks.opened import opened
from cah_dask.counts import Counts
from cah_dask.images.shards import ShardWriter
from cah_dask.run.plan import Plan
from cah_dask.run.settings.config import Config
from cah_dask.run.stages import DEDUP, DOWNLOAD, EMBED, EXTRACT
from cah_dask.run.tasks import pairs
from cah_dask.run.tasks.candidates import dedup_task
from cah_dask.run.tasks.crawl_task import CrawlTask
from cah_dask.run.tasks.pairs import embed_task
from cah_dask.run.unit import Unit
from cah_dask.schema import CANDIDATES, OUTCOMES, uid
from cah_dask.storage import TEMPORARY, Receipt, read_part, side_file, write_part
from tests.encoders import drawn, hash_encoder


class Sizes(NamedTuple):
    """What is simulated: waves, and in each of them urls, late texts, and urls of a list."""

    waves: int = 40
    urls: int = 13_000
    late: int = 930
    list_urls: int = 1_000


class Reads(NamedTuple):
    """What embedding all late texts read."""

    texts: int
    parts: int
    """Of earlier lists, outcomes and scored ones together."""
    opens: Counter[str]
    """Of each of them, by path."""
    bytes_read: int
    bytes_written: int
    """Of all those parts."""
    cpu_s: float


class Bucket:
    """One bucket in a run folder, carried by a plan from wave to wave."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder = folder
        self._sizes = sizes
        self._rng = np.random.default_rng(1)
        self._config = msgspec.convert(
            {
                "run_dir": str(folder),
                "inputs": ["simulated"],
                "dedup": {"buckets": 1, "list_urls": sizes.list_urls},
                "embed": {"model": "hash"},
            },
            Config,
        )
        self.plan = Plan(
            [str(wave) for wave in range(sizes.waves)],
            archives_per_wave=1, buckets=1, committed=lambda _: None,
        )  # fmt: skip
        self.late: list[Unit] = []

    def job(self, unit: Unit) -> CrawlTask:
        """Return the task of a unit, as the driver makes it."""
        is_dedup = unit.stage == DEDUP
        return CrawlTask(
            run_dir=str(self.folder),
            unit=unit,
            config=self._config,
            config_hash="c",
            inputs=tuple(made.part for made in self.plan.wave(unit.wave)) if is_dedup else (),
            late_waves=tuple(self.plan.late_waves(unit.wave)) if is_dedup else (),
        )

    def carry_out(self, unit: Unit) -> Receipt:
        """Do a unit of any stage before select."""
        if unit.stage == EXTRACT:
            return self._extract(unit)
        if unit.stage == DOWNLOAD:
            return self._download(unit)
        return dedup_task(self.job(unit)) if unit.stage == DEDUP else embed_task(self.job(unit))

    def _extract(self, unit: Unit) -> Receipt:
        first = unit.wave * self._sizes.urls
        new = np.arange(first, first + self._sizes.urls)
        old = self._rng.choice(max(first, 1), self._sizes.late if first else 0, replace=False)
        rows = [*map(_row, new.tolist()), *(_row(number, unit.wave) for number in old.tolist())]
        receipt = Receipt(
            stage="extract", unit=unit.name, config="c", counts=Counts(len(rows), len(rows))
        )
        table = pa.Table.from_pylist(rows, schema=CANDIDATES)
        return write_part(self.folder / unit.part, CANDIDATES, [table], receipt)

    def _download(self, unit: Unit) -> Receipt:
        part = self.folder / unit.part
        fetched = Unit(DEDUP, unit.wave, unit.bucket).part
        samples = read_part(self.folder / fetched, row_group=unit.number, columns=["url"])
        urls = list(dict.fromkeys(samples["url"].to_pylist()))
        part.parent.mkdir(parents=True, exist_ok=True)
        shard = part.with_name(f"{part.stem}-00000000.h5")
        with ShardWriter(shard) as writer:
            for url in urls:
                writer.add(drawn(f"caption of {url}"))
        rows = [
            {
                "url": url, "status": "ok", "attempts": 1, "fetched_at": 0, "fetch_ms": 1,
                "image_row": row,
            }
            for row, url in enumerate(urls)
        ]  # fmt: skip
        receipt = Receipt(
            stage="download", unit=unit.name, config="c", counts=Counts(len(urls), len(urls)),
            side=(side_file(shard),),
        )  # fmt: skip
        return write_part(part, OUTCOMES, [pa.Table.from_pylist(rows, schema=OUTCOMES)], receipt)


def _row(number: int, wave: int | None = None) -> dict[str, object]:
    """Return a candidate; a late one (in a `wave`) has the text that its image is made of."""
    url = f"http://h{number % 9}.test/{number}.jpg"
    text = f"first text of {url}" if wave is None else f"caption of {url}"
    return {
        "bucket": 0, "uid": uid(f"{text}{wave}", url), "url": url, "text": text, "split": "en",
        "lang": "en", "lang_confidence": 1.0, "lang_is_reliable": True, "text_is_filename": False,
        "page_url": "http://p.test/", "archive": "a", "record_offset": number, "link_index": 0,
    }  # fmt: skip


def simulate(folder: Path, sizes: Sizes) -> tuple[Bucket, Reads]:
    """Carry all waves to their end; return what embedding the late texts read."""
    bucket = Bucket(folder, sizes)
    opens: Counter[str] = Counter()
    n_texts, n_bytes, cpu_s = 0, 0, 0.0
    while (unit := bucket.plan.take((EMBED, DOWNLOAD, DEDUP, EXTRACT))) is not None:
        fetched = folder / Unit(DOWNLOAD, unit.wave, unit.bucket, unit.number).part
        is_late = unit.stage == EMBED and not fetched.exists()
        started, before = time.process_time(), bytes_read()
        with opened() as paths:
            receipt = bucket.carry_out(unit)
        if is_late:
            n_texts += receipt.counts.seen
            n_bytes += bytes_read() - before
            cpu_s += time.process_time() - started
            opens.update({path: n for path, n in paths.items() if _is_earlier(folder, path)})
            bucket.late.append(unit)
        elif unit.stage == EMBED:
            next(fetched.parent.glob(f"{fetched.stem}-*.h5")).unlink()  # keep_images: false
        bucket.plan.complete(unit, receipt)
    late = {str(folder / unit.part) for unit in bucket.late}
    parts = [
        path
        for stage in (DOWNLOAD, EMBED)
        for path in (folder / stage.folder).rglob("*.parquet")
        if str(path) not in late
    ]
    n_written = sum(path.stat().st_size for path in parts)
    return bucket, Reads(n_texts, len(parts), opens, n_bytes, n_written, cpu_s)


def _is_earlier(folder: Path, path: str) -> bool:
    """Tell whether a path is that of a part with outcomes or vectors."""
    tops = tuple(f"{folder / stage.folder}/" for stage in (DOWNLOAD, EMBED))
    return path.startswith(tops) and path.endswith(".parquet") and TEMPORARY not in path


def bytes_read() -> int:
    """Return how many bytes this process has read from files so far."""
    return int(Path("/proc/self/io").read_text(encoding="ascii").split()[1])


def main() -> None:
    """Simulate, check, report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    for name, default in Sizes()._asdict().items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    options = vars(parser.parse_args())
    folder = options.pop("folder")
    pairs.load_encoders = lambda *_, **__: [hash_encoder()]  # type: ignore[attr-defined]  # a fake
    bucket, reads = simulate(folder, Sizes(**options))
    for unit in bucket.late:
        similarity = read_part(folder / unit.part, columns=["similarity"])["similarity"].to_numpy()
        assert similarity.min() > 0.99, "a late text met another image than its own"
    print(f"{reads.texts:,} late texts in {len(bucket.late)} lists; {reads.parts:,} earlier parts")
    print(
        f"opens of a part: mean {sum(reads.opens.values()) / reads.parts:.2f}, "
        f"most {max(reads.opens.values(), default=0)}"
    )
    print(
        f"bytes read: {reads.bytes_read / 1e6:,.0f} MB, "
        f"{reads.bytes_read / reads.bytes_written:.2f} times all of them"
    )
    print(f"CPU: {reads.cpu_s:.1f} s")


if __name__ == "__main__":
    main()
