"""Measure the download beside img2dataset: the same nginx, the same urls, the same product.

    python benchmarks/download.py --peer /path/to/env-with-img2dataset/bin/python

Needs nginx on the PATH. Draws its images once into --folder, then runs each case --runs times,
ours and the peer's in turn, and prints medians. CPU seconds are user + system of the whole process
tree, less those of a run over one url (interpreters, imports).
"""

import argparse
import contextlib
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from drawn_web import (
    NAME_SERVER,
    SILENCE,
    Site,
    draw_hostile,
    draw_set,
    hostile_urls,
    running,
    serve,
)
from similarity import ours_stored, peer_stored, quality

OURS = """
import json, sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
import msgspec
from cah_dask.images.picture.decode import DecodeOptions
from cah_dask.images.download import download_list
from cah_dask.images.options import DownloadOptions

def run(urls, shard, case):
    n = case["connections"]
    hosts = case.get("hosts", {"concurrency": n, "address_concurrency": n, "spacing_s": 0})
    tree = {"contact": "bench@lab.example", "allow_addresses": ["127.0.0.0/8"],
            "allow_ports": case["ports"], "ca_file": case["ca_file"], "connections": n,
            "hosts": hosts, **case["options"]}
    options = msgspec.convert(tree, DownloadOptions)
    decode = DecodeOptions(min_side_px=1, side_px=256, quality=95, **case["decode"])
    return download_list(urls, shard, options, decode).counts.kept

if __name__ == "__main__":
    case = json.loads(sys.argv[1])
    urls = Path(case["urls"]).read_text().split()
    n = case["processes"]
    lists = [urls[i::n] for i in range(n)]
    shards = [Path(case["out"]) / f"{i}.h5" for i in range(n)]
    if n == 1:
        kept = run(urls, shards[0], case)
    else:
        with ProcessPoolExecutor(n) as pool:
            kept = sum(pool.map(run, lists, shards, [case] * n))
    print(json.dumps({"kept": kept}))
"""

PEER = """
import glob, json, sys
from img2dataset import download

if __name__ == "__main__":
    case = json.loads(sys.argv[1])
    download(url_list=case["urls"], output_folder=case["out"] + "/set", input_format="txt",
             processes_count=case["processes"], thread_count=case["connections"],
             image_size=256, resize_only_if_bigger=True, encode_quality=95,
             enable_wandb=False, compute_hash="sha256", timeout=10,
             number_sample_per_shard=max(1, case["n_urls"] // case["processes"]), **case["peer"])
    stats = [json.load(open(path)) for path in glob.glob(case["out"] + "/set/*_stats.json")]
    print(json.dumps({"kept": sum(one["successes"] for one in stats)}))
"""


@dataclass(frozen=True)
class Run:
    """What one run cost."""

    cpu_s: float
    wall_s: float
    kept: int
    peak_mb: float
    busy: float
    """Cores of the whole machine that were at work, on average."""


def execute(python: str, code: str, case: dict, bundle: str) -> Run:
    """Run one program in a process of its own and account for it and its children."""
    with (
        tempfile.NamedTemporaryFile("w", suffix=".py") as program,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as errors,
    ):
        program.write(code)
        program.flush()
        env = {**os.environ, "SSL_CERT_FILE": bundle, "NO_ALBUMENTATIONS_UPDATE": "1"}
        began, worked_s = time.perf_counter(), machine_s()
        child = subprocess.Popen(
            [python, program.name, json.dumps(case)], stdout=out, stderr=errors, env=env
        )
        peak_mb = watch(child.pid)
        _, status, usage = os.wait4(child.pid, 0)
        wall_s = time.perf_counter() - began
        child.returncode = status
        errors.seek(0)
        out.seek(0)
        lines = out.read().decode().splitlines()
        if status == 0 and lines:
            kept = json.loads(lines[-1])["kept"]
            busy = (machine_s() - worked_s) / wall_s
            return Run(usage.ru_utime + usage.ru_stime, wall_s, kept, peak_mb, busy)
        raise SystemExit(f"{python} failed:\n{errors.read().decode(errors='replace')[-3000:]}")


