"""A run that stops in its middle until it is let go: its model embeds some lists and waits."""

import os
from pathlib import Path

from cah_dask.pairs.options import EmbedOptions
from tests import runs
from tests.encoders import HashTowers
from tests.webserver import WebServer

GATE = "CAH_TEST_GATE"
"""Environment variable: the file that lets the run go on."""

LISTS_BEFORE = 2
MODEL = f"{__name__}:Held"
LIST_URLS = 20
HOSTILE = 'A <script>alert(1)</script> & "quotes" \u202e turned \x1b[31m \x00 picture'


class Held(HashTowers):
    """Gives the vectors of `HashTowers`, but waits for the file before the third list."""

    def __init__(self, options: EmbedOptions) -> None:
        super().__init__(options)
        self._lists = 0

    def encode_images(self, images):
        gate = Path(os.environ[GATE])
        self._lists += len(images) > 1  # a check at the start gives it one
        if self._lists > LISTS_BEFORE and not runs.wait_for(gate.exists, 240):
            raise RuntimeError("nobody opened the gate")
        return super().encode_images(images)


def write(folder: Path, web: WebServer, **changes: object) -> Path:
    """Write the config of such a run over urls that end in various ways."""
    links = [
        (web.url(f"/{'404' if n % 9 == 0 else 'ok'}-{n}.jpg", f"h{n % 7}.test"), f"{HOSTILE} {n}")
        for n in range(120)
    ]
    return runs.write_config(
        folder / "run.yaml",
        inputs=runs.write_inputs(folder / "wats", links),
        port=web.port,
        model=MODEL,
        archives_per_wave=2,
        dedup={"buckets": 2, "list_urls": LIST_URLS},
        embed={"model": MODEL, "batch_size": 64},
        select={"thresholds": {"en": 0.0, "multi": 0.0, "nolang": 0.0}},
        **changes,
    )


def token(run_dir: Path) -> str:
    """Return the token of the driver at work."""
    return (run_dir / "secrets" / str(os.getuid()) / "token").read_text()


def link(run_dir: Path) -> str:
    """Return what `dashboard.txt` has a person open on this machine."""
    return (run_dir / "dashboard.txt").read_text().splitlines()[1].strip()


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of such a run, which goes on once ``folder/go`` exists."""
    return os.environ | {GATE: str(folder / "go")}
