"""Pages and pictures out of the same archives on a real Slurm: the same release as here."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import runs
from tests.hostile import picture
from tests.slurm.cluster import Cluster
from tests.slurm.launched import Run, on_slurm
from tests.warcs import response, write_warc

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]

PICTURES = 24


def write_archives(folder: Path) -> str:
    """Write archives whose pages show the pictures that they hold; return what finds them."""
    for number in range(2):
        records = []
        for n in range(number, PICTURES, 2):
            host, text = f"http://host{n % 5}.example", f"a picture of the number {n} on a wall"
            html = f"<html><body><img src='/{n}.jpg' alt='{text}'></body></html>".encode()
            records.append(response(f"{host}/{n}.html", html, {"Content-Type": "text/html"}))
            jpeg = {"Content-Type": "image/jpeg"}
            records.append(response(f"{host}/{n}.jpg", picture(seed=n), jpeg))
        write_warc(folder / f"{number}.warc.gz", records)
    return str(folder / "*.warc.gz")


def test_a_run_without_a_web_is_the_same_on_nodes_as_here(cluster: Cluster, tmp_path: Path):
    inputs = write_archives(tmp_path)

    def config(name: str, **changes: Any) -> Path:
        path = runs.write_config(tmp_path / name, inputs=inputs, port=80, **changes)
        tree = yaml.safe_load(path.read_text())
        tree["download"] = {"source": "archives", "decoders": 1}
        path.write_text(yaml.safe_dump(tree))
        return path

    here = config("here.yaml")
    assert runs.finish(here) == 0, runs.output(here)
    run = Run(cluster, config("there.yaml", **on_slurm()))
    run.submit()
    text = run.finish()
    assert (run.folder / "release").exists(), text
    assert f"index: {2 * PICTURES} captures" in runs.status(run.folder)
    assert runs.release_digests(run.folder) == runs.release_digests(here.with_suffix(""))
    lines = (run.folder / "index" / "journal.jsonl").read_text().splitlines()
    workers = {json.loads(line)["worker"].split("/")[1].split("-")[0] for line in lines}
    assert workers == {"cpu"}