def machine_s() -> float:
    """Return the seconds that all cores have worked so far, for whomever."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.steal - times.guest - times.guest_nice


def watch(pid: int) -> float:
    """Wait for a process; return the largest memory (MB) that one process of its tree had."""
    peak = 0
    process = psutil.Process(pid)
    while process.status() != psutil.STATUS_ZOMBIE:
        for member in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                peak = max(peak, member.memory_info().rss)
        time.sleep(0.1)
    return peak / 1e6


def measure(python: str, code: str, case: dict, urls: list[str], site: Site) -> tuple[Run, Path]:
    """Run over some urls; return the cost and where the images are."""
    work = Path(tempfile.mkdtemp(dir=case["work"]))
    listing = work / "urls.txt"
    listing.write_text("\n".join(urls))
    full = case | {"urls": str(listing), "out": str(work), "n_urls": len(urls)}
    return execute(python, code, full, site.bundle), work


def compare(name: str, case: dict, urls: list[str], site: Site, args: argparse.Namespace) -> None:
    """Run a case, ours and the peer's in turn; print a line for each."""
    programs = {"cah_dask": (sys.executable, OURS)}
    if args.peer and case["peer"] is not None:
        programs["img2dataset"] = (args.peer, PEER)
    idle = {who: measure(*program, case, urls[:1], site)[0] for who, program in programs.items()}
    runs: dict[str, list[Run]] = {who: [] for who in programs}
    for _ in range(args.runs):
        for who, program in programs.items():
            runs[who].append(measure(*program, case, urls, site)[0])
    for who, done in runs.items():
        each = sorted(run.cpu_s - idle[who].cpu_s for run in done)
        cpu_s = statistics.median(each)
        wall_s = statistics.median(run.wall_s for run in done) - idle[who].wall_s
        kept = statistics.median(run.kept for run in done)
        peak_mb = max(run.peak_mb for run in done)
        busy = statistics.median(run.busy for run in done)
        print(
            f"| {name} | {who} | {1000 * each[0] / len(urls):.2f}, {1000 * cpu_s / len(urls):.2f}, "
            f"{1000 * each[-1] / len(urls):.2f} | {kept / cpu_s:.0f} "
            f"| {wall_s:.1f} | {busy:.1f} | {kept:.0f} of {len(urls)} | {peak_mb:.0f} |",
            flush=True,
        )


def print_quality(
    label: str, case: dict, names: list[str], site: Site, args: argparse.Namespace
) -> None:
    """Print the similarity of both programs' pictures to the same reference."""
    originals = Path(args.folder) / label
    urls = [f"http://127.0.0.1:{site.http}/{label}/{name}" for name in names]
    _, folder = measure(sys.executable, OURS, case, urls, site)
    print(f"SSIM {label}, cah_dask: {quality(ours_stored(folder, names), originals, names)}")
    if args.peer:
        _, folder = measure(args.peer, PEER, case, urls, site)
        print(f"SSIM {label}, img2dataset: {quality(peer_stored(folder), originals, names)}")


TAR = {"output_format": "webdataset", "resize_mode": "keep_ratio"}
SOUND = {"output_format": "webdataset", "resize_mode": "no", "skip_reencode": True}
AS_IS = {"output_format": "webdataset", "resize_mode": "no", "disable_all_reencoding": True}
FETCH_ONLY = {"output_format": "dummy", "resize_mode": "no", "disable_all_reencoding": True}


