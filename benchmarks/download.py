"""Measure the download beside img2dataset: the same nginx, the same urls, the same product.

    python benchmarks/download.py --peer /path/to/env-with-img2dataset/bin/python

Needs nginx on the PATH. Draws its images once into --folder, then runs each case --runs times,
ours and the peer's in turn, and prints medians. CPU seconds are user + system of the whole process
tree, less those of a run over one url (interpreters, imports).
"""

import argparse
import contextlib
import io
import json
import os
import random
import ssl
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import trustme
from PIL import Image, ImageDraw

from cah_dask.images.shards import ShardReader

SIDE_PX = 256
QUALITY = 95  # of both: img2dataset's default

OURS = """
import json, sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
import msgspec
from cah_dask.images.decode import DecodeOptions
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


# --- the pictures -------------------------------------------------------------------------------


def photo(seed: int, width: int, height: int) -> Image.Image:
    """Draw something with the detail of a photograph: noise of all scales, and edges."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (8, 6))
    size = 8
    while size < width:
        size = min(2 * size, width)
        image = image.resize((size, max(1, size * height // width)), Image.Resampling.BICUBIC)
        grain = rng.normal(0, 28 / (1 + size / 120), (image.height, image.width, 3))
        pixels = np.asarray(image, np.float32) + grain.astype(np.float32)
        if size == 16:
            pixels = rng.uniform(30, 225, pixels.shape).astype(np.float32)
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    image = image.resize((width, height))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = rng.integers(0, width), rng.integers(0, height)
        reach = int(rng.integers(8, max(9, min(width, height) // 3)))
        color = tuple(int(c) for c in rng.integers(0, 255, 3))
        draw.ellipse((x, y, x + reach, y + reach // 2), fill=color)
    return image


def draw(job: tuple[str, int, Path]) -> str:
    """Draw picture number `seed` of a set; return its name."""
    kind, seed, folder = job
    rng = random.Random(f"{kind} {seed}")
    if kind == "photos":
        width = rng.randrange(1700, 3900)
        name, save = f"{seed}.jpg", {"format": "JPEG", "quality": rng.choice((80, 85, 90))}
    else:
        width = rng.randrange(280, 1200)
        name, save = f"{seed}.jpg", {"format": "JPEG", "quality": rng.choice((75, 80, 85))}
        if seed % 20 < 3:
            width, name, save = rng.randrange(200, 300), f"{seed}.png", {"format": "PNG"}
        elif seed % 20 < 6:
            name, save = f"{seed}.webp", {"format": "WEBP", "quality": 80}
    path = folder / name
    if not path.exists():
        height = round(width * rng.uniform(0.6, 1.0))
        photo(seed, width, height).save(path, **save)
    return name


def draw_set(kind: str, count: int, folder: Path) -> list[str]:
    """Draw a set once; return the names."""
    folder = folder / kind
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        return list(pool.map(draw, [(kind, seed, folder) for seed in range(count)], chunksize=20))


# --- the server ---------------------------------------------------------------------------------

NGINX = """
worker_processes 2;
daemon off;
pid {work}/nginx.pid;
error_log {work}/error.log crit;
events {{ worker_connections 4096; }}
http {{
    types {{ image/jpeg jpg; image/png png; image/webp webp; text/html html; }}
    access_log off;
    client_body_temp_path {work}/body; proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fcgi; uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
    sendfile on; tcp_nopush on; keepalive_timeout 65;
    server {{
        listen 0.0.0.0:{http} backlog=4096;
        listen 0.0.0.0:{https} ssl backlog=4096;
        ssl_certificate {work}/server.pem;
        ssl_certificate_key {work}/server.key;
        root {root};
        location /noai/ {{ alias {root}/small/; add_header X-Robots-Tag noai; }}
        location /slow/ {{ alias {root}/small/; limit_rate 8k; }}
        location /redirect/ {{ rewrite ^/redirect/(.*)$ /small/$1 redirect; }}
        location /gone/ {{ return 404; }}
        location /refused/ {{ return 403; }}
    }}
}}
"""


@dataclass(frozen=True)
class Site:
    """A running nginx."""

    http: int
    https: int
    ca_file: str
    bundle: str
    """The system's certificates and ours, for who reads SSL_CERT_FILE."""


@contextlib.contextmanager
def serve(root: Path, http: int, https: int) -> Iterator[Site]:
    """Run nginx over a folder."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        ca = trustme.CA()
        cert = ca.issue_cert("127.0.0.1", "localhost")
        cert.private_key_pem.write_to_path(str(work / "server.key"))
        for blob in cert.cert_chain_pems:
            blob.write_to_path(str(work / "server.pem"), append=True)
        ca.cert_pem.write_to_path(str(work / "ca.pem"))
        system = ssl.get_default_verify_paths().openssl_cafile
        together = Path(system).read_bytes() + ca.cert_pem.bytes()
        (work / "bundle.pem").write_bytes(together)
        (work / "nginx.conf").write_text(
            NGINX.format(work=work, root=root.resolve(), http=http, https=https)
        )
        work.chmod(0o755)
        server = subprocess.Popen(["nginx", "-p", name, "-c", str(work / "nginx.conf")])
        try:
            time.sleep(1)
            if server.poll() is not None:
                raise SystemExit((work / "error.log").read_text() or "nginx does not start")
            yield Site(http, https, str(work / "ca.pem"), str(work / "bundle.pem"))
        finally:
            server.terminate()
            server.wait()


# --- the runs -----------------------------------------------------------------------------------


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


# --- the quality --------------------------------------------------------------------------------


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean structural similarity of two grey pictures (Wang 2004, 8 x 8 windows)."""

    def mean(x: np.ndarray) -> np.ndarray:
        total = np.pad(x, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
        return (total[8:, 8:] - total[:-8, 8:] - total[8:, :-8] + total[:-8, :-8]) / 64

    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    cov = mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return float((top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def quality(stored: dict[str, bytes], originals: Path, names: list[str]) -> str:
    """Compare stored pictures with their originals, fully decoded and resized by Lanczos."""
    scores = []
    for name in names:
        if name in stored:
            image = Image.open(io.BytesIO(stored[name])).convert("RGB")
            reference = Image.open(originals / name).convert("RGB")
            reference = reference.resize(image.size, Image.Resampling.LANCZOS)
            scores.append(
                ssim(*(np.asarray(picture.convert("L")) for picture in (image, reference)))
            )
    size = statistics.mean(len(data) for data in stored.values()) / 1000
    worst = sorted(scores)[len(scores) // 20]
    return f"{statistics.mean(scores):.4f} (5th percentile {worst:.4f}), {size:.1f} kB a picture"


def ours_stored(folder: Path, names: list[str]) -> dict[str, bytes]:
    """Read our shard, whose rows are in the order of the urls."""
    with ShardReader(folder / "0.h5") as shard:
        return dict(zip(names, shard.read(range(len(shard))), strict=True))


def peer_stored(folder: Path) -> dict[str, bytes]:
    """Read img2dataset's tars."""
    found = {}
    for path in folder.glob("set/*.tar"):
        with tarfile.open(path) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar}
        for name, data in files.items():
            if name.endswith(".json"):
                url = json.loads(data)["url"]
                found[url.rpartition("/")[2]] = files[name.replace(".json", ".jpg")]
    return found


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


# --- names ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def name_server(port: int) -> Iterator[None]:
    """Say of every name that it is 127.0.0.1."""
    code = (
        "import socket, sys\n"
        "server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "server.bind(('127.0.0.1', int(sys.argv[1])))\n"
        "while True:\n"
        "    asked, peer = server.recvfrom(4096)\n"
        "    end = asked.index(0, 12) + 5\n"
        "    is_a = asked[end - 4 : end - 2] == bytes((0, 1))\n"
        "    head = asked[:2] + bytes((0x81, 0x80, 0, 1, 0, is_a, 0, 0, 0, 0))\n"
        "    record = bytes((0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1))\n"
        "    server.sendto(head + asked[12:end] + is_a * record, peer)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(port)])
    try:
        yield
    finally:
        child.terminate()
        child.wait()


# --- the hostile part of the web ----------------------------------------------------------------


@contextlib.contextmanager
def silence(port: int) -> Iterator[None]:
    """Accept connections and never answer."""
    code = (
        "import socket, sys\n"
        "server = socket.create_server(('0.0.0.0', int(sys.argv[1])), backlog=1024)\n"
        "held = []\n"
        "while True: held.append(server.accept())\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(port)])
    try:
        yield
    finally:
        child.terminate()
        child.wait()


def draw_hostile(folder: Path) -> None:
    """Write what a decoder should not swallow."""
    folder = folder / "hostile"
    folder.mkdir(exist_ok=True)
    Image.new("1", (12_000, 12_000)).save(folder / "bomb.png")
    noise = np.random.default_rng(0).integers(0, 255, (3500, 3500, 3), np.uint8)
    Image.fromarray(noise).save(folder / "huge.png", compress_level=0)
    (folder / "corrupt.jpg").write_bytes(b"\xff\xd8\xff\xe0" + b"junk" * 5000)
    (folder / "page.html").write_text("<html>no image</html>")


def hostile_urls(names: list[str], http: int, silent: int) -> list[str]:
    """Return a list of which about 60 % is fine, each url at one of 300 loopback addresses."""
    rng = random.Random(0)
    kinds = {"small": 60, "gone": 12, "refused": 6, "redirect": 5, "noai": 3, "slow": 5}
    files = {"corrupt.jpg": 3, "page.html": 2, "bomb.png": 1, "huge.png": 1}
    urls = []
    for name in names:
        host = f"127.0.{rng.randrange(1, 4)}.{rng.randrange(1, 101)}"
        kind = rng.choices([*kinds, *files, "silent"], [*kinds.values(), *files.values(), 2])[0]
        if kind == "silent":
            urls.append(f"http://{host}:{silent}/{name}")
        elif kind in files:
            urls.append(f"http://{host}:{http}/hostile/{kind}?{name}")
        else:
            urls.append(f"http://{host}:{http}/{kind}/{name}")
    return urls


# --- all together -------------------------------------------------------------------------------

TAR = {"output_format": "webdataset", "resize_mode": "keep_ratio"}
SOUND = {"output_format": "webdataset", "resize_mode": "no", "skip_reencode": True}
AS_IS = {"output_format": "webdataset", "resize_mode": "no", "disable_all_reencoding": True}
FETCH_ONLY = {"output_format": "dummy", "resize_mode": "no", "disable_all_reencoding": True}


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
        silence(silent),
        name_server(names),
        tempfile.TemporaryDirectory() as work,
    ):
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
        small_https = [f"{secure}/small/{name}" for name in small[: args.images // 4]]
        named = [f"http://h{n % 1000}.bench.example:{http}/small/{name}"
                 for n, name in enumerate(small)]  # fmt: skip
        by_name = {"peer": None, "connections": 256}
        told = case["options"] | {"resolve": {"*.bench.example": "127.0.0.1"}}
        asked = case["options"] | {"nameservers": [f"127.0.0.1:{names}"]}
        many = [f"http://127.0.{4 + n % 1000 // 250}.{1 + n % 250}:{http}/small/{name}"
                for n, name in enumerate(small)]  # fmt: skip
        cases = {
            "http, 256 px": (case, small_http),
            "http, 256 px, 2 processes": (case | both, small_http),
            "http, 256 px, JPEG only": (case, [u for u in small_http if u.endswith(".jpg")]),
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
        print(f"{ssl.OPENSSL_VERSION}, {args.runs} runs, {args.connections} connections")
        columns = ["case", "program", "CPU ms a url", "images/CPU-s", "wall s", "cores busy"]
        columns += ["images", "peak MB"]
        print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
        for name, (settings, urls) in cases.items():
            if args.cases == ["all"] or name in args.cases:
                compare(name, settings, urls, site, args)
        if args.cases == ["all"] or "quality" in args.cases:
            print_quality("small", case, small[:400], site, args)
            print_quality("photos", case, photos[:60], site, args)


if __name__ == "__main__":
    main()
