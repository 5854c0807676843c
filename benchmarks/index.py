"""Index a CDX file and an archive, and look up fetch lists.

    python benchmarks/index.py [--captures 1000000] [--buckets 16]

Prints CPU microseconds and bytes for each capture, and the time and memory of looking up a list of
10,000 urls: all of one bucket, as those of a run that made its own index, and of all buckets.
"""

import argparse
import io
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from fastwarc.warc import ArchiveIterator

from cah_dask.images.archived.captures import key_of
from cah_dask.images.archived.index import ArchiveIndex, bucket_part
from cah_dask.run.indexing.job import IndexJob, sources_of
from cah_dask.run.indexing.tasks import SCAN, SORT
from tests import jobs_here, warcs

LIST = 10_000
HOSTS = 50_000
RECORDS = 20_000


def url(number: int) -> str:
    """Return a url; `HOSTS` hosts take turns."""
    return f"https://www.site{number % HOSTS}.example.org/images/2023/{number}.jpg"


def write_cdx(path: Path, captures: int) -> None:
    """Write lines as Common Crawl's index has them."""
    with path.open("w") as file:
        for n in range(captures):
            file.write(
                f'org,example,site{n % HOSTS})/images/2023/{n}.jpg 20240531011749 {{"url": '
                f'"{url(n)}", "mime": "image/jpeg", "mime-detected": "image/jpeg", "status": '
                f'"200", "digest": "{n:032X}", "length": "35000", "offset": "{n}", "filename": '
                f'"crawl-data/CC-MAIN-2024-22/segments/{n % 100}/warc/x.warc.gz"}}\n'
            )


def cpu_us(action: Callable[[], object], number: int) -> float:
    """Return the CPU microseconds that an action takes, by the number of things done."""
    started = time.process_time()
    action()
    return 1e6 * (time.process_time() - started) / number


def make(cdx: Path, to: Path, buckets: int, captures: int) -> None:
    """Index the file, and say what each step takes."""
    job = IndexJob(sources_of([str(cdx)]), to, buckets)
    scan = cpu_us(lambda: jobs_here.carry_out(job, at_most=1), captures)
    sort = cpu_us(lambda: jobs_here.carry_out(job), captures)
    sizes = {
        stage.name: sum(path.stat().st_size for path in (to / stage.folder).rglob("*.parquet"))
        for stage in (SCAN, SORT)
    }
    print(f"scan: {scan:.1f} us and {sizes['scan'] / captures:.1f} bytes a capture")
    print(f"sort: {sort:.1f} us and {sizes['sort'] / captures:.1f} bytes a capture")
    print(f"peak: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def look_up(to: Path, buckets: int, urls: list[str]) -> str:
    """Look up some urls in a process of its own; return what that takes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    found = ArchiveIndex(to, buckets).best(urls)
    seconds = time.process_time() - started
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return f"{len(found):,} found in {seconds:.2f} CPU s, {more / 1024:.0f} MB more"


def read(folder: Path) -> None:
    """Index an archive of small pictures, beside FastWARC alone."""
    body = bytes(range(256)) * 40
    records = (warcs.response(url(n), body, {"Content-Type": "image/jpeg"}) for n in range(RECORDS))
    archive = Path(warcs.write_warc(folder / "x.warc.gz", records))
    job = IndexJob(sources_of([str(archive)]), folder / "read", 1)
    ours = cpu_us(lambda: jobs_here.carry_out(job, at_most=1), RECORDS)
    data = io.BytesIO(archive.read_bytes())
    alone = cpu_us(lambda: sum(1 for _ in ArchiveIterator(data, parse_http=False)), RECORDS)
    print(f"records of 10 KB: {ours:.1f} us each, FastWARC alone {alone:.1f} us")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--captures", type=int, default=1_000_000)
    parser.add_argument("--buckets", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_cdx(folder / "x.cdxj", options.captures)
        to = folder / "index"
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(make, folder / "x.cdxj", to, options.buckets, options.captures).result()
        numbers = range(0, options.captures, 7)
        of_one = [u for u in map(url, numbers) if _bucket(u, options.buckets) == 0][:LIST]
        of_all = [url(n) for n in range(0, options.captures, max(1, options.captures // LIST))]
        size = bucket_part(to, 0).stat().st_size
        for name, urls in (("one bucket", of_one), ("all buckets", of_all[:LIST])):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                said = pool.submit(look_up, to, options.buckets, urls).result()
            print(f"{len(urls):,} urls of {name} ({size / 1e6:.1f} MB each): {said}")
        read(folder)


def _bucket(address: str, buckets: int) -> int:
    key = key_of(address)
    return 0 if key is None else key.host % buckets


if __name__ == "__main__":
    main()