def all_cases(
    args: argparse.Namespace, site: Site, work: str, small: list[str], photos: list[str]
) -> dict[str, tuple[dict, list[str]]]:
    """Return the settings and the urls of each case, by its name in the table."""
    http, https, silent, names = args.ports
    case = {
        "work": work,
        "processes": 1,
        "connections": args.connections,
        "ports": args.ports,
        "ca_file": site.ca_file,
        "options": {"decoders": 1},  # of a process, as img2dataset decodes in one thread
        "decode": {"store": "jpeg"},
        "peer": TAR,
    }
    original = {"decode": {"store": "original"}}
    polite = {"connections": 256, "options": {}, "hosts": {}}  # as users have it by default
    both = {"processes": 2, "options": {}}  # with the default number of decoders
    plain, secure = f"http://127.0.0.1:{http}", f"https://127.0.0.1:{https}"
    small_http = [f"{plain}/small/{name}" for name in small]
    six_times = [f"{url}?{n}" for url in small_http for n in range(6)]
    small_https = [f"{secure}/small/{name}" for name in small[: args.images // 4]]
    named = [f"http://h{n % 1000}.bench.example:{http}/small/{name}"
             for n, name in enumerate(small)]  # fmt: skip
    by_name = {"peer": None, "connections": 256}
    told = case["options"] | {"resolve": {"*.bench.example": "127.0.0.1"}}
    asked = case["options"] | {"nameservers": [f"127.0.0.1:{names}"]}
    many = [f"http://127.0.{4 + n % 1000 // 250}.{1 + n % 250}:{http}/small/{name}"
            for n, name in enumerate(small)]  # fmt: skip
    return {
        "http, 256 px": (case, small_http),
        "http, 256 px, 2 processes": (case | both, small_http),
        "http, 256 px, JPEG only": (case, [u for u in small_http if u.endswith(".jpg")]),
        "http, 256 px, PNG only": (case, [u for u in six_times if ".png?" in u]),
        "http, 256 px, WebP only": (case, [u for u in six_times if ".webp?" in u]),
        "http, originals": (case | original | {"peer": SOUND}, small_http),
        "http, originals, peer blind": (case | original | {"peer": AS_IS}, small_http),
        "https, 256 px": (case, small_https),
        "https, originals, peer fetches only": (
            case | original | {"peer": FETCH_ONLY},
            small_https,
        ),
        "photos of 2-11 MP, 256 px": (case, [f"{plain}/photos/{name}" for name in photos]),
        "1,000 hosts, 256 px": (case | polite, many),
        "1,000 names, told": (case | by_name | {"options": told}, named),
        "1,000 names, asked for": (case | by_name | {"options": asked}, named),
        "hostile, 256 px": (
            case | {"connections": 256, "options": {"retries": 0}},
            hostile_urls(small, http, silent),
        ),
    }


def main() -> None:
    """Run the cases asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="a Python in whose environment img2dataset is installed")
    parser.add_argument("--folder", default="/tmp/cah-bench-images", help="where to keep images")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--ports", type=int, nargs=4, default=[28080, 28443, 28081, 28053])
    parser.add_argument("--cases", nargs="+", default=["all"], help="names as in the table")
    args = parser.parse_args()
    http, https, silent, names = args.ports
    small = draw_set("small", args.images, Path(args.folder))
    photos = draw_set("photos", 150, Path(args.folder))
    draw_hostile(Path(args.folder))
    with (
        serve(Path(args.folder), http, https) as site,
        running(SILENCE, silent),
        running(NAME_SERVER, names),
        tempfile.TemporaryDirectory() as work,
    ):
        cases = all_cases(args, site, work, small, photos)
        print(f"{ssl.OPENSSL_VERSION}, {args.runs} runs, {args.connections} connections")
        columns = ["case", "program", "CPU ms a url", "images/CPU-s", "wall s", "cores busy"]
        columns += ["images", "peak MB"]
        print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
        for name, (settings, urls) in cases.items():
            if args.cases == ["all"] or name in args.cases:
                compare(name, settings, urls, site, args)
        if args.cases == ["all"] or "quality" in args.cases:
            settings, _ = cases["http, 256 px"]
            print_quality("small", settings, small[:400], site, args)
            print_quality("photos", settings, photos[:60], site, args)


if __name__ == "__main__":
    main()
