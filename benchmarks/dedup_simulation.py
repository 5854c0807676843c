"""Deduplicate a synthetic crawl, wave after wave, and say what it costs.

    python -m benchmarks.dedup_simulation --folder /scratch/simulation [--rows 100000000]

Writes candidates parts as the extraction does, runs the task of a run (`dedup_task`) on
every bucket, and removes the candidates of a wave when it is done. Hosts are skewed as on the web:
one has a tenth of all rows, the others follow Zipf's law; pairs come again within a wave and from
wave to wave. Checks that exactly the distinct pairs were kept. Prints CPU seconds per million rows,
the peak of each process, what a task opened and read of earlier waves, and the files and bytes that
stay.
"""

import argparse
import functools
import os
import resource
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.opened import opened
from cah_dask.candidates.dedup import host_bucket
from cah_dask.candidates.rows import Groups
from cah_dask.counts import Counts
from cah_dask.images.manners.hosts import HostOptions
from cah_dask.images.options import DownloadOptions
from cah_dask.run.settings.config import Config
from cah_dask.run.stages import DEDUP, EXTRACT
from cah_dask.run.tasks.candidates import dedup_task
from cah_dask.run.tasks.crawl_task import CrawlTask
from cah_dask.run.unit import Unit
from cah_dask.schema import CANDIDATES
from cah_dask.storage import TEMPORARY, Receipt, write_part

HOSTS = 2_000_000
TOP_SHARE = 0.1  # of all rows that one host has
DISTINCT = 0.8  # images of a host for each row that it gets, so that about a third comes again
CAPTIONS = pa.array([f"a photo of the {thing} in the old town" for thing in range(97)])

Ids = npt.NDArray[np.uint64]


class Plan(NamedTuple):
    """What is simulated, and where."""

    folder: Path
    rows: int
    waves: int
    archives: int
    buckets: int

    @property
    def archive_rows(self) -> int:
        """Rows of one archive."""
        return self.rows // (self.waves * self.archives)

    def candidates(self, wave: int) -> list[str]:
        """Return the candidates parts of a wave, relative to the folder."""
        archives = range(self.archives)
        return [Unit(EXTRACT, wave, archive=f"{archive:05}").part for archive in archives]

    def job(self, wave: int, bucket: int) -> CrawlTask:
        """Return the task that deduplicates one bucket of one wave."""
        return CrawlTask(
            run_dir=str(self.folder),
            unit=Unit(DEDUP, wave, bucket),
            config=Config(
                run_dir=str(self.folder),
                inputs=("simulated",),
                download=DownloadOptions(hosts=HostOptions(quota=None)),
            ),
            config_hash="",
            inputs=tuple(self.candidates(wave)),
        )


class Cost(NamedTuple):
    """What one task took and left."""

    cpu_s: float
    process: int
    peak_mb: float
    rows: int
    kept: int
    n_bytes: int
    opened: int
    """Files of earlier waves: parts and keys."""
    read_mb: float
    """Of their keys."""
    written_mb: float
    """Of keys."""


def draw(plan: Plan, seed: int) -> tuple[npt.NDArray[np.int64], Ids]:
    """Return host and pair id of each row of an archive."""
    rng = np.random.default_rng(seed)
    host = np.floor(np.exp(rng.random(plan.archive_rows) * np.log(HOSTS))).astype(np.int64)
    host[rng.random(len(host)) < TOP_SHARE] = 0
    expected = plan.rows * (1 - TOP_SHARE) / (np.log(HOSTS) * np.maximum(host, 1))
    expected[host == 0] = plan.rows * TOP_SHARE
    image = (rng.random(len(host)) * np.maximum(expected * DISTINCT, 1)).astype(np.uint64)
    variant = (rng.random(len(host)) < 0.1).astype(np.uint64)
    return host, host.astype(np.uint64) << np.uint64(40) | image << np.uint64(1) | variant


