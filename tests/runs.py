"""Whole runs in processes of their own, as a user starts them: start, kill, resume, compare."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.wats import image, page, write_pages

MATCH_ALL = {"en": -1.0, "multi": -1.0, "nolang": -1.0}
MODEL = "tests.encoders:HashTowers"
"""For runs that are not about models: that of a real one takes a worker seconds to import."""


def write_inputs(folder: Path, links: Sequence[tuple[str, str]], archives: int = 2) -> str:
    """Write WATs whose pages hold the (url, text) links; return a glob that finds them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(archives):
        mine = links[number::archives]
        pages = [
            page(*(image(url, text) for url, text in mine[start : start + 10]))
            for start in range(0, len(mine), 10)
        ]
        write_pages(folder / f"{number}.warc.wat.gz", *pages)
    return str(folder / "*.warc.wat.gz")


def write_config(
    path: Path, *, inputs: str, port: int, model: Path | str = MODEL, **changes: Any
) -> Path:
    """Write a config for a small run against the web server of the tests on `port`."""
    tree = {
        "run_dir": str(path.parent / path.stem),
        "inputs": [inputs],
        "archives_per_wave": 1,
        "dedup": {"buckets": 2, "list_urls": 30},
        "download": {
            "crawl": "allowed",
            "contact": "tests@lab.example",
            "resolve": {"*.test": "127.0.0.1"},
            "allow_addresses": ["127.0.0.1/32"],
            "allow_ports": [port],
            "hosts": {"spacing_s": 0},
            "retry_delay_s": 0,
            "decoders": 1,
        },
        "embed": {"model": str(model), "batch_size": 8},
        "select": {"thresholds": MATCH_ALL},
        "pack": {"rows_per_shard": 64, "rows_per_chunk": 16},
        "pools": {"cpu": {"workers": 2}, "gpu": {"workers": 1, "threads": 1}},
        **changes,
    }
    path.write_text(yaml.safe_dump(tree))
    return path


def start(
    config: Path, *, by: Sequence[str] = (), options: Sequence[str] = (), **others: Any
) -> subprocess.Popen[str]:
    """Start a run; its output goes to a file beside the config.

    `by` is a command that starts it, such as setpriv, `options` are those of `cah run`; `others`
    go to Popen.
    """
    with config.with_suffix(".out").open("a") as out:
        command = [*by, sys.executable, "-m", "cah_dask", "run", str(config), *options]
        return subprocess.Popen(command, stdout=out, stderr=out, text=True, **others)


def finish(config: Path, timeout: float = 180, **options: Any) -> int:
    """Run to the end and return the exit code; `options` go to `start`."""
    driver = start(config, **options)
    try:
        return driver.wait(timeout)
    except subprocess.TimeoutExpired:
        driver.kill()
        raise


def without_links(folder: Path) -> dict[str, str]:
    """Return an environment in which Python, as on FAT and some BeeGFS, makes no hard links."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import errno, os\n"
        "def link(*args, **options):\n"
        "    raise OSError(errno.EPERM, os.strerror(errno.EPERM))\n"
        "os.link = link\n"
    )
    return os.environ | {"PYTHONPATH": f"{folder}:{Path.cwd()}"}


def write_blindness(folder: Path, is_blind: str) -> Path:
    """Write a sitecustomize in which no archive is there for whom a function `is_blind` names."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        f"import pathlib\n{is_blind}\n"
        "see = pathlib.Path.open\n"
        "def open_(self, *args, **options):\n"
        "    if self.name.endswith('.wat.gz') and is_blind():\n"
        "        raise FileNotFoundError(2, 'not mounted here', str(self))\n"
        "    return see(self, *args, **options)\n"
        "pathlib.Path.open = open_\n"
    )
    return folder


def status(run_dir: Path) -> str:
    """Return what `cah status` says."""
    command = [sys.executable, "-m", "cah_dask", "status", str(run_dir)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def output(config: Path) -> str:
    """Return all that the runs of a config printed."""
    return config.with_suffix(".out").read_text()


def wait_for(condition: Callable[[], bool], timeout: float = 120) -> bool:
    """Wait until a condition holds; return whether it did in time."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def journal_lines(run_dir: Path) -> int:
    """Return how many commits a run has written down."""
    path = run_dir / "journal.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_commits(run_dir: Path, commits: int, driver: subprocess.Popen[str]) -> None:
    """Wait until a run has written down so many commits, or has ended."""
    wait_for(lambda: journal_lines(run_dir) >= commits or driver.poll() is not None)


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return all processes under a driver."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the Dask worker processes of a driver."""
    return [
        child
        for child in psutil.Process(process.pid).children()
        if "spawn_main" in " ".join(child.cmdline())
    ]


def release_digests(run_dir: Path) -> dict[str, str]:
    """Return the SHA-256 of every data file of a release, by path."""
    release = run_dir / "release"
    files = [*(release / "pairs").rglob("*"), *(release / "embeddings.zarr").rglob("*")]
    return {
        str(path.relative_to(release)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(files)
        if path.is_file()
    }
