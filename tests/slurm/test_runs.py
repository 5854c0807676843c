"""Whole runs on a real Slurm, submitted as users do: whatever happens, the same release."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cah_dask.run import slurm
from tests import runs
from tests.slurm.cluster import Cluster, wait_until
from tests.webserver import WebServer

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
LINKS = 48
POOLS = {
    "cpu": {"partition": "cpu", "time": "30", "max_jobs": 1, "processes": 2},
    "gpu": {"partition": "gpu", "time": "30", "max_jobs": 1, "gres": "gpu:1"},
    "io": {"partition": "io", "time": "30", "max_jobs": 1, "processes": 2, "memory": "500M"},
}
FAST = {"poll_s": 0.5, "idle_s": 60, "drain_s": 5, "interfaces": ["lo"], "command_timeout_s": 5}


class Run:
    """One run as a Slurm job, and what a test wants to know of it."""

    def __init__(self, cluster: Cluster, config: Path) -> None:
        self.cluster = cluster
        self.config = config
        self.folder = config.with_suffix("")
        self.log = config.with_suffix(".out")
        self.job = ""

    def submit(self, *options: str) -> None:
        command = ["sbatch", "--parsable", f"--output={self.log}", "--mem=1G", *options]
        done = subprocess.run(
            [*command, "slurm/launch.sh", str(self.config)],
            cwd=ROOT, env=self.cluster.env, capture_output=True, text=True, check=True,
        )  # fmt: skip
        self.job = done.stdout.strip()

    def finish(self, seconds: float = 150) -> str:
        """Wait until the job is over; return what it printed."""
        wait_until(lambda: not self.is_alive(), seconds, f"the run: {self.text()[-2000:]}")
        return self.text()

    def is_alive(self) -> bool:
        return any(job_id == self.job for (job_id,) in self.cluster.jobs("%A"))

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def wait_for_commits(self, stage: str, count: int = 1, seconds: float = 100) -> None:
        wait_until(lambda: self.stages()[stage] >= count, seconds, f"{stage}: {self.text()}")

    def commits(self) -> list[dict[str, Any]]:
        path = self.folder / "journal.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def stages(self) -> Counter[str]:
        return Counter(commit["stage"] for commit in self.commits())

    def workers(self, pool: str, state: str = "R") -> list[str]:
        """Ids of the pool's jobs in a state."""
        prefix = slurm.run_prefix(self.folder) + pool
        return [j for j, s, name in self.cluster.jobs() if s == state and name.startswith(prefix)]

    def driver(self) -> psutil.Process:
        """The Python process of the driver."""
        processes = self.cluster.job_processes(self.job)
        (found,) = [p for p in processes if "cah_dask" in p.cmdline() and "run" in p.cmdline()]
        return found


@pytest.fixture(scope="module")
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture(scope="module")
def inputs(web: WebServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    kinds = {0: "404", 1: "slow"}
    links = [
        (
            web.url(f"/{kinds.get(n % 12, 'ok')}-{n}.jpg", host=f"h{n % 9}.test"),
            f"A photograph of thing number {n}",
        )
        for n in range(LINKS)
    ]
    return runs.write_inputs(tmp_path_factory.mktemp("inputs"), links)


@pytest.fixture(scope="module")
def make_config(inputs: str, web: WebServer, random_model: Path):
    def make_config(folder: Path, **changes: Any) -> Path:
        options = {"inputs": inputs, "model": random_model, "port": web.port, **changes}
        return runs.write_config(folder / "run.yaml", **options)

    return make_config


@pytest.fixture(scope="module")
def local(make_config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the same run without Slurm."""
    config = make_config(tmp_path_factory.mktemp("local"))
    assert runs.finish(config) == 0, runs.output(config)
    return config.with_suffix("")


@pytest.fixture
def start(cluster: Cluster, make_config, tmp_path: Path):
    """Submit a run; `pools` changes options of pools, `slurm` those of Slurm."""

    def start(
        pools: dict[str, dict[str, Any]] | None = None,
        options: dict[str, Any] | None = None,
        sbatch: tuple[str, ...] = (),
    ) -> Run:
        merged = {name: {**POOLS[name], **(pools or {}).get(name, {})} for name in POOLS}
        config = make_config(tmp_path, pools=merged, slurm={**FAST, **(options or {})})
        run = Run(cluster, config)
        run.submit(*sbatch)
        return run

    return start


def assert_same(run: Run, local: Path) -> None:
    """The release is that of the local run, byte for byte; every unit was committed once."""
    text = run.finish()
    assert (run.folder / "release").exists(), text
    assert runs.release_digests(run.folder) == runs.release_digests(local)
    units = Counter((commit["stage"], commit["unit"]) for commit in run.commits())
    assert set(units.values()) == {1}
    assert run.cluster.jobs() == []


def test_a_run_on_slurm_publishes_what_a_local_run_does_each_task_on_its_pool(start, local: Path):
    run = start()
    assert_same(run, local)
    places = {(c["stage"], c["worker"].split("/")[1].split("-")[0]) for c in run.commits()}
    assert places == {
        ("extract", "cpu"), ("dedup", "cpu"), ("download", "io"), ("embed", "gpu"), ("pack", "cpu"),
    }  # fmt: skip
    assert "ssh -N -L 8787:127.0.0.1:" in run.text()
    assert (run.folder / "secrets" / "token").read_text() not in run.text()
