"""Measure the extraction, step by step, beside reading alone and beside cc2dataset.

    python benchmarks/extract.py FILE [--repeat 5] [--peer /path/to/env-with-cc2dataset/bin/python]

CPU seconds (user + system) of one process, medians; the steps and the peer take turns, so that a
busy machine is busy for all of them. Each step includes the ones before it:

    floor      FastWARC reads every record
    parse      JSON decoded, page rules applied
    pairs      texts cleaned, urls resolved, pairs made unique: more than cc2dataset's loop
    rows       columns, buckets and row groups, without languages
    languages  the whole of `extract_archive`
    written    the same, and its parquet part

Then the peak memory of a process of its own that does all of it. ``--profile`` adds the functions
with the most time of their own.
"""

import argparse
import cProfile
import multiprocessing
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest.mock import patch

from fastwarc.warc import ArchiveIterator, WarcRecordType

from cah_dask.candidates import extract
from cah_dask.candidates.archive_pages import read_pages
from cah_dask.candidates.extract import ExtractOptions, extract_archive
from cah_dask.candidates.language import NO_LANGUAGE, Language, LanguageOptions
from cah_dask.candidates.rows import Pair
from cah_dask.schema import CANDIDATES
from cah_dask.storage import Receipt, write_part

BUCKETS = 256
OPTIONS = ExtractOptions()
PEER = """
import sys, time
from loguru import logger
logger.remove()
from cc2dataset.main import process_wat
started = time.process_time()
pairs = sum(1 for _ in process_wat(sys.argv[1], "image"))
print(pairs, time.process_time() - started)
"""


class NoRows:
    """Takes pairs and forgets them."""

    def add(self, pair: Pair) -> None:
        """Take a pair."""


class NoDetector:
    """Knows no language."""

    def __init__(self, options: LanguageOptions) -> None:
        """Take the options of a detector."""

    def classify(self, text: str) -> Language:  # noqa: ARG002
        """Return nothing."""
        return NO_LANGUAGE


def floor(archive: str) -> int:
    """Read all records; return their bytes."""
    records = ArchiveIterator(archive, record_types=WarcRecordType.metadata, parse_http=False)
    return sum(len(record.reader.read()) for record in records)


def parse(archive: str) -> int:
    """Parse all pages; return how many."""
    return sum(1 for _ in read_pages(archive, OPTIONS.page_rules(), Counter()))


def pairs(archive: str) -> int:
    """Judge all links; return how many were seen."""
    links = extract._Links(OPTIONS, NoRows(), ())  # type: ignore[arg-type]  # noqa: SLF001
    for offset, page in read_pages(archive, OPTIONS.page_rules(), Counter()):
        links.add_page(page, offset)
    return links.counts(0, {}).seen


def rows(archive: str) -> int:
    """Extract without languages; return the rows."""
    with patch.object(extract, "Detector", NoDetector):
        return languages(archive)


def languages(archive: str) -> int:
    """Extract; return the rows."""
    found = extract_archive(archive, OPTIONS, buckets=BUCKETS)
    return sum(map(len, found.groups))


def written(archive: str) -> int:
    """Extract and write the part; return its size."""
    found = extract_archive(archive, OPTIONS, buckets=BUCKETS)
    receipt = Receipt(stage="extract", unit=archive, config="", counts=found.counts)
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.parquet"
        write_part(part, CANDIDATES, found.groups, receipt)
        return part.stat().st_size


def peer(python: str, archive: str) -> tuple[int, float]:
    """Run cc2dataset's own loop in its own environment; return its pairs and CPU seconds."""
    done = subprocess.run([python, "-c", PEER, archive], capture_output=True, text=True, check=True)
    count, seconds = done.stdout.split()
    return int(count), float(seconds)


def peak_mb(archive: str) -> float:
    """Extract and write the part; return the largest resident size of this process in MB."""
    written(archive)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def timed(step: Callable[[str], int], archive: str) -> float:
    """Return the CPU seconds of a step."""
    started = time.process_time()
    step(archive)
    return time.process_time() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("archive")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--peer", help="python of an environment with cc2dataset")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    steps = [floor, parse, pairs, rows, languages, written]
    seconds: dict[str, list[float]] = {step.__name__: [] for step in steps}
    for _ in range(options.repeat):
        for step in steps:
            seconds[step.__name__].append(timed(step, options.archive))
        if options.peer:
            count, spent = peer(options.peer, options.archive)
            seconds.setdefault("cc2dataset", []).append(spent)
    report(options.archive, seconds)
    if options.peer:
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        print(f"cc2dataset finds {count} pairs; ", end="")
        print(f"pairs at {medians['cc2dataset'] / medians['pairs']:.2f} times its rate")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        print(f"peak of a process: {fresh.submit(peak_mb, options.archive).result():.0f} MB")
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(written, options.archive)
        pstats.Stats(profile).sort_stats("tottime").print_stats(20)


def report(archive: str, seconds: dict[str, list[float]]) -> None:
    """Print a Markdown table."""
    found = extract_archive(archive, OPTIONS, buckets=BUCKETS)
    n_bytes, n_links = floor(archive), found.counts.seen
    print(f"{archive}: {n_bytes / 1e6:.1f} MB of JSON, {found.counts}\nPython {sys.version}\n")
    print("| step | CPU s (min, median, max) | times the floor | MB/s | links/s |")
    print("|---|---|---|---|---|")
    base = statistics.median(seconds["floor"])
    for name, values in seconds.items():
        middle = statistics.median(values)
        spread = f"{min(values):.3f}, {middle:.3f}, {max(values):.3f}"
        rates = f"{n_bytes / middle / 1e6:.0f} | {n_links / middle:,.0f}"
        print(f"| {name} | {spread} | {middle / base:.2f} | {rates} |")


if __name__ == "__main__":
    main()
