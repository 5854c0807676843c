"""Read exclusion lists of millions of entries, and ask them about candidates.

    python benchmarks/exclusion.py [--entries 5000000]

Prints for each kind of list the CPU seconds to load it, the peak of the process that did (each kind
has its own), and the time to judge 100,000 candidates of as many hosts.
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

from cah_dask.blocklists.exclusion import load_exclusion
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


def peak_mb() -> float:
    """Return the largest resident size of this process since its start."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure(kind: str, path: Path) -> str:
    """Return a row of the table."""
    urls = [url(number) for number in range(CANDIDATES)]
    uids = pa.array([uid("text", url) for url in urls], pa.binary(16))
    rows = pa.table({"uid": uids, "url": urls})
    started = time.process_time()
    exclusion = load_exclusion([f"{kind}:{path}"])
    loaded = time.process_time()
    listed = int(exclusion.excludes(rows).sum())
    judged_s = time.process_time() - loaded
    return f"| {kind} | {loaded - started:.1f} | {peak_mb():.0f} | {judged_s:.2f} | {listed} |"


def main() -> None:
    """Write lists, measure, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--entries", type=int, default=5_000_000)
    entries = parser.parse_args().entries
    print("| list | CPU s to load | peak MB | CPU s for 100,000 rows | of them listed |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for kind, path in lists(Path(folder), entries):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
                print(fresh.submit(measure, kind, path).result(), flush=True)


if __name__ == "__main__":
    main()