def uids(ids: Ids) -> pa.Array:
    """Return 16 well mixed bytes for each id (splitmix64, twice)."""
    halves = np.empty((len(ids), 2), np.uint64)
    for column, step in enumerate((0x9E3779B97F4A7C15, 0xD1B54A32D192ED03)):
        x = ids * np.uint64(2) + np.uint64(step)
        x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        halves[:, column] = x ^ x >> np.uint64(31)
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(ids), [None, pa.py_buffer(halves)]
    )


@functools.cache
def bucket_of_hosts(buckets: int) -> npt.NDArray[np.int32]:
    """Return the bucket of every host."""
    names = (f"www.site{host}.example.org" for host in range(HOSTS))
    return np.fromiter((host_bucket(name, buckets) for name in names), np.int32, HOSTS)


def write_archive(plan: Plan, wave: int, archive: int) -> Ids:
    """Write one candidates part; return its pair ids."""
    host, ids = draw(plan, wave * plan.archives + archive)
    bucket = bucket_of_hosts(plan.buckets)[host]
    order = np.argsort(bucket, kind="stable")
    host, sorted_ids, n = host[order], ids[order], len(ids)
    image = pa.array((sorted_ids >> np.uint64(1) & np.uint64(2**39 - 1)).astype(np.int64))
    site = pc.binary_join_element_wise("www.site", pa.array(host).cast(pa.string()), "")
    columns = {
        "bucket": pa.array(bucket[order]),
        "uid": uids(sorted_ids),
        "url": pc.binary_join_element_wise(
            "https://", site, ".example.org/images/", image.cast(pa.string()), ".jpg", ""
        ),
        "text": CAPTIONS.take(pa.array(sorted_ids % np.uint64(97))),
        "split": pa.repeat("en", n),
        "lang": pa.repeat("en", n),
        "lang_confidence": pa.repeat(pa.scalar(0.9, pa.float32()), n),
        "lang_is_reliable": pa.repeat(pa.scalar(value=True), n),
        "text_is_filename": pa.repeat(pa.scalar(value=False), n),
        "license": pa.nulls(n, pa.string()),
        "page_url": pc.binary_join_element_wise("https://", site, ".example.org/", ""),
        "record_offset": pa.array(np.arange(n) * 1000),
        "link_index": pa.array(np.zeros(n, np.int32)),
        "published_sha256": pa.nulls(n, pa.binary()),
    }
    schema = pa.schema([field for field in CANDIDATES if field.name != "archive"])
    batch = pa.record_batch(list(columns.values()), schema=schema)
    receipt = Receipt(stage="extract", unit=str(archive), config="", counts=Counts(n, n))
    part = plan.folder / plan.candidates(wave)[archive]
    write_part(part, CANDIDATES, Groups([batch], str(archive)), receipt)
    return ids


