"""The README's page "On a Slurm cluster", as a newcomer types it."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, build_opener, urlopen

import msgspec
import pytest
import yaml

from cah_dask.demo.demo import settings
from cah_dask.demo.slurm import FOLDER, PORTS
from cah_dask.run.watch.figures import Figures
from tests.browser.chromium import missing
from tests.browser.watching import Seen, assert_shown, watch_to_the_end
from tests.run.watch.agreement import InFiles
from tests.runs import release_digests
from tests.slurm.cluster import Cluster, wait_until

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "demo-slurm.yaml"


def test_the_demo_on_slurm_is_the_demo():
    shipped, local = yaml.safe_load(CONFIG.read_text()), settings(FOLDER, PORTS)
    for key in ("pools", "slurm"):
        shipped.pop(key, None)
        local.pop(key, None)
    assert shipped == local


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like a fresh clone with an environment."""
    for name in ("slurm", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


@pytest.mark.slurm
@pytest.mark.timeout(400)
def test_a_newcomer_gets_from_the_clone_to_the_release(
    cluster: Cluster, checkout: Path, tmp_path: Path
):
    def shell(command: str) -> str:
        activated = f". .venv/bin/activate && {command}"
        done = subprocess.run(
            ["bash", "-c", activated], cwd=checkout, env={**cluster.env, "COLUMNS": "200"},
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    shell("python -m cah_dask.demo.slurm prepare --share 0.1")
    assert "pool io: up to 1 jobs in io" in shell("cah plan configs/demo-slurm.yaml")
    said = shell("sbatch slurm/launch.sh configs/demo-slurm.yaml --set slurm.interfaces=[lo]")
    job = said.split()[-1]
    log = checkout / f"cah-driver-{job}.out"
    run = checkout / "runs" / "demo-slurm" / "run"
    wait_until((run / "dashboard.txt").exists, 100, "the dashboard")
    way = (run / "dashboard.txt").read_text()
    tunnel = re.search(r"ssh -N -L 8787:127\.0\.0\.1:\d+ .+", way)
    assert tunnel is not None
    wait_until(lambda: tunnel[0] in log.read_text(), 20, "the way to the dashboard")
    link = re.search(r"http://127\.0\.0\.1:\d+/cah\?token=\S+", way)
    assert link is not None
    with pytest.raises(HTTPError, match="401"):
        urlopen(link[0].partition("?")[0], timeout=30)
    browser = build_opener(HTTPCookieProcessor())
    with browser.open(link[0], timeout=30) as page:
        assert b"Dask" in page.read()
    seen = None if missing() else watch_to_the_end(link[0], tmp_path / "profile", 240)
    wait_until(lambda: not cluster.jobs(), 240, f"the run: {log.read_text()}")
    assert (run / "release").exists(), log.read_text()
    if seen is not None:
        assert_all_agree(run, seen, shell("cah status runs/demo-slurm/run --json"))
    assert "precision" in shell("python -m cah_dask.demo.slurm judge")
    assert "release: " in shell("cah status runs/demo-slurm/run")
    assert os.access(run / "release" / "report.html", os.R_OK)
    sound = shell(
        "cah verify runs/demo-slurm/run/release --config configs/demo-slurm.yaml "
        "--set slurm.interfaces=[lo]"
    )
    assert "sound: " in sound
    assert "pool cpu" not in sound
    shell(  # the same run without Slurm; the last bit of a vector depends on the threads
        "bash -c 'python -m cah_dask.demo.slurm serve || exit 1; exec cah run "
        "configs/demo-slurm.yaml --set pools={} --set pools.gpu.threads=1 "
        "--set run_dir=runs/demo-slurm/local'"
    )
    assert release_digests(run) == release_digests(run.with_name("local"))


def assert_all_agree(run: Path, seen: Seen, status: str) -> None:
    """Compare what was seen from the begin to the end, and what is told now, with the files."""
    files = InFiles(run)
    first, last = seen.figures[0], seen.figures[-1]
    files.agrees_with(last)
    files.agrees_with(msgspec.json.decode(status, type=Figures))
    files.agrees_with_report((run / "release" / "report.html").read_text())
    assert_shown(seen.text, run)
    assert seen.complaints == []
    for stage in last.stages:
        for what, number in (("seen", stage.seen), ("kept", stage.kept)):
            line = f'cah_rows{{stage="{stage.name}",what="{what}"}} {float(number)}'
            assert line in seen.metrics.splitlines()
    assert sum(stage.done for stage in first.stages) < sum(stage.done for stage in last.stages)
    for name in {stage.name for stage in last.stages}:
        done = [stage.done for each in seen.figures for stage in each.stages if stage.name == name]
        assert done == sorted(done), name
    for pools in ({pool.name: pool for pool in each.pools} for each in seen.figures):
        assert set(pools) == {"cpu", "io", "gpu"}
        assert all(pool.is_slurm for pool in pools.values())
        assert all(pool.pending + pool.running <= pool.most for pool in pools.values())
    for name in ("cpu", "io", "gpu"):
        workers = [
            pool.workers for each in seen.figures for pool in each.pools if pool.name == name
        ]
        assert max(workers) > 0, name
