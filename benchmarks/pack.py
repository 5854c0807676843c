"""Measure one pack task of the default size: peak memory and CPU seconds, by dimension of vectors.

    python benchmarks/pack.py [--dims 512 768 1024] [--repeat 5] [--rows 262144]

Scored parts of 10,000 rows are drawn (three in four are kept, texts of 60 characters, urls of 90),
then each task runs in a process of its own. Prints medians.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from cah_dask.counts import Counts
from cah_dask.release.layout import Layout, Slice, deal, fingerprint
from cah_dask.release.pack import create_release, pack_shard
from cah_dask.schema import SELECTED, scored
from cah_dask.storage import Receipt, write_part
from tests.encoders import released_encoder

PART_ROWS = 10_000
KEPT_SHARE = 0.75
_FILL = {
    pa.string(): "x" * 60,
    pa.int64(): 1,
    pa.int32(): 1,
    pa.float32(): 0.5,
    pa.bool_(): True,
    pa.binary(16): b"u" * 16,
}


def write_scored(folder: Path, rows: int, dim: int) -> list[tuple[str, int]]:
    """Write scored parts with at least so many selected rows; return the selected parts."""
    random = np.random.default_rng(0)
    kept: list[tuple[str, int]] = []
    number = 0
    while sum(n for _, n in kept) < rows:
        name = f"scored/{number}.parquet"
        table = _table(random, dim)
        chosen = np.flatnonzero(random.random(PART_ROWS) < KEPT_SHARE).astype(np.int32)
        receipt = Receipt(stage="embed", unit=name, config="", counts=Counts())
        write_part(folder / name, table.schema, [table], receipt)
        columns = [pa.repeat(name, len(chosen)), pa.array(chosen), table["uid"].take(chosen)]
        selected = pa.table(columns, schema=SELECTED)
        write_part(folder / f"selected/{number}.parquet", SELECTED, [selected], receipt)
        kept.append((f"selected/{number}.parquet", len(chosen)))
        number += 1
    kept[-1] = (kept[-1][0], kept[-1][1] - (sum(n for _, n in kept) - rows))
    return kept


def _table(random: np.random.Generator, dim: int) -> pa.Table:
    vectors = random.integers(0, 256, (PART_ROWS, 2 * dim), np.uint8)
    made = {
        "url": pa.array([f"https://images.example/{value:070x}" for value in range(PART_ROWS)]),
        **{
            f"{modality}/clip": pa.Array.from_buffers(
                pa.binary(2 * dim), PART_ROWS, [None, pa.py_buffer(vectors)]
            )
            for modality in ("image", "text")
        },
    }
    schema = scored({"clip": dim})
    columns = [
        made[field.name]
        if field.name in made
        else pa.repeat(_FILL[field.type], PART_ROWS)
        if field.type in _FILL
        else pa.nulls(PART_ROWS, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def task(folder: Path, slices: list[Slice]) -> tuple[float, float]:
    """Pack the first shard; return the CPU seconds and the peak of this process in MB."""
    started = time.process_time()
    pack_shard(folder, folder / "release", 0, slices)
    seconds = time.process_time() - started
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return seconds, int(status.partition("VmHWM:")[2].split()[0]) / 1024


def runs(folder: Path, dim: int, rows: int, repeat: int) -> Iterator[tuple[float, float]]:
    """Yield what `task` says, each time in a fresh process."""
    dealt = deal(write_scored(folder, rows, dim), rows)
    layout = Layout(
        rows, (released_encoder("clip", dim),), "clip", "hash", rows, 4096, fingerprint(dealt)
    )
    create_release(folder / "release", layout)
    spawn = multiprocessing.get_context("spawn")
    for _ in range(repeat):
        (folder / "release" / "pairs" / "part-00000.parquet").unlink(missing_ok=True)
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            yield pool.submit(task, folder, dealt[0]).result()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dims", type=int, nargs="+", default=[512, 768, 1024])
    parser.add_argument("--rows", type=int, default=262_144)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    print("dim   CPU s  peak MB")
    for dim in options.dims:
        with tempfile.TemporaryDirectory() as name:
            results = list(runs(Path(name), dim, options.rows, options.repeat))
        seconds, peaks = (statistics.median(values) for values in zip(*results, strict=True))
        print(f"{dim:4d} {seconds:6.1f} {peaks:8.0f}")


if __name__ == "__main__":
    main()
