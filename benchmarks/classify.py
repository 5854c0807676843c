"""Measure `cah classify` beside a plain loop over the same archives with the same model.

    OMP_NUM_THREADS=1 python -m benchmarks.classify [--archives 6] [--pages 4000] [--repeat 5]

Archives of pages are written first. The plain loop is one process: FastWARC, the same `read` and
`prepare`, the same batches through the same model. `cah classify` has a worker of each pool. Both
take turns. Wall seconds of `cah classify` are those from its first task to its last score, without
the start of its workers; CPU seconds are those of all its processes, their start included.

Then reading alone, in CPU seconds: FastWARC with the same filter, and what this package adds to it.
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from fastwarc.warc import ArchiveIterator, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text

from cah_dask.archives.responses import Responses, Wanted
from cah_dask.classify.hooks import Scored, arrays_of
from cah_dask.classify.options import ClassifyOptions
from cah_dask.classify.reading import Reading
from tests.warcs import response, write_warc

BATCH = 32
LAYERS = 36
WORDS = [f"word{number}" for number in range(5000)]


def main_text(record: Any) -> str:
    """Return the main text of a page."""
    return str(extract_plain_text(record.body.decode("utf-8", "replace"), main_content=True))


class Dense:
    """Some dense layers over hashed pairs of bytes: a model that costs about what reading does."""

    names = ("first", "second")
    dim = 64

    def __init__(self, *, device: str = "cpu", threads: int = 1, layers: int = LAYERS) -> None:
        self.where = (device, threads)
        chance = np.random.default_rng(0)
        self.layers = [chance.standard_normal((1024, 1024), np.float32) / 32 for _ in range(layers)]
        self.last = chance.standard_normal((1024, self.dim), np.float32) / 32

    def __call__(self, batch: Sequence[Mapping[str, Any]]) -> Scored:
        """Return two scores and a vector of each text."""
        counts = np.zeros((len(batch), 1024), np.float32)
        for row, arrays in enumerate(batch):
            text = arrays["text"].astype(np.int32)
            pairs = (text[:-1] * 31 + text[1:]) % 1024
            counts[row] = np.bincount(pairs, minlength=1024)
        for layer in self.layers:
            counts = np.tanh(counts @ layer)
        vectors = np.asarray(counts @ self.last, np.float32)
        return Scored(vectors[:, :2], vectors)


def page(chance: random.Random) -> bytes:
    """Return a page of 100 KB with 7 KB of text, in proportions of the web."""
    links = "".join(
        f"<li class='menu-item menu-item-{n}'><a href='/{word}/{n}' title='{word}' "
        f"data-track='nav-{word}'><span class='icon icon-{word}'></span>{word}</a></li>"
        for n, word in enumerate(chance.choices(WORDS, k=350))
    )
    paragraphs = "".join(
        f"<div class='row'><div class='col-md-8 content-{n}'><p>{' '.join(words)}.</p></div></div>"
        for n, words in enumerate(chance.choices(WORDS, k=30) for _ in range(30))
    )
    script = "".join(f"var {word}={{a:1,b:'{word}'}};" for word in chance.choices(WORDS, k=1200))
    return (
        f"<html><head><title>t</title><script>{script}</script></head><body><nav><ul>{links}</ul>"
        f"</nav><main><article>{paragraphs}</article></main><footer>{links[:9000]}</footer></body>"
    ).encode()


def write_archives(folder: Path, archives: int, pages: int) -> list[str]:
    """Write archives of pages; every fourth record is of another type."""
    names = []
    for number in range(archives):
        chance = random.Random(number)
        records = []
        for n in range(pages):
            records.append(response(f"http://h.test/{number}/{n}", page(chance)))
            if n % 3 == 0:
                other = {"Content-Type": "image/jpeg"}
                body = chance.randbytes(20_000)
                records.append(response(f"http://h.test/{number}/{n}.jpg", body, other))
        names.append(write_warc(folder / f"{number:03d}.warc.gz", records))
    return names


class Plain:
    """A record of FastWARC as hooks see it."""

    def __init__(self, body: bytes) -> None:
        self.body = body


def plain_records(archive: str) -> Any:
    """Yield the bodies that FastWARC reads with the filter of the config."""
    for record in ArchiveIterator(archive, record_types=WarcRecordType.response, parse_http=True):
        mime = (record.http_headers.get("Content-Type") or "").partition(";")[0]
        if record.http_headers.status_code == 200 and mime == "text/html":
            yield record.reader.read()


def plain_loop(archives: Sequence[str]) -> int:
    """Score all pages in this process; return how many."""
    model, batch, n_scored = Dense(), [], 0
    for archive in archives:
        for body in plain_records(archive):
            batch.append(arrays_of(main_text(Plain(body))))
            if len(batch) == BATCH:
                n_scored += len(model(batch).scores)
                batch = []
    return n_scored + (len(model(batch).scores) if batch else 0)


def ours(folder: Path, archives: Sequence[str], number: int) -> dict[str, float]:
    """Run `cah classify`; return wall and CPU seconds, and shares of the model's time."""
    config = folder / f"{number}.yaml"
    tree = {
        "inputs": [f"{Path(archives[0]).parent}/*.warc.gz"],
        "to": str(folder / f"out-{number}"),
        "scratch": str(folder / f"scratch-{number}"),
        "records": {"mime": ["text/html"]},
        "read": "benchmarks.classify:main_text",
        "model": "benchmarks.classify:Dense",
        "batch_size": BATCH,
        "samples": 0,
        "payload": "none",
        "pools": {"cpu": {"workers": 1}, "gpu": {"workers": 1, "threads": 1}},
    }
    config.write_text(yaml.safe_dump(tree))
    log = folder / "journal"
    code = (
        "import shutil, sys\n"
        "from cah_dask.run.folder.job_folder import JobFolder\n"
        f"JobFolder.forget = lambda self: shutil.copy(self.path / 'journal.jsonl', {str(log)!r})\n"
        "from cah_dask.cli import main\n"
        "main()\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", code, "classify", str(config)], check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    tasks = [line for line in lines if line.get("stage") in ("read", "score")]
    ends = [datetime.fromisoformat(task["at"]).timestamp() for task in tasks]
    start = min(end - task["seconds"] for end, task in zip(ends, tasks, strict=True))
    timings = [task["receipt"]["timings"] for task in tasks if task["stage"] == "score"]
    model = sum(each.get("model", 0) for each in timings) / 1000
    return {
        "wall": max(ends) - start,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "model": model,
    }


