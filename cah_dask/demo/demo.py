"""The whole way on real input: a small web, its WATs, one run of the main job, and the verdict."""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from cah_dask.demo import card, text_card
from cah_dask.demo.card import read_thresholds
from cah_dask.demo.planting import plan_site
from cah_dask.demo.plants import INNER_ADDRESS, INNER_HOST, MAX_BYTES
from cah_dask.demo.server import LOOPBACK, serve
from cah_dask.demo.site import Ports, Site
from cah_dask.demo.verdict import Verdict, judge
from cah_dask.demo.warc import write_warc
from cah_dask.demo.wat import write_wat
from cah_dask.errors import ConfigError, RunError
from cah_dask.pairs.encoders.models import TINY, TINY_MULTILINGUAL
from cah_dask.schema import SPLITS, Split
from cah_dask.storage import write_atomic

SEED = 7
OTHER_SPLITS: tuple[Split, ...] = ("multi", "nolang")
"""Splits whose texts have a text tower of their own, as in LAION-5B."""
CONFIG_FILE = "demo.yaml"
ACCESS_LOG = "access.log"
_HEAD = "# Written by python -m cah_dask.demo; its web is served only while that runs.\n"


def run_demo(folder: Path, share: float = 1.0, *, warcs: bool = False) -> Verdict:
    """Serve the web, run the main job over it as a user would, and judge what it released.

    Parameters
    ----------
    folder
        Is emptied if it is that of an earlier demo.
    share
        How much of the web there is, see `planting.plan_site`.
    warcs
        Start from the pages of the web instead of the WATs that tell of them.

    Raises
    ------
    ConfigError
        If the folder holds something else.
    RunError
        If the job fails; it has said why on stderr.
    """
    _clear(folder)
    with serve(SEED, folder / ACCESS_LOG, share) as ports:
        site = plan_site(SEED, ports, share)
        config = write_inputs(folder, site, warcs=warcs)
        code = _run_job(config)
    if code:
        raise RunError(f"the job ended with exit code {code}")
    return judge(site, folder / "run", folder / ACCESS_LOG)


def _run_job(config: Path) -> int:
    """Run the job as a user would; an interrupt reaches it too, and it stops by itself."""
    job = subprocess.Popen([sys.executable, "-m", "cah_dask", "run", str(config)])
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            return job.wait()


def _clear(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        if not (folder / CONFIG_FILE).exists():
            raise ConfigError(f"{folder} is not the folder of a demo; choose another with --folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)


def write_inputs(folder: Path, site: Site, *, warcs: bool = False) -> Path:
    """Write what the job needs, archives and its configuration, and return the latter's path."""
    write_archives(folder, site, warcs=warcs)
    config = folder / CONFIG_FILE
    text = yaml.safe_dump(settings(folder, site.ports), sort_keys=False, width=100)
    write_atomic(config, f"{_HEAD}{text}".encode())
    return config


def write_archives(folder: Path, site: Site, *, warcs: bool = False) -> None:
    """Write the WATs that tell of the web's pages, or these as WARCs."""
    for number in range(site.n_archives):
        path = folder / "web" / f"demo-{number:05}.warc"
        if warcs:
            write_warc(path.with_suffix(".warc.gz"), site.archive(number))
        else:
            write_wat(path.with_suffix(".warc.wat.gz"), site.archive(number))


def thresholds() -> dict[Split, float]:
    """Return the thresholds of the demo's towers, as their model cards have them."""
    english, others = read_thresholds(card.MODEL_DIR), read_thresholds(text_card.MODEL_DIR)
    return {split: others[split] if split in OTHER_SPLITS else english[split] for split in SPLITS}


def settings(folder: Path, ports: Ports) -> dict[str, Any]:
    """Return the configuration of the demo's run: everything is near, so nothing is spaced out."""
    texts = dict.fromkeys(OTHER_SPLITS, TINY_MULTILINGUAL)
    return {
        "run_dir": str(folder / "run"),
        "inputs": [str(folder / "web" / "*.gz")],
        "archives_per_wave": 1,
        "dedup": {"buckets": 4, "list_urls": 500},
        "download": {
            "crawl": "allowed",  # a web of its own, on loopback
            "contact": "demo@demo.example",
            "resolve": {INNER_HOST: INNER_ADDRESS, "*.demo.example": LOOPBACK},
            "nameservers": [f"{LOOPBACK}:{ports.names}"],
            "allow_addresses": [f"{LOOPBACK}/32"],
            "allow_ports": [ports.web, ports.closed],
            "max_bytes": MAX_BYTES,
            "read_timeout_s": 5.0,
            "retry_delay_s": 0.5,
            "decoders": 1,
            "hosts": {
                "concurrency": 4,
                "spacing_s": 0.0,
                "max_failures": 100,
                "backoff_s": 0.5,
            },
        },
        "embed": {"encoders": {TINY: {"image": TINY, "texts": texts}}},
        "select": {"thresholds": thresholds()},
        "pack": {"rows_per_shard": 1024, "rows_per_chunk": 256},
        "pools": {"cpu": {"workers": 2}, "gpu": {"workers": 1, "threads": 1}},
    }
