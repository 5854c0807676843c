r"""Measure how much of its time a worker of the gpu pool has its model at work, in a real run.

    python -m benchmarks.gpu_worker --folder /scratch/gpu [--rate 1000]
    python -m benchmarks.gpu_worker --folder /scratch/gpu --model /models/mine --threads 2

Downloads drawn JPEGs of 256 px from a web on loopback into a run folder, once, and embeds their
lists: what was scored before is deleted and the same run goes on. Without --model a stand-in is
used, which takes --rate pairs a second and, like a GPU, no processor. Of the lists of the last run
it prints pairs a second, how much of the time the model was at work and waited for pictures, and
the most memory that the worker took.
"""

import argparse
import csv
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from benchmarks.embed import WORDS, photograph
from cah_dask.pairs.encoders.towers import Embeddings, Pixels, Texts
from cah_dask.pairs.options import EmbedOptions

DISTINCT = 500
"""Pictures that are drawn; several urls have the same."""

_RATE = "BENCHMARK_PAIRS_PER_S"


class StandIn:
    """Takes the time of a GPU, and no processor; half for pictures and half for texts."""

    dim = 512

    def __init__(self, options: EmbedOptions) -> None:
        del options
        self._seconds = 0.5 / float(os.environ.get(_RATE, "1000"))

    def preprocess(self, image: Image.Image) -> Pixels:
        """Return a picture as the cores leave it to a GPU."""
        return np.asarray(image)

    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        """Return the same unit vector for each picture."""
        return self._vectors(len(images))

    def encode_texts(self, texts: Sequence[str]) -> Texts:
        """Return the same unit vector for each text."""
        return Texts(self._vectors(len(texts)))

    def _vectors(self, n: int) -> Embeddings:
        time.sleep(n * self._seconds)
        return np.full((n, self.dim), self.dim**-0.5, np.float32)


class Web(ThreadingHTTPServer):
    """Answers each path ``/N.jpg`` with a drawn picture."""

    def __init__(self) -> None:
        chance = np.random.default_rng(0)
        self.pictures = [photograph(chance) for _ in range(DISTINCT)]
        super().__init__(("127.0.0.1", 0), _Answer)


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Web

    def do_GET(self) -> None:
        """Send a picture, or say that there is no such file."""
        number, _, ending = self.path[1:].partition(".")
        body = self.server.pictures[int(number) % DISTINCT] if ending == "jpg" else b""
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def write_run(folder: Path, port: int, args: argparse.Namespace) -> Path:
    """Write a table of urls and the configuration of a run over it."""
    words = random.Random(0)
    with (folder / "urls.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["url", "text"])
        for number in range(args.lists * args.list_urls):
            caption = " ".join(words.choices(WORDS.split(), k=max(1, round(words.gauss(12, 5)))))
            table.writerow([f"http://h{number % 50}.test:{port}/{number}.jpg", caption])
    tree = {
        "run_dir": str(folder / "run"),
        "inputs": [str(folder / "urls.csv")],
        "dedup": {"buckets": 1, "list_urls": args.list_urls},
        "download": {
            "crawl": "allowed",  # a web of its own, on loopback
            "contact": "benchmark@lab.example",
            "resolve": {"*.test": "127.0.0.1"},
            "allow_addresses": ["127.0.0.1/32"],
            "allow_ports": [port],
            "hosts": {"spacing_s": 0, "concurrency": 8},
        },
        "embed": {
            "model": args.model or "benchmarks.gpu_worker:StandIn",
            "batch_size": args.batch_size,
        },
        "select": {"thresholds": {"en": -1, "multi": -1, "nolang": -1}},
        "pools": {"gpu": {"workers": 1, "threads": args.threads}},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def run(config: Path, rate: float) -> None:
    """Carry a run to its end."""
    command = [sys.executable, "-m", "cah_dask", "run", str(config)]
    subprocess.run(command, check=True, env=os.environ | {_RATE: str(rate)})


def embedded(run_dir: Path, since: str) -> Iterator[dict[str, Any]]:
    """Yield the commits of embed since a time."""
    for line in (run_dir / "journal.jsonl").read_text().splitlines():
        commit = json.loads(line)
        if commit["type"] == "commit" and commit["stage"] == "embed" and commit["at"] > since:
            yield commit


def report(commits: Sequence[dict[str, Any]]) -> None:
    """Print what the model did while there were lists; loading it, in the first, does not count."""
    first, *others = sorted(commits, key=lambda commit: commit["at"])
    began, ended = (datetime.fromisoformat(each["at"]) for each in (first, others[-1]))
    seconds = (ended - began).total_seconds()
    sums = {
        key: sum(each["receipt"]["timings"].get(key, 0) for each in others) / 1000
        for key in ("model", "input")
    }
    rate = sum(each["receipt"]["counts"]["kept"] for each in others) / seconds
    shares = ", ".join(f"{key} {value / seconds:.1%}" for key, value in sums.items())
    peak = max(each["peak_mb"] for each in commits)
    print(f"{len(others)} lists in {seconds:.1f} s: {rate:,.0f} pairs/s; {shares}; {peak:,} MB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--model", help="a folder, or any other name that `embed.model` takes")
    parser.add_argument("--rate", type=float, default=1000, help="pairs/s of the stand-in")
    parser.add_argument("--lists", type=int, default=9, help="the first is not counted")
    parser.add_argument("--list-urls", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2, help="of the gpu pool")
    args = parser.parse_args()
    config, run_dir = args.folder / "run.yaml", args.folder / "run"
    if not config.exists():
        args.folder.mkdir(parents=True, exist_ok=True)
        with Web() as web:
            threading.Thread(target=web.serve_forever, daemon=True).start()
            run(write_run(args.folder, web.server_port, args), 1e9)
            web.shutdown()
    shutil.rmtree(run_dir / "scored", ignore_errors=True)
    since = datetime.now(UTC).isoformat()
    run(config, args.rate)
    report(list(embedded(run_dir, since)))


if __name__ == "__main__":
    main()