def fastwarc(archive: str) -> int:
    """Read with FastWARC alone."""
    return sum(1 for _ in plain_records(archive))


def responses(archive: str) -> int:
    """Read the responses of this package."""
    wanted = Wanted(kinds=("response",), statuses=(200,), mimes=("text/html",))
    return sum(1 for _ in Responses(archive, wanted))


def reading(archive: str) -> int:
    """Read and stage what is counted, without hooks."""
    options = ClassifyOptions(records=_only_html())
    return sum(map(len, Reading(archive, archive, options).groups()))


def _only_html() -> Any:
    return ClassifyOptions().records.__class__(mime=("text/html",))


def cpu_seconds(step: Callable[[str], int], archives: Sequence[str]) -> float:
    """Return the CPU seconds of a step over all archives."""
    started = time.process_time()
    for archive in archives:
        step(archive)
    return time.process_time() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--archives", type=int, default=6)
    parser.add_argument("--pages", type=int, default=4000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = Path(place)
        (folder / "in").mkdir()
        archives = write_archives(folder / "in", options.archives, options.pages)
        compare(folder, archives, options.repeat)
        print("\n| reading alone | CPU s | rate of FastWARC |\n|---|---|---|")
        seconds: dict[Callable[[str], int], list[float]] = {
            step: [] for step in (fastwarc, responses, reading)
        }
        for step in seconds:
            step(archives[0])
        for _ in range(options.repeat):
            for step, found in seconds.items():
                found.append(cpu_seconds(step, archives))
        base = statistics.median(seconds[fastwarc])
        for step, found in seconds.items():
            middle = statistics.median(found)
            print(f"| {step.__name__} | {middle:.2f} | {base / middle:.2f} |")


def compare(folder: Path, archives: Sequence[str], repeat: int) -> None:
    """Print a table of both, in turn."""
    (folder / "one").mkdir()
    start = ours(folder, write_archives(folder / "one", 1, 1), -1)["cpu"]
    print(f"CPU seconds of a start, for one page: {start:.1f}\n")
    print("| round | loop: wall s | CPU s | cah: wall s | CPU s | times the loop | model busy |")
    print("|---|---|---|---|---|---|---|")
    ratios, bounds, busy = [], [], []
    for number in range(repeat):
        started, cpu = time.perf_counter(), time.process_time()
        n_pages = plain_loop(archives)
        loop, loop_cpu = time.perf_counter() - started, time.process_time() - cpu
        found = ours(folder, archives, number)
        ratios.append(loop / found["wall"])
        bounds.append(2 * loop_cpu / (found["cpu"] - start))
        busy.append(found["model"] / found["wall"])
        print(
            f"| {number} | {loop:.1f} | {loop_cpu:.1f} | {found['wall']:.1f} | {found['cpu']:.1f} "
            f"| {ratios[-1]:.2f} | {busy[-1]:.0%} |"
        )
    print(
        f"\n{n_pages:,} pages; medians: {statistics.median(ratios):.2f} times the rate of the loop "
        f"(by CPU seconds without the start, on two cores of its own: at most "
        f"{statistics.median(bounds):.2f}), model busy "
        f"{statistics.median(busy):.0%}"
    )


if __name__ == "__main__":
    main()
