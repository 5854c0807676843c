"""`cah classify` on a real Slurm: hooks of a user's own file, on nodes, the same as here."""

import contextlib
from pathlib import Path

import psutil
import pytest
import yaml

from tests import commands, runs
from tests.classify import archives
from tests.slurm.cluster import Cluster
from tests.slurm.launched import POOLS, on_slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]

MINE = """
import numpy as np
from cah_dask.classify.hooks import Scored

def read(record):
    text = record.body.decode()
    return None if text.startswith("skip") else text

class Lengths:
    names = ("length",)
    dim = 1
    def __init__(self, device, threads):
        pass
    def __call__(self, batch):
        lengths = np.array([[len(item["text"])] for item in batch], np.float32)
        return Scored(lengths, lengths)
"""


def test_hooks_of_ones_own_run_on_nodes_and_a_killed_one_changes_nothing(
    cluster: Cluster, tmp_path: Path
):
    (tmp_path / "mine.py").write_text(MINE)
    archives.write(tmp_path / "in", archives=6)
    hooks = {"read": "mine:read", "model": "mine:Lengths"}
    here = archives.write_config(tmp_path / "here.yaml", tmp_path / "in", **hooks)
    there = archives.write_config(tmp_path / "there.yaml", tmp_path / "in", **hooks)
    tree = yaml.safe_load(there.read_text())
    settings = on_slurm()
    pools = {name: settings["pools"][name] for name in POOLS if name != "io"}
    there.write_text(yaml.safe_dump({**tree, "pools": pools, "slurm": settings["slurm"]}))

    code, _, said = commands.cah("classify", here, cwd=tmp_path)
    assert code == 0, said
    process = commands.start("classify", there, cwd=tmp_path, env=cluster.env)
    (scratch,) = found(tmp_path / "there-out.classify")
    runs.wait_for_commits(scratch, 1, process)
    for victim in psutil.process_iter(["cmdline"]):
        if is_of_hooks(victim, tmp_path):
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
    answer, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert "score: " in answer
    assert archives.digests(tmp_path / "there-out") == archives.digests(tmp_path / "here-out")
    assert cluster.jobs() == []


def found(folder: Path) -> list[Path]:
    """Wait for the folder of the one job that is at work there, beside its lock."""
    runs.wait_for(lambda: len(list(folder.glob("*/"))) == 1)
    return list(folder.glob("*/"))


def is_of_hooks(process: psutil.Process, folder: Path) -> bool:
    """Tell whether a process has the hooks of this test."""
    with contextlib.suppress(psutil.Error):
        is_hook = "cah_dask.classify.hook_process" in (process.info["cmdline"] or [])
        return is_hook and process.cwd() == str(folder)
    return False
