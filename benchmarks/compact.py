"""Compact a bucket group of lists of the default size, and read it by the names of its parts.

    python -m benchmarks.compact --folder /scratch/compact [--lists 52]

A list has 10,000 urls, of which 6,800 gave an image (LAION-400M in 2024), and vectors of 512
dimensions. A whole group of a wave of 300 archives has 208 lists.
"""

import argparse
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from cah_dask.counts import Counts
from cah_dask.groups import INDEX_FOLDER
from cah_dask.run.folder.compaction import FOLDERS, part_path
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.settings.config import Config
from cah_dask.run.stages import COMPACT, DEDUP, DOWNLOAD, EMBED, SELECT, Stage
from cah_dask.run.tasks.compaction import compact_task
from cah_dask.run.tasks.crawl_task import CrawlTask
from cah_dask.run.tasks.pairs import select_task
from cah_dask.run.unit import Unit
from cah_dask.schema import OUTCOMES, REQUESTS, SAMPLES, scored, uid
from cah_dask.storage import Receipt, read_part, write_part

URLS, IMAGES, DIM, BUCKETS = 10_000, 6_800, 512, 16
VALUES = {
    pa.string(): lambda n: f"text or url {n:012x}",
    pa.binary(16): lambda n: uid(str(n), ""),
    pa.bool_(): lambda n: n % 2 == 0,
}
"""What a column of a type holds in row n; numbers hold n."""


def table(schema: pa.Schema, n_rows: int, rng: np.random.Generator) -> pa.Table:
    """Return rows of plausible size: texts that differ, vectors that do not compress."""
    columns = []
    start = int(rng.integers(1 << 40))
    for field in schema:
        if field.type == pa.binary(2 * DIM):
            vectors = rng.standard_normal((n_rows, DIM)).astype("<f2")
            columns.append(pa.array([row.tobytes() for row in vectors], field.type))
        elif field.name == "split":
            columns.append(pa.repeat("en", n_rows))
        elif field.type in VALUES:
            values = [VALUES[field.type](start + n) for n in range(n_rows)]
            columns.append(pa.array(values, field.type))
        else:
            columns.append(pa.array(np.arange(n_rows) % 1000, pa.int64()).cast(field.type))
    return pa.table(columns, schema=schema)


def write_group(run_dir: Path, lists: int) -> None:
    """Leave the parts of the lists of a group, as dedup, download and embed do."""
    rng = np.random.default_rng(1)
    of_bucket = [len(range(bucket, lists, BUCKETS)) for bucket in range(BUCKETS)]
    for bucket, n_lists in enumerate(of_bucket):
        notes = {"lists": n_lists, "late_lists": 0}
        write(run_dir, Unit(DEDUP, 0, bucket), [table(SAMPLES, URLS, rng)] * n_lists, notes)
        for number in range(n_lists):
            at = (0, bucket, number)
            write(run_dir, Unit(DOWNLOAD, *at), [table(OUTCOMES, URLS, rng)])
            write(run_dir, Unit(EMBED, *at), [table(scored({"clip": DIM}), IMAGES, rng)])
            log = msgspec.structs.replace(Unit(DOWNLOAD, *at), stage=LOG)
            write(run_dir, log, [table(REQUESTS, URLS, rng)])


LOG = Stage(name="requests", kind=DOWNLOAD.kind, folder="requests", pool="", task="")


def write(
    run_dir: Path, unit: Unit, groups: list[pa.Table], notes: dict[str, int] | None = None
) -> None:
    """Write one part."""
    n_rows = sum(map(len, groups))
    receipt = Receipt(
        stage=unit.stage.name, unit=unit.name, config="c",
        counts=Counts(n_rows, n_rows, {}, notes or {}),
    )  # fmt: skip
    schema = groups[0].schema if groups else SAMPLES
    write_part(run_dir / unit.part, schema, groups, receipt)


def copy_group(run_dir: Path, groups: int) -> None:
    """Leave the index of the group, and empty files in the place of its data, many times."""
    for number in range(1, groups):
        for folder in FOLDERS:
            part_path(run_dir, folder, f"w00000/g{number:05d}").touch()
        index = part_path(run_dir, INDEX_FOLDER, f"w00000/g{number:05d}")
        shutil.copy(part_path(run_dir, INDEX_FOLDER, "w00000/g00000"), index)


@contextmanager
def measured(what: str, n: int) -> Iterator[None]:
    """Print CPU and wall time of a block, each of `n` times."""
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(f"{what}: {1000 * cpu / n:.1f} ms CPU, {1000 * wall / n:.1f} ms each; {cpu:.1f} CPU s")


def main() -> None:
    """Write, read, compact, read again."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--lists", type=int, default=52)
    options = parser.parse_args()
    run_dir, lists = options.folder, options.lists
    write_group(run_dir, lists)
    thresholds = {"thresholds": {"en": -1.0, "multi": -1.0, "nolang": -1.0}}
    tree = {"run_dir": str(run_dir), "inputs": ["x"], "dedup": {"buckets": BUCKETS}}
    config = msgspec.convert({**tree, "select": thresholds}, Config)

    def job(stage: Stage, variant: str) -> CrawlTask:
        unit = Unit(stage, variant=variant)
        return CrawlTask(run_dir=str(run_dir), unit=unit, config=config, config_hash="c")

    parts = sorted((run_dir / "scored").rglob("*.parquet"))
    n_bytes = sum(path.stat().st_size for path in run_dir.rglob("*") if path.is_file())
    print(f"{lists} lists, {n_bytes / 1e6:,.0f} MB; a reading is of a whole scored part")
    for name in ("own files", "compacted"):
        with measured(f"read, {name}", len(parts)):
            for part in parts:
                read_part(part)
        with measured(f"select, {name}, a list", lists):
            select_task(job(SELECT, name.replace(" ", "-")))
        if name == "own files":
            with measured("compact, a list", lists):
                compact_task(job(COMPACT, ""))
    for path in sorted(run_dir.rglob("g00000.parquet")):
        print(f"{path.relative_to(run_dir)}: {path.stat().st_size / 1e6:,.2f} MB")
    groups = 480
    copy_group(run_dir, groups)
    folder = RunFolder(run_dir)
    with folder.held(), measured("list at a start, a group", groups):
        folder.existing(keep_images=False)
    print(f"peak: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:,.0f} MB")


if __name__ == "__main__":
    main()
