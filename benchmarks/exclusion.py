"""Read exclusion lists of millions of entries, and ask them about candidates.

    python benchmarks/exclusion.py [--entries 5000000]

Prints for each kind of list the CPU seconds to load it, the peak of the process that did (each kind
has its own), and the time to judge 100,000 candidates of as many hosts. Then the same for a process
that maps what the first one wrote: its memory but for what is mapped, which all processes share.
"""

import argparse
import gzip
import hashlib
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from cah_dask.blocklists.exclusion import Exclusion, load_exclusion
from cah_dask.blocklists.mapped import map_exclusion, write_exclusion
from cah_dask.keys import of_texts, unique
from cah_dask.schema import uid

CANDIDATES = 100_000
SITES = 1_000_000


def url(number: int) -> str:
    """Return a url; 1,000,000 sites take turns."""
    return f"https://www.site{number % SITES}.example.org/images/2023/{number}.jpg"


def lists(folder: Path, entries: int) -> Iterator[tuple[str, Path]]:
    """Write one list of each kind and form."""
    numbers = range(entries)
    np.save(folder / "uids.npy", unique(of_texts(map(str, numbers))))
    yield "uid", folder / "uids.npy"
    with gzip.open(folder / "hashes.txt.gz", "wt", compresslevel=1) as file:
        file.writelines(f"{hashlib.md5(b'%d' % n).hexdigest()}\n" for n in numbers)
    yield "url_md5", folder / "hashes.txt.gz"
    with (folder / "urls.txt").open("w") as file:
        file.writelines(f"{url(3 * n)}\n" for n in numbers)
    yield "url", folder / "urls.txt"
    with (folder / "hosts.txt").open("w") as file:
        file.writelines(f"www.site{3 * n}.example.org\n" for n in numbers)
    yield "host", folder / "hosts.txt"


def memory_mb(line: str) -> float:
    """Return what the kernel says of this process: VmHWM the peak, RssAnon what is its own."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition(f"{line}:")[2].split()[0]) / 1024


def measure(kind: str, path: Path) -> str:
    """Return a row of the table for a list that is loaded, and write it to be mapped."""
    started = time.process_time()
    exclusion = load_exclusion([f"{kind}:{path}"])
    row = f"{kind}, loaded | {judged(exclusion, started)} | {memory_mb('VmHWM'):.0f}"
    write_exclusion(path.with_name(kind), exclusion)
    return row


def measure_mapped(kind: str, path: Path) -> str:
    """Return a row of the table for a list that is mapped."""
    started = time.process_time()
    exclusion = map_exclusion(path.with_name(kind))
    return f"{kind}, mapped | {judged(exclusion, started)} | {memory_mb('RssAnon'):.0f}"


def judged(exclusion: Exclusion, started: float) -> str:
    """Return CPU seconds since `started`, those to judge candidates, and how many are listed."""
    loaded = time.process_time()
    urls = [url(number) for number in range(CANDIDATES)]
    uids = pa.array([uid("text", url) for url in urls], pa.binary(16))
    rows = pa.table({"uid": uids, "url": urls})
    begun = time.process_time()
    listed = int(exclusion.excludes(rows).sum())
    return f"{loaded - started:.1f} | {time.process_time() - begun:.2f} | {listed}"


def main() -> None:
    """Write lists, measure, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--entries", type=int, default=5_000_000)
    entries = parser.parse_args().entries
    print("| list | CPU s to load | CPU s for 100,000 rows | of them listed | MB |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for kind, path in lists(Path(folder), entries):
            for work in (measure, measure_mapped):
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
                    print(f"| {fresh.submit(work, kind, path).result()} |", flush=True)


if __name__ == "__main__":
    main()