def peak_mb() -> float:
    """Return the largest resident size that this process ever had."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def dedup_one(plan: Plan, wave: int, bucket: int) -> Cost:
    """Deduplicate one bucket of a wave as a worker of a run does."""
    started = time.process_time()
    job = plan.job(wave, bucket)
    sizes = {str(path): path.stat().st_size for path in plan.folder.glob(f"seen/b{bucket:05}/*")}
    with opened() as paths:
        receipt = dedup_task(job)
    cpu_s, n_bytes = time.process_time() - started, job.part.stat().st_size
    parts = {
        path
        for path in paths.keys() - {str(job.part)}
        if path.startswith(f"{plan.folder}/{DEDUP.folder}/") and path.endswith(".parquet")
    }
    keys = paths.keys() & sizes.keys()
    return Cost(
        cpu_s, os.getpid(), peak_mb(), receipt.counts.seen, receipt.counts.kept, n_bytes,
        opened=len(keys) + sum(TEMPORARY not in path for path in parts),
        read_mb=sum(sizes[path] for path in keys) / 1e6,
        written_mb=sum(side.n_bytes for side in receipt.side) / 1e6,
    )  # fmt: skip


def simulate(plan: Plan, processes: int, every: int) -> Iterator[list[Cost]]:
    """Run all waves, print every so manieth of them, and yield what they cost."""
    bucket_of_hosts(plan.buckets)  # for all processes to come
    for wave in range(plan.waves):
        with ProcessPoolExecutor(processes) as pool:
            task = functools.partial(write_archive, plan, wave)
            ids = np.concatenate(list(pool.map(task, range(plan.archives))))
        np.save(plan.folder / f"ids-{wave}.npy", ids)
        parts = [plan.folder / part for part in plan.candidates(wave)]
        n_bytes = sum(part.stat().st_size for part in parts)
        with ProcessPoolExecutor(processes) as pool:
            costs = list(pool.map(functools.partial(dedup_one, plan, wave), range(plan.buckets)))
        if wave % every == 0 or wave == plan.waves - 1:
            report(wave, costs, n_bytes)
        shutil.rmtree(plan.folder / EXTRACT.folder)
        yield costs


def report(wave: int, costs: list[Cost], n_bytes: int) -> None:
    """Print one line of the table."""
    rows, kept = (sum(getattr(cost, name) for cost in costs) for name in ("rows", "kept"))
    peaks: dict[int, float] = {}
    for cost in costs:
        peaks[cost.process] = max(peaks.get(cost.process, 0), cost.peak_mb)
    print(
        f"| {wave} | {rows / 1e6:.1f} | {kept / 1e6:.1f} | {max(c.rows for c in costs) / 1e6:.2f} "
        f"| {sum(c.cpu_s for c in costs) / rows * 1e6:.2f} "
        f"| {', '.join(f'{peak:.0f}' for peak in peaks.values())} "
        f"| {n_bytes / rows:.0f} | {sum(c.n_bytes for c in costs) / kept:.0f} "
        f"| {max(c.opened for c in costs)} | {max(c.read_mb for c in costs):.1f} |",
        flush=True,
    )


def distinct_pairs(plan: Plan) -> int:
    """Count the distinct ids of all waves, a sixteenth at a time."""
    total = 0
    for part in range(16):
        ids = [
            np.load(plan.folder / f"ids-{wave}.npy", mmap_mode="r") for wave in range(plan.waves)
        ]
        chosen = [i[(i >> np.uint64(1)) % np.uint64(16) == part] for i in ids]
        total += len(np.unique(np.concatenate(chosen)))
    return total


def main() -> None:
    """Simulate, check, report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--waves", type=int, default=4)
    parser.add_argument("--archives", type=int, default=128, help="per wave")
    parser.add_argument("--buckets", type=int, default=128)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="print every so manieth wave")
    options = parser.parse_args()
    plan = Plan(options.folder, options.rows, options.waves, options.archives, options.buckets)
    plan.folder.mkdir(parents=True)
    print(
        "| wave | M rows | M kept | M rows, largest bucket | CPU s a M rows | peak MB of each "
        "process | bytes a candidate | bytes a kept row | earlier files a task opens | MB of keys "
        "it reads |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    costs = [cost for wave in simulate(plan, options.processes, options.every) for cost in wave]
    kept, rows = sum(cost.kept for cost in costs), sum(cost.rows for cost in costs)
    keys = list((plan.folder / "seen").rglob("*.npy"))
    n_bytes = sum(path.stat().st_size for path in keys)
    print(f"\nkept {kept:,} of {distinct_pairs(plan):,} distinct pairs")
    print(f"CPU s a M rows, all waves: {sum(cost.cpu_s for cost in costs) / rows * 1e6:.2f}")
    print(
        f"of earlier waves {sum(cost.opened for cost in costs):,} files were opened and "
        f"{sum(cost.read_mb for cost in costs) / 1e3:.2f} GB of keys read; "
        f"{sum(cost.written_mb for cost in costs) / 1e3:.2f} GB of keys were written"
    )
    print(f"keys: {len(keys)} files, {n_bytes / 1e9:.2f} GB, {n_bytes / kept:.1f} B a kept row")
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"peak MB: {peak_mb():.0f} of this process, {largest:.0f} of the largest it started")


if __name__ == "__main__":
    main()
